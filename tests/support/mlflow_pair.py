"""The same calls to MLflow's own server and to ours, and what differs between the answers.

Calls name what a server gives an id to by its place: ``<run:0>`` is the first run that the calls
made, ``<exp:1>`` the second experiment, ``<model:0>`` the first logged model. ``<x>`` is a word of
the sequence's own, so that sequences on one server do not meet.
"""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote, urlencode, urlsplit

_MARK = re.compile(r"<(run|exp|model):(\d+)>")
_SOON_MS = 3_600_000
_MADE_UP = re.compile(r"[a-z]+-[a-z]+-\d{1,4}")  # up to and with 1000
_TIMES = frozenset(
    {
        "creation_time",
        "last_update_time",
        "creation_timestamp",
        "last_updated_timestamp",
        "creation_timestamp_ms",
        "last_updated_timestamp_ms",
        "start_time",
    }
)
_UNORDERED = frozenset(
    {"tags", "params", "aliases", "dataset_inputs", "model_inputs", "model_outputs"}
)


class Call(NamedTuple):
    """A request; fields go into the query of a GET, else into the body."""

    method: str
    path: str
    fields: Mapping[str, Any] = {}

    def __repr__(self) -> str:
        return f"Call({self.method!r}, {self.path!r}, {dict(self.fields)!r})"


class Answer(NamedTuple):
    """What came back, with all that must differ between servers replaced."""

    status: int
    body: Any

    @property
    def code(self) -> str | None:
        """The error code."""
        return self.body.get("error_code") if isinstance(self.body, dict) else None


class MlflowServer:
    """MLflow's own tracking server, on SQLite in a folder, on a free port."""

    def __init__(self, python: str, folder: Path) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        clean = {k: v for k, v in os.environ.items() if not k.startswith(("MLFLOW_", "MODELTRAIL"))}
        self._log = folder / "server.log"
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [
                    *(python, "-m", "mlflow", "server", "--workers", "1"),
                    *("--backend-store-uri", f"sqlite:///{folder}/store.sqlite"),
                    *("--artifacts-destination", str(folder / "artifacts")),
                    *("--host", "127.0.0.1", "--port", str(port)),
                ],
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=folder,
                start_new_session=True,  # it starts processes of its own
                env={
                    **clean,
                    "MLFLOW_DISABLE_TELEMETRY": "true",
                    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
                },
            )

    def ready(self, timeout_s: float = 90.0) -> None:
        """Wait until it answers."""
        end = time.monotonic() + timeout_s
        while time.monotonic() < end:
            assert self._process.poll() is None, self._log.read_text()
            try:
                with socket.create_connection(
                    (urlsplit(self.url).hostname, urlsplit(self.url).port)
                ):
                    return
            except OSError:
                time.sleep(0.1)
        raise AssertionError(f"not ready within {timeout_s} s:\n{self._log.read_text()}")

    def stop(self) -> None:
        """End it and what it started."""
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()


