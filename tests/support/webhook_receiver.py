"""An endpoint for webhooks on loopback, which says what it is told to and keeps what it gets."""

from __future__ import annotations

import json
import ssl
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple


class Got(NamedTuple):
    """A delivery as it came in."""

    headers: dict[str, str]
    """By name in lower case."""
    body: bytes

    @property
    def delivery_id(self) -> str:
        return self.headers["x-mlflow-delivery-id"]

    @property
    def content(self) -> dict[str, Any]:
        content: dict[str, Any] = json.loads(self.body)
        return content

    @property
    def event(self) -> str:
        return f"{self.content['entity']}.{self.content['action']}"

    @property
    def data(self) -> dict[str, Any]:
        data: dict[str, Any] = self.content["data"]
        return data


class Reply(NamedTuple):
    status: int
    headers: dict[str, str] = {}  # noqa: RUF012
    body: bytes = b""


class Receiver:
    """Answers 200, unless ``reply``, given what came and how many came before, says else."""

    def __init__(
        self,
        reply: Callable[[Got, int], Reply] = lambda got, n: Reply(200),
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.got: list[Got] = []
        self.reply = reply
        self._came = threading.Condition()
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                got = Got({k.lower(): v for k, v in self.headers.items()}, body)
                with receiver._came:
                    receiver.got.append(got)
                    n = len(receiver.got) - 1
                    receiver._came.notify_all()
                reply = receiver.reply(got, n)
                self.send_response(reply.status)
                for name, value in reply.headers.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(reply.body)

            def log_message(self, *_: Any) -> None:
                pass

        class Quiet(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *_: Any) -> None:
                """A sender that was killed or lost patience is nothing to tell of."""

        self._server = Quiet(("127.0.0.1", 0), Handler)
        if tls is not None:
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True)
        self.port = self._server.server_port
        self.url = f"http://127.0.0.1:{self.port}/hook?room=models"
        self._thread = threading.Thread(target=self._server.serve_forever, args=[0.02])
        self._thread.start()

    def wait(self, n: int, timeout_s: float = 10.0) -> list[Got]:
        """The deliveries, once there are n of them."""
        with self._came:
            self._came.wait_for(lambda: len(self.got) >= n, timeout_s)
            assert len(self.got) >= n, [g.event for g in self.got]
            return list(self.got)

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def __enter__(self) -> Receiver:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def eventually(true: Callable[[], Any], timeout_s: float = 10.0) -> Any:
    """What the function gives, once that is something."""
    deadline = time.monotonic() + timeout_s
    while not (found := true()):
        assert time.monotonic() < deadline, "it did not come true"
        time.sleep(0.005)
    return found
