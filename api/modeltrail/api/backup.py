"""Back up a data folder, with or without a running server, and verify the copy.

A backup is a folder, or the same folder as one ``.tar`` or ``.tar.gz`` file:

    backup.json         what is in it, and the end of each hash chain
    log.sqlite          the log, event by event at its own position
    checkpoints.jsonl   signed checkpoints, if there are any
    webhooks.sqlite     which webhooks were delivered
    audit-key.pem, webhook.key    only if keys were asked for
    artifacts/          only if artifacts were asked for

The tables are not included: they are built from the log.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import shutil
import sqlite3
import tarfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from modeltrail.api.errors import ClientError
from modeltrail.consumers.audit import Finding, batches, verify
from modeltrail.consumers.chain import Head, chain, chain_start
from modeltrail.consumers.checkpoints import CHECKPOINTS_FILE, KEY_FILE
from modeltrail.consumers.database import program_version
from modeltrail.consumers.fold import rebuild
from modeltrail.consumers.webhooks.secrets import KEY_FILE as WEBHOOK_KEY_FILE
from modeltrail.consumers.webhooks.state import STATE_FILE
from modeltrail.eventlog import EventLog, LogError, Partition
from modeltrail.eventlog.durable import sync
from modeltrail.eventlog.embedded import EmbeddedLog

FORMAT = 1
MANIFEST = "backup.json"

_LOG = "log.sqlite"
_ARTIFACTS = "artifacts"
_KEYS = (KEY_FILE, WEBHOOK_KEY_FILE)
_FILES = (MANIFEST, _LOG, CHECKPOINTS_FILE, STATE_FILE, *_KEYS)
_ARCHIVES = {".tar": "", ".tar.gz": "gz", ".tgz": "gz"}
_CHUNK_BYTES = 1024 * 1024

Progress = Callable[[str], Callable[[int, int], None] | None]
"""Takes a description; returns a function for the number of events done and the total."""


@dataclass(frozen=True, slots=True)
class Backup:
    """The contents of a backup."""

    made_at_ms: int
    """When it was made, in ms since 1970 UTC."""
    program: str
    """The version of Modeltrail that made it."""
    heads: Mapping[Partition, Head]
    """The end of the hash chain of every partition with events."""
    keys: tuple[str, ...]
    """Names of the key files."""
    artifacts: int | None
    """Number of artifact files, or None if they were not asked for."""
    findings: tuple[Finding, ...] = ()
    """Differences between the log and its signed checkpoints. The copy has the log as it is."""

    @property
    def events(self) -> int:
        """Number of events."""
        return sum(head.offset + 1 for head in self.heads.values())

    def to_json(self) -> dict[str, Any]:
        """Return the contents of ``backup.json``."""
        return {
            "format": FORMAT,
            "made_at_ms": self.made_at_ms,
            "program": self.program,
            "log": {
                str(p): {"offset": h.offset, "hash": h.hash.hex()}
                for p, h in sorted(self.heads.items())
            },
            "keys": list(self.keys),
            "artifacts": self.artifacts,
        }

    @classmethod
    def from_json(cls, text: str, where: Path) -> Backup:
        """Parse the result of ``to_json``. Raises ``ClientError``."""
        try:
            found = json.loads(text)
            if found["format"] != FORMAT:
                raise ClientError(
                    f"{where} has format {found['format']}, and this version of Modeltrail knows "
                    f"{FORMAT}; use the version {found['program']} that made it, or a newer one"
                )
            return cls(
                int(found["made_at_ms"]),
                str(found["program"]),
                {
                    Partition.parse(p): Head(int(h["offset"]), bytes.fromhex(h["hash"]))
                    for p, h in found["log"].items()
                },
                tuple(found["keys"]),
                found["artifacts"],
            )
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise ClientError(f"{where}: its {MANIFEST} cannot be read ({error})") from None


def back_up(
    data: Path,
    log: EventLog,
    target: Path,
    *,
    keys: bool = False,
    artifacts: Path | None = None,
    replace: bool = False,
    progress: Progress = lambda what: None,
) -> Backup:
    """Copy a data folder, verify the copy, and only then give it its name.

    Events appended meanwhile may or may not be included, but always whole and without gaps.

    Args:
        data: The data folder; a server may be running on it.
        log: Its log.
        target: The folder or file to create; a name that ends in .tar, .tar.gz or .tgz is a file.
        keys: Also copy the keys that sign checkpoints and encrypt webhook secrets.
        artifacts: The folder of artifacts to copy; None to leave them out.
        replace: Replace an existing backup.
        progress: Shows the progress.

    Raises:
        ClientError: the target exists, or the copy differs from the log.
        LogError: the log cannot be read.
        OSError: the copy cannot be written.
    """
    target = Path(os.path.abspath(target))
    _check_target(target, data, replace)
    with _partial(target) as work:
        folder = work if _archive(target) is None else work / "content"
        folder.mkdir(mode=0o700, exist_ok=True)
        # Before the log, so that nothing signed or delivered is ahead of the copy of the log.
        _copy(data / CHECKPOINTS_FILE, folder)
        _copy_sqlite(data / STATE_FILE, folder)
        kept = tuple(name for name in _KEYS if keys and _copy(data / name, folder))
        source = _copy_log(log, folder, progress("copying the log"))
        # After the log, because files exist before the events that record them.
        copied = None if artifacts is None else _copy_tree(artifacts, folder / _ARTIFACTS)
        findings = _verify(folder, source, "the copy", progress("verifying the copy"))
        made = Backup(
            time.time_ns() // 1_000_000, program_version(), source, kept, copied, findings
        )
        _write(folder / MANIFEST, json.dumps(made.to_json(), indent=2).encode() + b"\n")
        _finish(work, folder, target)
    return made


def restore(source: Path, data: Path, *, progress: Progress = lambda what: None) -> Backup:
    """Create a data folder from a backup, verified and with its tables.

    A server can start on it.

    Args:
        source: The backup, a folder or a file.
        data: The data folder to create; it must be empty or not exist.
        progress: Shows the progress.

    Raises:
        ClientError: it is not a backup or is damaged, or the data folder is in use.
        OSError: the data folder cannot be written.
    """
    data = Path(os.path.abspath(data))
    if data.exists() and (not data.is_dir() or any(data.iterdir())):
        raise ClientError(
            f"{data} is not empty: restore creates a new data folder, and overwrites nothing; use "
            "another with --data, or move this one away (stop its server first)"
        )
    if not source.exists():
        raise ClientError(f"there is no backup {source}")
    with _partial(data) as work:
        if source.is_dir():
            _copy_backup(source, work)
        else:
            _unpack(source, work)
        manifest = work / MANIFEST
        if not manifest.is_file():
            raise ClientError(f"{source} is not a backup: it has no {MANIFEST}")
        backup = Backup.from_json(manifest.read_text(encoding="utf-8"), source)
        findings = _verify(work, backup.heads, str(source), progress("verifying"))
        manifest.unlink()
        with closing(EmbeddedLog(work)) as log:
            rebuild(log, work / "projections.duckdb", progress("folding"))
        _sync_tree(work)
        if data.exists():
            data.rmdir()
        os.rename(work, data)
        sync(data.parent)
    return Backup(
        backup.made_at_ms, backup.program, backup.heads, backup.keys, backup.artifacts, findings
    )


# Nothing has the final name before it is complete


def _archive(target: Path) -> str | None:
    """Return the archive format in a file name, or None for a folder."""
    return next((how for end, how in _ARCHIVES.items() if target.name.endswith(end)), None)


def _check_target(target: Path, data: Path, replace: bool) -> None:
    if target.is_relative_to(data.absolute()):
        raise ClientError(f"{target} is in the data folder; choose another place for the backup")
    if not target.parent.is_dir():
        raise ClientError(f"there is no folder {target.parent}")
    if not target.exists():
        return
    if not replace:
        raise ClientError(f"{target} exists; name another, or replace it with --replace")
    ours = target.is_file() if _archive(target) is not None else (target / MANIFEST).is_file()
    if not ours:
        raise ClientError(f"{target} is not a backup, and is not replaced; name another")


@contextmanager
def _partial(target: Path) -> Iterator[Path]:
    """Yield a folder beside the target. It is removed at the end, unless it was renamed."""
    work = target.with_name(f".{target.name}.partial-{secrets.token_hex(4)}")
    work.mkdir(mode=0o700, parents=True)
    try:
        yield work
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _finish(work: Path, folder: Path, target: Path) -> None:
    """Make everything durable, and give it its final name."""
    how = _archive(target)
    if how is None:
        _sync_tree(folder)
        whole = folder
    else:
        whole = work / "packed"
        _pack(folder, whole, how)
        _check_packed(folder, whole)
    old = None
    if target.is_dir():  # the rename itself replaces a file
        old = target.with_name(f".{target.name}.replaced-{secrets.token_hex(4)}")
        os.rename(target, old)
    os.rename(whole, target)
    sync(target.parent)
    if old is not None:
        shutil.rmtree(old)


# Copying


def _copy(file: Path, folder: Path) -> bool:
    """Copy a file, readable by its owner only. Returns whether it exists."""
    try:
        data = file.read_bytes()
    except FileNotFoundError:
        return False
    _write(folder / file.name, data)
    return True


def _write(path: Path, data: bytes) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(data)


def _copy_sqlite(file: Path, folder: Path) -> None:
    """Copy a small database at one moment, including its write-ahead log."""
    if not file.exists():
        return
    copy = folder / file.name
    _write(copy, b"")
    with (
        closing(sqlite3.connect(f"{file.absolute().as_uri()}?mode=ro", uri=True)) as source,
        closing(sqlite3.connect(copy)) as into,
    ):
        source.backup(into)
        into.execute("PRAGMA journal_mode=DELETE")


def _copy_log(
    log: EventLog, folder: Path, progress: Callable[[int, int], None] | None
) -> dict[Partition, Head]:
    """Copy a log up to its current end. Returns the ends of the chains of what was read."""
    end = log.end()
    heads: dict[Partition, Head] = {}
    done, total = 0, sum(end.values())
    _write(folder / _LOG, b"")
    with closing(EmbeddedLog(folder)) as copy:
        copy.add_schemas(log.schemas())
        for records in batches(log, end):
            for record in records:
                partition = Partition(record.stream, record.partition)
                known = heads.get(partition)
                before = chain_start(partition) if known is None else known.hash
                hash = chain(before, record.offset, record.appended_at_ms, record.payload)
                heads[partition] = Head(record.offset, hash)
            copy.adopt(records)
            done += len(records)
            if progress is not None:
                progress(done, total)
    (folder / "log.lock").unlink()
    return heads


def _copy_tree(folder: Path, into: Path) -> int:
    """Copy files and return their number. Files removed meanwhile are left out."""
    into.mkdir(mode=0o700)
    count = 0
    for path, _, names in os.walk(folder):
        beside = into / os.path.relpath(path, folder)
        beside.mkdir(mode=0o700, exist_ok=True)
        for name in names:
            with suppress(FileNotFoundError):
                _copy_file(Path(path) / name, beside / name)
                count += 1
    return count


def _copy_file(file: Path, copy: Path) -> None:
    with file.open("rb") as source:
        fd = os.open(copy, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(fd, "wb") as into:
            shutil.copyfileobj(source, into, _CHUNK_BYTES)


def _copy_backup(source: Path, work: Path) -> None:
    for name in _FILES:
        if (source / name).is_file():
            _copy_file(source / name, work / name)
    if (source / _ARTIFACTS).is_dir():
        _copy_tree(source / _ARTIFACTS, work / _ARTIFACTS)


# Archives


def _pack(folder: Path, file: Path, how: str) -> None:
    def owned(info: tarfile.TarInfo) -> tarfile.TarInfo:
        info.uid = info.gid = 0
        info.uname = info.gname = ""
        return info

    fd = os.open(file, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(fd, "w+b") as out:
        with (
            tarfile.open(fileobj=out, mode="w:gz", compresslevel=1)
            if how
            else tarfile.open(fileobj=out, mode="w")
        ) as archive:
            # The manifest comes first, so that the contents of a file can be seen quickly.
            for name in sorted(os.listdir(folder), key=lambda name: (name != MANIFEST, name)):
                archive.add(folder / name, arcname=name, filter=owned)
        out.flush()
        os.fsync(out.fileno())


def _check_packed(folder: Path, file: Path) -> None:
    """Read an archive back, and compare every byte."""
    left = {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}
    with tarfile.open(file) as archive:
        for member in archive:
            if not member.isfile():
                continue
            packed = archive.extractfile(member)
            assert packed is not None, "it is a file"
            with (folder / member.name).open("rb") as original:
                if hashlib.file_digest(packed, "sha256").digest() != (  # type: ignore[arg-type]
                    hashlib.file_digest(original, "sha256").digest()
                ):
                    raise ClientError(f"{member.name} was not packed correctly; check the disk")
            left.discard(member.name)
    if left:
        raise ClientError(f"{min(left)} was not packed; check the disk")


def _unpack(source: Path, work: Path) -> None:
    try:
        with tarfile.open(source) as archive:
            for member in archive:
                name = member.name
                if member.isfile() and (name in _FILES or name.startswith(f"{_ARTIFACTS}/")):
                    # The filter refuses names and links that lead out of the folder.
                    archive.extract(member, work, filter="data")
    except (tarfile.TarError, EOFError, OSError) as error:
        raise ClientError(f"{source} cannot be unpacked: {error}") from None
    for path in work.rglob("*"):
        path.chmod(0o700 if path.is_dir() else 0o600)


# Verifying


def _verify(
    folder: Path,
    heads: Mapping[Partition, Head],
    what: str,
    progress: Callable[[int, int], None] | None,
) -> tuple[Finding, ...]:
    """Compute the chains of a copy and compare them with the expected ones.

    Returns:
        Differences between the log and its signed checkpoints, which a correct copy also has.

    Raises:
        ClientError: the copy differs from what was copied.
    """
    checkpoints = folder / CHECKPOINTS_FILE
    try:
        with closing(EmbeddedLog(folder)) as log:
            verdict = verify(
                log, checkpoints=checkpoints if checkpoints.exists() else None, progress=progress
            )
    except LogError as error:
        raise ClientError(f"the log of {what} cannot be read: {error}") from None
    (folder / "log.lock").unlink(missing_ok=True)
    found = {
        p: Head(covered.events - 1, covered.hash)
        for p, covered in verdict.partitions.items()
        if covered.events
    }
    for partition in sorted({*found, *heads}):
        if found.get(partition) != heads.get(partition):
            raise ClientError(
                f"{what} is damaged: its events of {partition} are not those that were copied"
            )
    return verdict.findings


def _sync_tree(folder: Path) -> None:
    for path in (folder, *folder.rglob("*")):
        sync(path)
