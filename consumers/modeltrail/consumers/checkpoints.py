"""Signed checkpoints of the log's hash chains, and the signing key.

A checkpoint cannot be forged without the key, so it reveals a change even if someone changes the
log and rebuilds the tables. Keep ``audit-key.pem``, or copies of the checkpoints, where people who
can write to the log have no access.
"""

from __future__ import annotations

import dataclasses
import json
import logging
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import duckdb
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from modeltrail.consumers import store
from modeltrail.consumers.chain import Head, heads, links
from modeltrail.eventlog import REGISTRY_PARTITION, Partition
from modeltrail.eventlog.durable import replacing, sync
from modeltrail.eventlog.private import open_private

logger = logging.getLogger("modeltrail.checkpoints")

KEY_FILE = "audit-key.pem"
CHECKPOINTS_FILE = "checkpoints.jsonl"


class AuditError(Exception):
    """The trail cannot be kept or checked; the message says how to repair it.

    AuditError
    ├── KeyUnusable   the key file is not an Ed25519 key
    └── TrailBroken   the log is not the one that the last checkpoint was made of
    """


class KeyUnusable(AuditError):
    """The key file is not an Ed25519 private key."""


class TrailBroken(AuditError):
    """The folded log contradicts the last checkpoint. Nothing more is signed."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A signed statement of where the chains ended at some time."""

    heads: Mapping[Partition, Head]
    time_ms: int
    """When it was signed, by the signer's clock, in ms since 1970 UTC."""
    public_key: bytes
    """Ed25519, 32 bytes."""
    signature: bytes
    version: int = 2
    """1 for a checkpoint of the registry alone, as the first versions signed them."""

    @property
    def statement(self) -> bytes:
        """Return the text that is signed."""
        if self.version == 1:
            head = self.heads[REGISTRY_PARTITION]
            ends = f"{head.offset}\n{head.hash.hex()}\n"
            return f"modeltrail registry checkpoint v1\n{ends}{self.time_ms}\n".encode()
        ends = "".join(f"{p} {h.offset} {h.hash.hex()}\n" for p, h in sorted(self.heads.items()))
        return f"modeltrail checkpoint v2\n{ends}{self.time_ms}\n".encode()

    def signature_holds(self) -> bool:
        """Return whether the signature was made with the public key over the statement."""
        try:
            key = Ed25519PublicKey.from_public_bytes(self.public_key)
            key.verify(self.signature, self.statement)
        except (InvalidSignature, ValueError):
            return False
        return True

    def to_json(self) -> str:
        """Return a line of ``checkpoints.jsonl``, without a newline; always of version 2."""
        return json.dumps(
            {
                "version": 2,
                "heads": {
                    str(p): {"offset": h.offset, "hash": h.hash.hex()}
                    for p, h in sorted(self.heads.items())
                },
                "time_ms": self.time_ms,
                "public_key": self.public_key.hex(),
                "signature": self.signature.hex(),
            }
        )

    @classmethod
    def from_json(cls, line: str) -> Checkpoint:
        """Parse a line of either version. Raises ``ValueError``."""
        try:
            fields = json.loads(line)
            version = int(fields.get("version", 1))
            if version > 2:
                raise ValueError(f"version {version} is newer than this program")
            heads = {str(REGISTRY_PARTITION): fields} if version == 1 else fields["heads"]
            return cls(
                {
                    Partition.parse(name): Head(int(h["offset"]), bytes.fromhex(h["hash"]))
                    for name, h in heads.items()
                },
                int(fields["time_ms"]),
                bytes.fromhex(fields["public_key"]),
                bytes.fromhex(fields["signature"]),
                version,
            )
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise ValueError(f"not a checkpoint: {error}") from None


