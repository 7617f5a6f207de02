"""A server that answers at once and does nothing, to learn what clients cost."""

from __future__ import annotations

import asyncio
import json
import multiprocessing
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from urllib.parse import parse_qs, urlsplit

_RUN = {
    "run": {
        "info": {"run_id": "0" * 32, "run_uuid": "0" * 32, "experiment_id": "0",
                 "status": "RUNNING", "start_time": 1, "lifecycle_stage": "active"},
        "data": {},
    }
}  # fmt: skip


def _answer(body: bytes) -> bytes:
    head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n"
    return head.encode() + b"\r\n" + body


# A page of a history, but for its end; steps differ, as parsing them takes time.
_PAGE_POINTS = 25_000
_PAGE = json.dumps(
    {
        "metrics": [
            {"key": "long", "value": 1 / (n + 3), "timestamp": 1_700_000_000_000 + n, "step": n}
            for n in range(_PAGE_POINTS)
        ]
    }
).encode()[:-1]


def _history(head: bytes) -> bytes:
    """The next page of a history of as many points as the run's id says."""
    fields = parse_qs(urlsplit(head.split(b" ")[1].decode()).query)
    told = int(fields.get("page_token", ["0"])[0]) + _PAGE_POINTS
    token = b', "next_page_token": "%d"}' % told if told < int(fields["run_id"][0]) else b"}"
    return _answer(_PAGE + token)


_CREATED = _answer(json.dumps(_RUN).encode())
_DONE = _answer(b"{}")


class _Null(asyncio.Protocol):
    """Takes a request, looks only for its length and what few paths ask."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._taken = bytearray()

    def data_received(self, data: bytes) -> None:
        self._taken += data
        end = self._taken.find(b"\r\n\r\n")
        if end < 0:
            return
        head = bytes(self._taken[:end]).lower()
        length = 0
        if b"content-length:" in head:
            length = int(head.split(b"content-length:")[1].split(b"\r\n")[0])
        if len(self._taken) >= end + 4 + length:
            self._taken.clear()
            if b"metrics/get-history" in head:
                self._transport.write(_history(head))
            else:
                self._transport.write(_CREATED if b"runs/create" in head else _DONE)


def _serve(ready: Connection) -> None:
    async def run() -> None:
        server = await asyncio.get_running_loop().create_server(_Null, "127.0.0.1", 0)
        ready.send(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    asyncio.run(run())


@contextmanager
def null_server() -> Iterator[str]:
    """The URL of a server in a process of its own."""
    here, there = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=_serve, args=(there,))
    process.start()
    try:
        yield f"http://127.0.0.1:{here.recv()}"
    finally:
        process.kill()
        process.join()
