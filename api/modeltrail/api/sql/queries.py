"""Run queries, a few at a time: harmless ones here, all others in a separate process."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Callable, Generator, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final, NamedTuple

import duckdb

from modeltrail.api.errors import Unavailable
from modeltrail.api.gates import Gate
from modeltrail.api.sql import fast
from modeltrail.api.sql.formats import has_fixed_size, pieces, result_of
from modeltrail.api.sql.limits import ROWS_MAX, TIMEOUT_S, Params, Question, refusal, too_late
from modeltrail.api.sql.text import bare
from modeltrail.api.sql.workers import SPILL_PREFIX, Declined, Setup, Worker, Workers
from modeltrail.consumers import public

_MIB: Final = 1024**2
_FAST_AT_ONCE: Final = 3
_NICENESS: Final = 10
_WAITING_MAX: Final = 256
_WAIT_S: Final = 10.0
_AGAIN_S: Final = 0.05


class Shares(NamedTuple):
    """How memory is divided."""

    database: int
    """For the fold's database and the queries in it, in bytes."""
    worker: int
    """For the database of each worker, in bytes."""
    workers: int
    """How many workers run at once."""


def shares(total: int) -> Shares:
    """Divide a server's memory, in bytes, so that everything together stays within it.

    Memory outside DuckDB's databases (programs, buffers, each worker's slack) takes less than 512
    MiB more.
    """
    workers = 1 if total < 1_000_000_000 else 2
    worker = max(64 * _MIB, min(total // 8, 4096 * _MIB))
    database = total - workers * worker - (200 * _MIB if workers > 1 else 0)
    return Shares(max(database, total // 2), worker, workers)


class Stopped(Exception):
    """The query was stopped."""


class Running:
    """A running query. One thread reads its answer; any thread may stop it."""

    def __init__(self, answer: Generator[bytes], stop: Callable[[], None]) -> None:
        """Wrap the pieces of an answer, and the function that makes them end soon."""
        self._answer = answer
        self._stop = stop
        self.stopped = threading.Event()

    def next(self) -> bytes | None:
        """Return the next piece, or None after the last.

        Raises:
            ApiError: the query is refused.
            Stopped: it was stopped.
        """
        try:
            piece = None if self.stopped.is_set() else next(self._answer, None)
        except Exception:
            if not self.stopped.is_set():
                raise
        if self.stopped.is_set():
            raise Stopped
        return piece

    def stop(self) -> None:
        """Make ``next`` raise soon. Call it until it does: DuckDB may be about to begin."""
        self.stopped.set()
        with suppress(duckdb.Error):
            self._stop()

    def close(self) -> None:
        """Release what the query holds. Call it in the thread that reads the answer."""
        self._answer.close()


class Queries:
    """Runs queries over one fold."""

    def __init__(self, shares: Shares | None = None, spill: Path | None = None) -> None:
        """Make it. Nothing is started before it is needed.

        Args:
            shares: How memory is divided; by default a worker gets a quarter of the machine's.
            spill: Folder for what does not fit into a worker's memory; None for the system's. No
                other process may use it.
        """
        if shares is None:
            total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
            shares = Shares(total // 2, total // 4, 1)
        self._shares = shares
        self._spill = spill
        if spill is not None:
            for left in spill.glob(f"{SPILL_PREFIX}*"):
                shutil.rmtree(left, ignore_errors=True)
        self.threads = ThreadPoolExecutor(
            _FAST_AT_ONCE + shares.workers + 1, "modeltrail-sql", initializer=_step_back
        )
        """The threads for queries, which leave the processor to those of ingest and reads."""
        self._lock = threading.Lock()
        self._existing: frozenset[str] = frozenset()
        self._relations: dict[tuple[str, str], public.Relation] = {}
        self._workers: Workers | None = None
        self._gates = (
            Gate(_FAST_AT_ONCE, waiting_max=_WAITING_MAX, wait_s=_WAIT_S, what="queries"),
            Gate(shares.workers, waiting_max=_WAITING_MAX, wait_s=_WAIT_S, what="queries"),
        )

    def gate(self, reads: frozenset[str] | None) -> Gate:
        """Return the gate for queries here or for those in workers."""
        return self._gates[reads is None]

    def close(self) -> None:
        """Stop the workers."""
        if self._workers is not None:
            self._workers.close()
        self.threads.shutdown(wait=False)

    def checked(
        self, cursor: duckdb.DuckDBPyConnection, question: Question
    ) -> tuple[Question, frozenset[str] | None]:
        """Decide where a query runs. Returns the views that it reads if it runs here, else None.

        Raises:
            InvalidRequest: it is too long, or not text.
        """
        question = question._replace(statement=bare(question.statement))
        self._prepare(cursor)
        try:
            if question.admin and fast.is_of_import(cursor, question.statement):
                return question, public.IMPORT_TABLES
            tree = fast.parsed(cursor, question.statement, question.params)
        except duckdb.Error:
            tree = None
        if tree is None or len(tree["statements"]) != 1:
            return question, None
        reads = fast.relations_of(tree, self._existing, admin=question.admin)
        if reads is None or fast.is_narrow(reads) or not fast.multiplies(tree):
            return question, reads
        try:
            types = _relation(cursor, question).types
        except (duckdb.Error, ValueError, TypeError):
            return question, None  # the worker says what is wrong
        return question, reads if has_fixed_size([str(t) for t in types]) else None

    def _prepare(self, cursor: duckdb.DuckDBPyConnection) -> Workers:
        with self._lock:
            if self._workers is None:
                self._existing = public.names(cursor)
                found = public.relations(cursor)
                self._relations = {(r.schema, r.name): r for r in found}
                threads = max(1, min(4, (os.cpu_count() or 1) // 2))
                self._workers = Workers(Setup(found, self._shares.worker, threads, self._spill))
            return self._workers

    def start(
        self, cursor: duckdb.DuckDBPyConnection, question: Question, reads: frozenset[str] | None
    ) -> Running:
        """Start a query with the result of ``checked``.

        Args:
            cursor: A cursor of the fold, for this query alone until it is closed.
            question: The query.
            reads: The result of ``checked``.
        """
        if reads is not None:
            return Running(_here(cursor, question, fast.is_narrow(reads)), cursor.interrupt)
        there = _InWorker(self._prepare(cursor), cursor, question, self._relations)
        return Running(there.pieces(), there.stop)

    @contextmanager
    def run(
        self,
        cursor: duckdb.DuckDBPyConnection,
        statement: str,
        params: Params | None = None,
        *,
        format: str = "json",
        limit: int = ROWS_MAX,
        timeout_s: float = TIMEOUT_S,
    ) -> Iterator[Iterator[bytes]]:
        """Run a query of an administrator, and yield its answer in pieces.

        Read all of them in the block.

        Args:
            cursor: A cursor of the fold, for this query alone.
            statement: The query.
            params: Values for ``?`` or ``$name``.
            format: A key of ``FORMATS``.
            limit: Maximum number of rows.
            timeout_s: Time limit for the query and for reading its result, in seconds.

        Raises:
            InvalidRequest: it is not a query, or DuckDB does not accept it.
            TimedOut: it was not done in time.
        """
        question, reads = self.checked(
            cursor, Question(statement, params, format, limit, timeout_s)
        )
        running = self.start(cursor, question, reads)
        done = threading.Event()

        def expire() -> None:
            done.wait(timeout_s)
            while not done.wait(_AGAIN_S):
                running.stop()

        timer = threading.Thread(target=expire, daemon=True)
        timer.start()

        def taken() -> Iterator[bytes]:
            try:
                while (piece := running.next()) is not None:
                    yield piece
            except Stopped:
                raise too_late(timeout_s) from None

        try:
            yield taken()
        finally:
            done.set()
            timer.join()
            running.close()


class _InWorker:
    """A query in a worker."""

    def __init__(
        self,
        workers: Workers,
        cursor: duckdb.DuckDBPyConnection,
        question: Question,
        relations: Mapping[tuple[str, str], public.Relation],
    ) -> None:
        self._workers = workers
        self._cursor = cursor
        self._question = question
        self._relations = relations
        self._lock = threading.Lock()
        self._worker: Worker | None = None
        self._killed = False

    def pieces(self) -> Generator[bytes]:
        """Take a worker, and return it unless it is in the middle of something."""
        worker = self._workers.take()
        with self._lock:
            self._worker = worker
        whole = False
        try:
            yield from worker.answer(self._cursor, self._question, self._relations)
            whole = True
        except Declined:
            whole = True
            raise
        finally:
            with self._lock:
                self._worker = None
            usable = whole and not self._killed
            self._workers.give_back(worker, usable=usable)
            if not usable:
                threading.Thread(target=self._warm, daemon=True).start()

    def _warm(self) -> None:
        with suppress(Unavailable, OSError):  # the next query reports it, if it persists
            self._workers.warm()

    def stop(self) -> None:
        """Kill the worker if it works for this query."""
        with self._lock:
            if self._worker is not None:
                self._killed = True
                self._worker.kill()
                self._cursor.interrupt()


def _step_back() -> None:
    with suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICENESS)


def _relation(cursor: duckdb.DuckDBPyConnection, question: Question) -> duckdb.DuckDBPyRelation:
    """Return the query with its limit, not run yet."""
    # On its own lines, because the statement may end in a comment.
    text = f"SELECT * FROM (\n{question.statement}\n) LIMIT {question.limit + 1}"
    params = question.params
    return cursor.sql(text, params=params) if params else cursor.sql(text)


def _here(cursor: duckdb.DuckDBPyConnection, question: Question, narrow: bool) -> Generator[bytes]:
    try:
        cursor.execute("BEGIN TRANSACTION READ ONLY")
        result = result_of(_relation(cursor, question), narrow=narrow)
        yield from pieces(result, question.format, question.limit)
    except (duckdb.Error, OSError, ValueError, TypeError, OverflowError, MemoryError) as error:
        raise refusal(error) from None
    finally:
        with suppress(duckdb.Error):  # an error may have ended the transaction
            cursor.execute("ROLLBACK")
