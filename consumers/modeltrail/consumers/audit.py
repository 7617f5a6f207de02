"""Shows that the registry's log is what it was: the hash chain, and signed checkpoints of it.

``verify`` computes the chain anew from the raw log and compares it with the hashes that the fold
stored as it went, and with checkpoints. The stored hashes name the first event that differs, but
whoever changes the log can have the projections rebuilt from it. A checkpoint cannot be made
without the key, so it stands even then; keep ``audit-key.pem``, or copies of the checkpoints, where
those who can write to the log cannot.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Generic, NamedTuple, TypeVar

import duckdb
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from modeltrail.consumers.projections.registry import CHAIN_START, chain
from modeltrail.eventlog import (
    REGISTRY,
    REGISTRY_PARTITION,
    EventLog,
    LogRecord,
    LogUnavailable,
    Partition,
)

T = TypeVar("T")

KEY_FILE = "audit-key.pem"
CHECKPOINTS_FILE = "checkpoints.jsonl"

_SILENCE_MAX_S = 30.0
_PROGRESS_EVERY = 4096


class AuditError(Exception):
    """The trail cannot be kept or checked; the message says how to repair it.

    AuditError
    ├── KeyUnusable   the key file is not an Ed25519 key
    └── TrailBroken   the registry is not the one that the last checkpoint was made of
    """


class KeyUnusable(AuditError):
    """The key file is not an Ed25519 private key."""


class TrailBroken(AuditError):
    """The registry as folded contradicts the last checkpoint; nothing more is signed."""


class Head(NamedTuple):
    """The end of the chain."""

    offset: int
    hash: bytes


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A signed statement of what the chain was at an offset."""

    offset: int
    hash: bytes
    time_ms: int
    """When it was signed, by the signer's clock, in milliseconds since 1970 UTC."""
    public_key: bytes
    """Ed25519, 32 bytes."""
    signature: bytes

    def signature_holds(self) -> bool:
        """Whether the signature is the public key's, over the rest."""
        try:
            Ed25519PublicKey.from_public_bytes(self.public_key).verify(
                self.signature, _statement(self.offset, self.hash, self.time_ms)
            )
        except (InvalidSignature, ValueError):
            return False
        return True

    def to_json(self) -> str:
        """One line of ``checkpoints.jsonl``, without its end."""
        return json.dumps(
            {
                "offset": self.offset,
                "hash": self.hash.hex(),
                "time_ms": self.time_ms,
                "public_key": self.public_key.hex(),
                "signature": self.signature.hex(),
            }
        )

    @classmethod
    def from_json(cls, line: str) -> Checkpoint:
        """The inverse of ``to_json``; raises ``ValueError``."""
        try:
            fields = json.loads(line)
            return cls(
                int(fields["offset"]),
                bytes.fromhex(fields["hash"]),
                int(fields["time_ms"]),
                bytes.fromhex(fields["public_key"]),
                bytes.fromhex(fields["signature"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"not a checkpoint: {error}") from None


def _statement(offset: int, hash: bytes, time_ms: int) -> bytes:
    """What is signed."""
    return f"modeltrail registry checkpoint v1\n{offset}\n{hash.hex()}\n{time_ms}\n".encode()


def head(con: duckdb.DuckDBPyConnection) -> Head | None:
    """The end of the chain as folded; None while the registry is empty."""
    row = con.execute(
        'SELECT "offset", hash FROM fold.requests ORDER BY "offset" DESC LIMIT 1'
    ).fetchone()
    return None if row is None else Head(*row)


class Checkpoints:
    """Signs the end of the chain now and then, into ``checkpoints.jsonl`` of a data folder.

    One process at a time. The key is ``audit-key.pem`` in the same folder, made at first use.
    """

    def __init__(
        self,
        folder: Path,
        *,
        every_events: int = 1000,
        every_s: float = 600.0,
        clock_ms: Callable[[], int] | None = None,
    ) -> None:
        """Open a folder's checkpoints.

        Args:
            folder: The data folder.
            every_events: ``tick`` signs after this many events,
            every_s: and after this many seconds, if there is anything new.
            clock_ms: Gives the time, in milliseconds since 1970 UTC.

        Raises:
            KeyUnusable: the key file is damaged.
            OSError: the folder cannot be written.
        """
        self._path = folder / CHECKPOINTS_FILE
        self._every_events = every_events
        self._every_ms = every_s * 1000
        self._clock_ms = clock_ms or (lambda: time.time_ns() // 1_000_000)
        self._key = _key(folder / KEY_FILE)
        self.public_key = self._key.public_key().public_bytes_raw()
        """What others need to check the signatures; 32 bytes."""
        _cut_torn_line(self._path)
        found, _ = read_checkpoints(self._path)
        self._last = max(
            (c for c in found if c.public_key == self.public_key and c.signature_holds()),
            key=lambda c: c.offset,
            default=None,
        )
        self._compared = False

    def tick(self, con: duckdb.DuckDBPyConnection) -> Checkpoint | None:
        """Sign if it is due; cheap if it is not.

        Raises:
            TrailBroken: see ``write``.
        """
        now_ms = self._clock_ms()
        if self._last is not None and self._compared:
            end = head(con)
            new = 0 if end is None else end.offset - self._last.offset
            if new < self._every_events and now_ms - self._last.time_ms < self._every_ms:
                return None
        return self.write(con)

    def write(self, con: duckdb.DuckDBPyConnection) -> Checkpoint | None:
        """Sign the end of the chain as folded, durably, unless that was done before.

        Raises:
            TrailBroken: the fold does not lead to the last checkpoint: the log was cut or changed.
        """
        self._compare(con)
        end = head(con)
        if end is None or (self._last is not None and end.offset <= self._last.offset):
            return None
        now_ms = self._clock_ms()
        checkpoint = Checkpoint(
            end.offset,
            end.hash,
            now_ms,
            self.public_key,
            self._key.sign(_statement(end.offset, end.hash, now_ms)),
        )
        _append_line(self._path, checkpoint.to_json())
        self._last = checkpoint
        return checkpoint

    def _compare(self, con: duckdb.DuckDBPyConnection) -> None:
        if self._last is None or self._compared:
            self._compared = True
            return
        row = con.execute(
            'SELECT hash FROM fold.requests WHERE "offset" = ?', [self._last.offset]
        ).fetchone()
        if row is None or row[0] != self._last.hash:
            raise TrailBroken(
                f"the registry's log {'ends before' if row is None else 'differs at'} offset "
                f"{self._last.offset}, which {self._path} has signed; "
                "`modeltrail audit verify` tells more, and no checkpoint is made until then"
            )
        self._compared = True


def read_checkpoints(path: Path) -> tuple[list[Checkpoint], list[int]]:
    """The checkpoints of a file, and the numbers (from 1) of lines that are none.

    A last line without an end was being written as the process died, and counts as neither.
    """
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return [], []
    found, unreadable = [], []
    for number, line in enumerate(text.split("\n")[:-1], start=1):
        try:
            found.append(Checkpoint.from_json(line))
        except ValueError:
            unreadable.append(number)
    return found, unreadable


def _key(path: Path) -> Ed25519PrivateKey:
    try:
        pem = path.read_bytes()
    except FileNotFoundError:
        new = Ed25519PrivateKey.generate()
        pem = new.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        beside = path.with_name(path.name + ".new")
        beside.unlink(missing_ok=True)
        with open(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(pem)
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)
        _sync_folder(path.parent)
        return new
    try:
        key = load_pem_private_key(pem, password=None)
    except (ValueError, TypeError) as error:
        raise KeyUnusable(f"{path} is not a private key: {error}") from None
    if not isinstance(key, Ed25519PrivateKey):
        raise KeyUnusable(f"{path} is a key of another kind; Ed25519 is needed")
    return key


def _append_line(path: Path, line: str) -> None:
    new = not path.exists()
    with path.open("a", encoding="utf-8") as file:
        file.write(line + "\n")
        file.flush()
        os.fsync(file.fileno())
    if new:
        _sync_folder(path.parent)


def _cut_torn_line(path: Path) -> None:
    """Remove a last line without an end, left by a crash in ``_append_line``."""
    try:
        with path.open("r+b") as file:
            data = file.read()
            whole = data.rfind(b"\n") + 1
            if whole < len(data):
                file.truncate(whole)
                os.fsync(file.fileno())
    except FileNotFoundError:
        pass


def _sync_folder(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that is not as it should be."""

    kind: str
    """payload_changed, time_changed, event_missing, event_inserted, events_swapped, log_cut,
    checkpoint_differs, checkpoint_forged, or checkpoint_unreadable."""
    offset: int | None
    """The first registry offset concerned; None for a line that cannot be read."""
    message: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """What ``verify`` found."""

    events: int
    """Events that were read from the log."""
    compared: int
    """How many of them agree with the hash that the fold stored."""
    checkpoints: int
    """Checkpoints with a good signature that the log agrees with."""
    signed_offset: int | None
    """The greatest offset among those; what comes later is chained, but not yet signed."""
    hash: bytes
    """The end of the chain, computed from the raw log."""
    findings: tuple[Finding, ...]
    """Empty if all is well. The first offset that does not match comes first."""

    @property
    def ok(self) -> bool:
        """Whether everything is as it was."""
        return not self.findings


class _Stored(NamedTuple):
    offset: int
    appended_at_ms: int
    hash: bytes


def verify(
    log: EventLog,
    con: duckdb.DuckDBPyConnection | None = None,
    *,
    checkpoints: Path | None = None,
    trusted_keys: Collection[bytes] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Verdict:
    """Compute the chain from the raw log and compare it with all that is known of it.

    Args:
        log: The log.
        con: A connection to the projections, to compare with the hashes that the fold stored.
        checkpoints: A ``checkpoints.jsonl`` to compare with.
        trusted_keys: Public keys (32 bytes) whose signatures count; None for any key that the
            file names, which shows less: whoever can write the file can sign it with a new key.
        progress: Called now and then with the number of events done and of all events.

    Raises:
        LogError: the log cannot be read.
    """
    end = log.end()
    total = end.pop(REGISTRY_PARTITION, 0)
    checks = _Checks(checkpoints, trusted_keys)
    records = _Ahead(_registry_records(log, end, total))
    stored = _Ahead(_stored(con))
    first: Finding | None = None  # where the log and the fold part; they do not meet again
    hash, events, compared, expected = CHAIN_START, 0, 0, 0
    for record in records:
        before = hash
        hash = chain(hash, record.offset, record.appended_at_ms, record.payload)
        if first is None:
            row = next(stored, None)  # None: the fold has not come this far
            if record.offset != expected:
                first = _missing(expected)
            elif row is not None and row.hash == hash:
                compared += 1
            elif row is not None:
                first = _difference(before, row, record, stored.ahead, records.ahead)
        checks.reach(record.offset, hash)
        expected = record.offset + 1
        events += 1
        if progress is not None and events % _PROGRESS_EVERY == 0:
            progress(events, total)
    if first is None and stored.ahead is not None:
        first = Finding(
            "log_cut",
            stored.ahead.offset,
            f"offset {stored.ahead.offset}: was folded, but the log ends before it",
        )
    checks.end(expected)
    if progress is not None:
        progress(events, total)
    findings = checks.findings if first is None else [first, *checks.findings]
    return Verdict(events, compared, checks.agreed, checks.signed_offset, hash, tuple(findings))


class _Checks:
    """Compares the chain with the checkpoints as it reaches them."""

    def __init__(self, path: Path | None, trusted_keys: Collection[bytes] | None) -> None:
        self.findings: list[Finding] = []
        self.agreed = 0
        self.signed_offset: int | None = None
        found, unreadable = ([], []) if path is None else read_checkpoints(path)
        for number in unreadable:
            self.findings.append(
                Finding("checkpoint_unreadable", None, f"{path}, line {number}: not a checkpoint")
            )
        good = []
        for checkpoint in found:
            if not checkpoint.signature_holds():
                why = "the signature does not fit what it signs"
            elif trusted_keys is not None and checkpoint.public_key not in trusted_keys:
                why = f"it is signed with a key that is not trusted, {checkpoint.public_key.hex()}"
            else:
                good.append(checkpoint)
                continue
            offset = checkpoint.offset
            self.findings.append(
                Finding("checkpoint_forged", offset, f"checkpoint of offset {offset}: {why}")
            )
        # The next to be reached is the last of the list.
        self._ahead = sorted(good, key=lambda c: c.offset, reverse=True)

    def reach(self, offset: int, hash: bytes) -> None:
        """The chain has come to an offset."""
        while self._ahead and self._ahead[-1].offset <= offset:
            checkpoint = self._ahead.pop()
            if checkpoint.offset == offset and checkpoint.hash == hash:
                self.agreed += 1
                self.signed_offset = offset
            elif not any(f.kind == "checkpoint_differs" for f in self.findings):
                start = 0 if self.signed_offset is None else self.signed_offset + 1
                self.findings.append(
                    Finding(
                        "checkpoint_differs",
                        start,
                        f"offsets {start} to {checkpoint.offset}: what the log holds there is not "
                        f"what was signed on {_time(checkpoint.time_ms)}",
                    )
                )

    def end(self, end: int) -> None:
        """The chain ends before an offset."""
        if self._ahead:
            last = self._ahead[0]
            self.findings.append(
                Finding(
                    "log_cut",
                    end,
                    f"offset {end}: the log ends here, but on {_time(last.time_ms)} it was signed "
                    f"up to offset {last.offset}",
                )
            )


def _difference(
    before: bytes,
    row: _Stored,
    record: LogRecord,
    next_row: _Stored | None,
    next_record: LogRecord | None,
) -> Finding:
    """Tell what happened to an event, by trying which story gives the stored hashes."""
    offset = row.offset
    if chain(before, offset, row.appended_at_ms, record.payload) == row.hash:
        return Finding(
            "time_changed",
            offset,
            f"offset {offset}: its time was {_time(row.appended_at_ms)} when it was folded, now "
            f"it is {_time(record.appended_at_ms)}",
        )
    # Does the event belong one place further on, and is the one that belongs here found there?
    belongs_to_next = next_row is not None and next_row.hash == chain(
        row.hash, next_row.offset, next_row.appended_at_ms, record.payload
    )
    found_at_next = next_record is not None and row.hash == chain(
        before, offset, row.appended_at_ms, next_record.payload
    )
    if belongs_to_next and found_at_next:
        return Finding(
            "events_swapped", offset, f"offset {offset}: this event and the next were swapped"
        )
    if belongs_to_next:
        return _missing(offset)
    if found_at_next:
        return Finding(
            "event_inserted", offset, f"offset {offset}: an event was inserted that was not there"
        )
    return Finding(
        "payload_changed", offset, f"offset {offset}: the event is not the one that was folded"
    )


def _missing(offset: int) -> Finding:
    return Finding("event_missing", offset, f"offset {offset}: the event was taken out of the log")


def _time(ms: int) -> str:
    try:
        return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="milliseconds")
    except (ValueError, OverflowError, OSError):
        return f"{ms} ms since 1970"


class _Ahead(Generic[T]):
    """An iterator that shows what comes next."""

    def __init__(self, items: Iterator[T]) -> None:
        self._items = items
        self.ahead: T | None = next(items, None)

    def __iter__(self) -> Iterator[T]:
        return self

    def __next__(self) -> T:
        item = self.ahead
        if item is None:
            raise StopIteration
        self.ahead = next(self._items, None)
        return item


def _registry_records(log: EventLog, runs: dict[Partition, int], end: int) -> Iterator[LogRecord]:
    """The registry as the log holds it, up to an offset; the other partitions are passed over."""
    if not end:
        return
    reader = log.reader(runs)
    try:
        heard = time.monotonic()
        while True:
            for record in reader.poll(1.0):
                if record.stream != REGISTRY:
                    continue
                heard = time.monotonic()
                if record.offset < end:
                    yield record
                if record.offset >= end - 1:
                    return
            if time.monotonic() - heard > _SILENCE_MAX_S:
                raise LogUnavailable(
                    f"{log.url} gives no more registry events before offset {end}, where it ends"
                )
    finally:
        reader.close()


def _stored(con: duckdb.DuckDBPyConnection | None) -> Iterator[_Stored]:
    if con is None:
        return
    cursor = con.cursor()
    try:
        cursor.execute('SELECT "offset", appended_at_ms, hash FROM fold.requests ORDER BY "offset"')
        while rows := cursor.fetchmany(10_000):
            yield from map(_Stored._make, rows)
    finally:
        cursor.close()