@dataclass
class Side:
    """One of the two servers, and the ids that it gave in this sequence of calls."""

    url: str
    ids: dict[str, list[str]] = field(default_factory=dict)
    deleted: set[Any] = field(default_factory=set)
    """Runs that were deleted on their own."""
    _connection: http.client.HTTPConnection | None = None

    def begin(self) -> None:
        """Begin a sequence."""
        self.ids = {"run": [], "exp": [], "model": []}
        self.deleted = set()

    def close(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            self._connection.close()

    def send(self, call: Call, word: str) -> tuple[int, Any]:
        """Status and JSON (or text) of the answer."""
        path = self._actual(call.path, word, quoted=True)
        if not path.startswith("/"):
            path = f"/api/2.0/mlflow/{path}"
        fields = self._actual(dict(call.fields), word)
        body, headers = None, {}
        if call.method == "GET":
            path += "?" + urlencode({k: _query(v) for k, v in fields.items()}, doseq=True)
        else:
            body = json.dumps(fields).encode()
            headers["Content-Type"] = "application/json"
        parts = urlsplit(self.url)
        for attempt in range(2):
            if self._connection is None:
                self._connection = http.client.HTTPConnection(parts.netloc, timeout=60)
            try:
                self._connection.request(call.method, path, body, headers)
                answer = self._connection.getresponse()
                data = answer.read()
                break
            except (http.client.HTTPException, OSError):
                self._connection.close()
                self._connection = None
                if attempt:
                    raise
        try:
            return answer.status, json.loads(data)
        except ValueError:
            return answer.status, data.decode("utf-8", "replace")

    def _actual(self, value: Any, word: str, *, quoted: bool = False) -> Any:
        if isinstance(value, str):

            def known(match: re.Match[str]) -> str:
                ids = self.ids[match[1]]
                return ids[int(match[2]) % len(ids)] if ids else "0" * 32

            text = _MARK.sub(known, value.replace("<x>", word))
            return quote(text, safe="/") if quoted else text
        if isinstance(value, list):
            return [self._actual(one, word) for one in value]
        if isinstance(value, dict):
            return {self._actual(k, word): self._actual(v, word) for k, v in value.items()}
        return value

    def learn(self, call: Call, status: int, body: Any) -> None:
        """Keep the id of what a call made."""
        if status != 200 or call.method != "POST":
            return
        run = self._actual(call.fields.get("run_id", ""), "")
        if call.path == "runs/delete":
            self.deleted.add(run)
        elif call.path == "runs/restore":
            self.deleted.discard(run)
        if call.path == "runs/create":
            self.ids["run"].append(body["run"]["info"]["run_id"])
        elif call.path == "experiments/create":
            self.ids["exp"].append(body["experiment_id"])
        elif call.path == "logged-models":
            self.ids["model"].append(body["model"]["info"]["model_id"])

    def normal(self, body: Any) -> Any:
        """An answer without what must differ."""
        marks = {
            actual: f"<{kind}:{n}>"
            for kind in ("run", "model", "exp")
            for n, actual in enumerate(self.ids[kind])
        }
        long = sorted((one for one in marks if len(one) > 8), key=len, reverse=True)
        now_ms = time.time() * 1000

        def of(value: Any, name: str = "", within: str = "") -> Any:
            if isinstance(value, dict):
                found = {k: of(v, k, name) for k, v in value.items()}
                if found.get("key") == "mlflow.runName":
                    found["value"] = of(found.get("value", ""), "run_name")
                return {k: v for k, v in found.items() if v not in ({}, [])}
            if isinstance(value, list):
                listed = [of(one) for one in value]
                if name in _UNORDERED or (name == "metrics" and within == "data"):
                    listed.sort(key=lambda one: json.dumps(one, sort_keys=True))
                return listed
            if name in _TIMES and isinstance(value, int) and abs(now_ms - value) < _SOON_MS:
                return "<now>"
            if not isinstance(value, str):
                return value
            if name == "experiment_id":
                return marks.get(value, value)
            if name in ("run_name", "name") and _MADE_UP.fullmatch(value):
                return "<made up>"
            if name == "next_page_token":
                return "<token>" if value else None
            if name in ("artifact_uri", "artifact_location"):
                for n, one in enumerate(self.ids["exp"]):
                    value = re.sub(rf"mlflow-artifacts:/{one}(?=/|$)", f"<root:{n}>", value)
            for one in long:
                value = value.replace(one, marks[one])
            return value

        return of(body)


class Difference(NamedTuple):
    """A call that the two servers answer differently."""

    call: Call
    theirs: Answer
    ours: Answer

    @property
    def fields(self) -> list[tuple[str, Any, Any]]:
        """Where two answers with status 200 differ: path, MLflow's value, ours; None for none."""
        return list(_fields(self.theirs.body, self.ours.body))

    def __str__(self) -> str:
        def short(answer: Answer) -> str:
            text = json.dumps(answer.body, sort_keys=True, indent=1)
            return f"{answer.status} {text if len(text) < 4_000 else text[:4_000] + '...'}"

        return f"{self.call}\nMLflow: {short(self.theirs)}\nours:   {short(self.ours)}"


class Pair:
    """Both servers, asked the same."""

    def __init__(self, reference: str, ours: str) -> None:
        self.theirs, self.ours = Side(reference), Side(ours)
        self._sequences = 0
        self.calls = 0
        self.word = ""
        self._made_up = False

    def close(self) -> None:
        """Close the connections."""
        self.theirs.close()
        self.ours.close()

    def begin(self) -> None:
        """Begin a sequence of calls."""
        self._sequences += 1
        self.word = f"x{os.getpid()}q{self._sequences}z"
        self.theirs.begin()
        self.ours.begin()
        self._made_up = False

    def by_chance(self, call: Call) -> bool:
        """Whether a search's answer depends on ids and names that each server makes up."""
        order, filter = str(call.fields.get("order_by")), str(call.fields.get("filter"))
        return call.path.endswith("/search") and (
            re.search("run_id|artifact_uri", order) is not None
            or (self._made_up and "name" in order + filter)
        )

    def ask(self, call: Call) -> Difference:
        """Send a call to both; the answers may be the same."""
        return Difference(call, *(self._ask(side, call)[0] for side in (self.theirs, self.ours)))

    def _ask(self, side: Side, call: Call) -> tuple[Answer, Any]:
        self.calls += 1
        status, body = side.send(call, self.word)
        side.learn(call, status, body)
        if status == 200:
            answer = Answer(status, side.normal(body))
            self._made_up |= "<made up>" in str(answer.body)
            return answer, body
        code = body.get("error_code") if isinstance(body, dict) else None
        message = side.normal(body.get("message") if isinstance(body, dict) else body)
        return Answer(status, {"error_code": code, "message": message}), body

    def pages(self, call: Call, pages_max: int = 30) -> Difference:
        """Walk a search by each server's own tokens, to its end or the first page that differs."""
        tokens: list[str | None] = [None, None]
        for _ in range(pages_max):
            answers = []
            for n, side in enumerate((self.theirs, self.ours)):
                more = {"page_token": tokens[n]} if tokens[n] else {}
                answer, body = self._ask(side, call._replace(fields={**call.fields, **more}))
                tokens[n] = body.get("next_page_token") if answer.status == 200 else None
                answers.append(answer)
            found = Difference(call, *answers)
            if differ(found) or not tokens[0]:
                return found
        raise AssertionError(f"{call}: more than {pages_max} pages")


def differ(found: Difference) -> bool:
    """Whether the answers differ, in status, error code or any field."""
    theirs, ours = found.theirs, found.ours
    if theirs.status != 200 or ours.status != 200:
        return (theirs.status, theirs.code) != (ours.status, ours.code)
    return bool(theirs.body != ours.body)


def same_words(found: Difference) -> bool:
    """Whether our refusal begins as MLflow's does: with its first sentence, or 60 characters of it.

    Numbers may differ, as ids of experiments do.
    """
    theirs, ours = (
        re.sub(r"<[a-z]+:\d+>|-?\d+", "#", str(answer.body.get("message", "")))
        for answer in (found.theirs, found.ours)
    )
    return ours.startswith(re.split(r"(?<=[.:;])\s|\n", theirs)[0][:60].rstrip(". "))


def _fields(theirs: Any, ours: Any, path: str = "") -> Iterator[tuple[str, Any, Any]]:
    if isinstance(theirs, dict) and isinstance(ours, dict):
        for name in sorted(set(theirs) | set(ours)):
            below = f"{path}.{name}" if path else name
            yield from _fields(theirs.get(name), ours.get(name), below)
    elif isinstance(theirs, list) and isinstance(ours, list) and len(theirs) == len(ours):
        for one, other in zip(theirs, ours, strict=True):
            yield from _fields(one, other, path + "[]")
    elif theirs != ours or type(theirs) is not type(ours):
        yield path, theirs, ours


def _query(value: Any) -> Any:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_query(one) for one in value]
    if isinstance(value, dict):
        return json.dumps(value)
    return "" if value is None else str(value)