class Checkpoints:
    """Signs the ends of the chains regularly, into ``checkpoints.jsonl`` of a data folder.

    For one process at a time. The key is ``audit-key.pem`` in the same folder, created on first
    use.
    """

    def __init__(
        self,
        folder: Path,
        *,
        every_events: int = 1000,
        every_run_events: int = 100_000,
        every_s: float = 600.0,
        accept: bool = False,
        clock_ms: Callable[[], int] | None = None,
    ) -> None:
        """Open a folder's checkpoints.

        Args:
            folder: The data folder.
            every_events: ``tick`` signs after this many events of the registry,
            every_run_events: after this many events of another partition,
            every_s: and after this many seconds, if there are new events.
            accept: If the log contradicts the checkpoints, set their file aside and start another,
                because the operator said that this log is the right one.
            clock_ms: Returns the time, in ms since 1970 UTC.

        Raises:
            KeyUnusable: the key file is damaged.
            OSError: the folder is not writable.
        """
        self._path = folder / CHECKPOINTS_FILE
        self._every_events = every_events
        self._every_run_events = every_run_events
        self._every_ms = every_s * 1000
        self._accept = accept
        self._clock_ms = clock_ms or (lambda: time.time_ns() // 1_000_000)
        self._key = _key(folder / KEY_FILE)
        self.public_key = self._key.public_key().public_bytes_raw()
        """The key to check the signatures with; 32 bytes."""
        _cut_torn_line(self._path)
        found, _ = read_checkpoints(self._path)
        own = [c for c in found if c.public_key == self.public_key and c.signature_holds()]
        self.last = own[-1] if own else None
        """The newest checkpoint of this key."""
        self._signed: dict[Partition, Head] = {}
        for checkpoint in own:
            for partition, head in checkpoint.heads.items():
                known = self._signed.get(partition)
                if known is None or head.offset >= known.offset:
                    self._signed[partition] = head
        self._compared = False

    def tick(self, con: duckdb.DuckDBPyConnection) -> Checkpoint | None:
        """Sign if it is due; otherwise this is cheap.

        Raises:
            TrailBroken: see ``write``.
        """
        if self.last is not None and self._compared:
            due = self._clock_ms() - self.last.time_ms >= self._every_ms
            if not due and not any(
                head.offset - self._signed_to(p)
                >= (self._every_events if p == REGISTRY_PARTITION else self._every_run_events)
                for p, head in heads(con).items()
            ):
                return None
        return self.write(con)

    def write(self, con: duckdb.DuckDBPyConnection) -> Checkpoint | None:
        """Sign the ends of the folded chains durably, unless that was done before.

        Raises:
            TrailBroken: the fold does not lead to what was signed: the log was cut or changed.
        """
        self._compare(con)
        ends = heads(con)
        if all(head.offset <= self._signed_to(p) for p, head in ends.items()):
            return None
        unsigned = Checkpoint(ends, self._clock_ms(), self.public_key, b"")
        checkpoint = dataclasses.replace(unsigned, signature=self._key.sign(unsigned.statement))
        _append_line(self._path, checkpoint.to_json())
        self.last = checkpoint
        self._signed |= ends
        return checkpoint

    def _signed_to(self, partition: Partition) -> int:
        """Return the last signed offset, or -1."""
        head = self._signed.get(partition)
        return -1 if head is None else head.offset

    def _compare(self, con: duckdb.DuckDBPyConnection) -> None:
        """Compare the last signed offset of each partition with the fold, once."""
        for partition, signed in () if self._compared else sorted(self._signed.items()):
            found = links(con, partition, signed.offset, signed.offset, 1)
            if found and signed.hash.startswith(found[0].hash):
                continue
            if self._accept:
                aside = store.set_aside(self._path, "contradicted")
                logger.warning(
                    "%s contradicts the log, and was set aside as %s", self._path, aside.name
                )
                self.last, self._signed = None, {}
                break
            raise TrailBroken(
                f"the log {'differs at' if found else 'ends before'} offset {signed.offset} of "
                f"{partition}, which {self._path} has signed; `modeltrail audit verify` tells "
                "more, and no checkpoint is made until then. If this log is the right one (a "
                "backup that was restored), start with: modeltrail serve --accept-log"
            )
        self._compared = True


def read_checkpoints(path: Path) -> tuple[list[Checkpoint], list[int]]:
    """Return the checkpoints in a file, and the numbers (from 1) of invalid lines.

    A last line without a newline was being written when the process died, and counts as neither.
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
        with replacing(path, 0o600) as file:
            file.write(pem)
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
    with os.fdopen(open_private(path), "r+", encoding="utf-8") as file:
        file.seek(0, os.SEEK_END)
        file.write(line + "\n")
        file.flush()
        os.fsync(file.fileno())
    if new:
        sync(path.parent)


def _cut_torn_line(path: Path) -> None:
    """Remove a last line without a newline, left by a crash in ``_append_line``."""
    try:
        with path.open("r+b") as file:
            data = file.read()
            whole = data.rfind(b"\n") + 1
            if whole < len(data):
                file.truncate(whole)
                os.fsync(file.fileno())
    except FileNotFoundError:
        pass
