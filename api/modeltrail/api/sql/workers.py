"""The server's side of the processes that run queries without known bounds.

A worker has no access to the fold's database. It reports what a query reads, as columns and simple
conditions; this side reads that in one transaction and sends it as Arrow; the worker runs the query
over it and sends the answer. Whatever the query does, killing the process ends it.
"""

from __future__ import annotations

import io
import json
import os
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import threading
from collections.abc import Generator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, Final, NamedTuple

import duckdb

from modeltrail.api.errors import InvalidRequest, Unavailable
from modeltrail.api.sql.formats import batch_rows
from modeltrail.api.sql.limits import Question, refusal, too_large
from modeltrail.consumers.public import NARROW_VIEWS, Relation, macros

# Kinds of frames: to the worker, and from it.
SETUP, QUESTION = b"S", b"Q"
NEEDED, LOADED, PIECE, DONE, ERROR = b"N", b"L", b"P", b"D", b"E"

_HEAD: Final = struct.Struct(">cI")
_QUESTIONS_MAX: Final = 200
"""A worker is replaced after this many queries, so that nothing grows forever."""
_SPILL_BYTES_MAX: Final = 2 * 1024**3
SPILL_PREFIX: Final = "modeltrail-sql-"

OPERATORS: Final = {
    "COMPARE_EQUAL": "=",
    "COMPARE_NOTEQUAL": "<>",
    "COMPARE_LESSTHAN": "<",
    "COMPARE_GREATERTHAN": ">",
    "COMPARE_LESSTHANOREQUALTO": "<=",
    "COMPARE_GREATERTHANOREQUALTO": ">=",
    "IS_NULL": "IS NULL",
    "IS_NOT_NULL": "IS NOT NULL",
    "IN": "IN",
}
"""Conditions that this side applies for a worker, by DuckDB's names."""


def file_of(channel: socket.socket, mode: str) -> IO[bytes]:
    """Return one direction of a channel as a file."""
    return open(channel.fileno(), mode, 256 * 1024, closefd=False)


def send(file: IO[bytes], kind: bytes, payload: bytes) -> None:
    """Send one frame."""
    file.write(_HEAD.pack(kind, len(payload)))
    file.write(payload)
    file.flush()


def receive(file: IO[bytes]) -> tuple[bytes, bytes] | None:
    """Return the next frame, or None at the end."""
    head = file.read(_HEAD.size)
    if len(head) < _HEAD.size:
        return None
    kind, size = _HEAD.unpack(head)
    payload = file.read(size)
    return (kind, payload) if len(payload) == size else None


class Declined(InvalidRequest):
    """The worker does not accept the query, and is ready for another."""


class Setup(NamedTuple):
    """The parameters of a worker."""

    relations: list[Relation]
    memory_bytes: int
    threads: int
    spill: Path | None
    """Folder for what does not fit into memory; None for the system's."""


class Worker:
    """A worker process."""

    def __init__(self, setup: Setup) -> None:
        self._spill = Path(tempfile.mkdtemp(prefix=SPILL_PREFIX, dir=setup.spill))
        here, there = socket.socketpair()
        with there:
            # Pass no environment, which may contain passwords. Use one pool of memory: more pools
            # reserve much more address space than they use, and address space is what is limited.
            environment = {
                "ARROW_DEFAULT_MEMORY_POOL": "system",
                "MALLOC_ARENA_MAX": "2",
                "LC_ALL": "C.UTF-8",
                **{k: v for k, v in os.environ.items() if k in ("LD_LIBRARY_PATH", "PYTHONPATH")},
            }
            self._process = subprocess.Popen(
                [sys.executable, "-m", "modeltrail.api.sql.worker", str(there.fileno())],
                pass_fds=(there.fileno(),),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env=environment,
                cwd="/",
            )
        self._socket = here
        self._in = file_of(here, "rb")
        self._out = file_of(here, "wb")
        self.questions = 0
        self.pid = self._process.pid
        message = {
            "relations": [(r.schema, r.name, dict(r.columns), r.admin) for r in setup.relations],
            "macros": macros(),
            "memory_bytes": setup.memory_bytes,
            "threads": setup.threads,
            "spill": str(self._spill),
            "spill_bytes_max": _SPILL_BYTES_MAX,
            "parent": os.getpid(),
        }
        with suppress(OSError):
            send(self._out, SETUP, json.dumps(message).encode())

    def kill(self) -> None:
        """Kill the process. Threads that wait for it get an error."""
        self._process.kill()

    def close(self) -> None:
        """Kill the process and clean up."""
        self.kill()
        self._process.wait()
        for each in (self._in, self._out, self._socket):
            with suppress(OSError):
                each.close()
        shutil.rmtree(self._spill, ignore_errors=True)

    def answer(
        self,
        cursor: duckdb.DuckDBPyConnection,
        question: Question,
        relations: Mapping[tuple[str, str], Relation],
    ) -> Generator[bytes]:
        """Run a query and yield its answer in pieces.

        Args:
            cursor: A cursor of the fold, for this query alone.
            question: The query.
            relations: All relations that may be read, by schema and name.

        Raises:
            InvalidRequest: DuckDB does not accept it, or it needs too much memory.
        """
        self.questions += 1
        try:
            send(self._out, QUESTION, json.dumps(question._asdict()).encode())
            yield from self._pieces(cursor, question, relations)
        except (duckdb.Error, ValueError, TypeError) as error:
            raise refusal(error) from None
        except OSError:
            raise too_large() from None  # the process is gone
        finally:
            with suppress(duckdb.Error):
                cursor.execute("ROLLBACK")

    def _pieces(
        self,
        cursor: duckdb.DuckDBPyConnection,
        question: Question,
        relations: Mapping[tuple[str, str], Relation],
    ) -> Generator[bytes]:
        reading = False
        while True:
            frame = receive(self._in)
            if frame is None:
                raise too_large()
            kind, payload = frame
            if kind == PIECE:
                yield payload
            elif kind == DONE:
                return
            elif kind == NEEDED:
                if not reading:
                    cursor.execute("BEGIN TRANSACTION READ ONLY")
                    reading = True
                needed = json.loads(payload)
                relation = relations[needed["schema"], needed["name"]]
                if relation.admin and not question.admin:
                    raise InvalidRequest(f"{relation.name} is for administrators")
                self._feed(cursor, relation, needed["columns"], needed["conditions"])
            elif kind == LOADED:
                if reading:
                    # a long query must not keep old versions of rows alive
                    cursor.execute("ROLLBACK")
                reading = False
            else:
                found = json.loads(payload)
                if found["memory"]:
                    raise too_large()  # the process is not used again
                raise Declined(found["message"], code=found["code"])

    def _feed(
        self,
        cursor: duckdb.DuckDBPyConnection,
        relation: Relation,
        columns: list[str],
        conditions: list[list[tuple[str, str, list[Any]]]],
    ) -> None:
        """Send columns of the rows that match all conditions of at least one list."""
        import pyarrow as pa

        params: list[Any] = []
        cases = []
        for case in conditions:
            terms = []
            for column, operator, values in case:
                marks = (
                    f"({', '.join('?' * len(values))})"
                    if operator == "IN"
                    else ("?" if values else "")
                )
                terms.append(f"{_name(relation, column)} {OPERATORS[operator]} {marks}")
                params += values
            cases.append(f"({' AND '.join(terms)})")
        where = f" WHERE {' OR '.join(cases)}" if cases else ""
        names = ", ".join(_name(relation, column) for column in columns)
        found = cursor.sql(f"SELECT {names} FROM ({relation.query}){where}", params=params or None)
        types = [str(t) for t in found.types]
        narrow = relation.schema == "main" and relation.name in NARROW_VIEWS
        reader = found.to_arrow_reader(batch_rows(types, narrow=narrow))
        with pa.ipc.new_stream(Unclosed(self._out), reader.schema) as writer:
            for batch in reader:
                writer.write_batch(batch)
        self._out.flush()


def _name(relation: Relation, column: str) -> str:
    if column not in relation.columns:
        raise ValueError(f"{relation.name} has no column {column}")
    return f'"{column}"'


class Unclosed(io.RawIOBase):
    """A file for Arrow to use, which it leaves open."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file

    def write(self, data: Any) -> int:
        return self._file.write(data)

    def read(self, size: int = -1) -> bytes:
        return self._file.read(size)

    def readable(self) -> bool:
        return True

    def writable(self) -> bool:
        return True


class Workers:
    """Starts workers, and keeps an idle one ready for the next query."""

    def __init__(self, setup: Setup) -> None:
        self._setup = setup
        self._idle: list[Worker] = []
        self._alive: set[Worker] = set()
        self._lock = threading.Lock()
        self._closed = False

    def take(self) -> Worker:
        """Return a worker for one query; give it back afterwards."""
        with self._lock:
            if self._idle:
                return self._idle.pop()
            if self._closed:
                raise Unavailable("the server is stopping")
            worker = Worker(self._setup)
            self._alive.add(worker)
            return worker

    def warm(self) -> None:
        """Have a worker ready."""
        with self._lock:
            if self._idle or self._closed:
                return
        self.give_back(self.take())

    def give_back(self, worker: Worker, *, usable: bool = True) -> None:
        """Keep a worker for another query, or kill it."""
        with self._lock:
            keep = usable and not (self._closed or self._idle)
            if keep and worker.questions < _QUESTIONS_MAX:
                self._idle.append(worker)
                return
            self._alive.discard(worker)
        worker.close()

    def close(self) -> None:
        """Kill all workers. Those at work are cleaned up when they are given back."""
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
            self._alive -= set(idle)
            for worker in self._alive:
                worker.kill()
        for worker in idle:
            worker.close()
