"""Checks of a data folder and its machine, for `modeltrail doctor` and a server's status."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from modeltrail.eventlog.private import close_to_others, too_open

_FREE_BYTES_LOW = 2 * 1024**3
_YEAR_MIN = 2025
_AHEAD_S_MAX = 60.0


class Check(NamedTuple):
    """The result of a check."""

    name: str
    ok: bool
    found: str
    repair: str | None = None


def folder(path: Path, *, repair: bool = False) -> Iterator[Check]:
    """Check that a data folder can be written, and by its owner only."""
    if not path.exists():
        yield Check(
            "data folder",
            True,
            f"{path} does not exist yet",
            "modeltrail serve creates it; or choose another with --data",
        )
        return
    try:
        with tempfile.TemporaryFile(dir=path) as probe:
            probe.write(b"x")
            probe.flush()
            os.fsync(probe.fileno())
    except OSError as error:
        yield Check(
            "data folder",
            False,
            f"cannot write in {path}: {error.strerror}",
            f"make yourself its owner (sudo chown -R $USER {path}), or choose another with --data",
        )
        return
    yield Check("data folder", True, f"{path} can be written")
    if repair:
        close_to_others(path)
    found = too_open(path)
    if found:
        names = ", ".join(one.name if one != path else "the folder itself" for one in found[:10])
        yield Check(
            "privacy",
            False,
            f"others can access {len(found)} files in {path}, which contains password hashes "
            f"and keys: {names}",
            f"modeltrail doctor --repair --data {path} (or, to share it with a group on purpose: "
            f"chmod 2770 {path})",
        )
    else:
        yield Check("privacy", True, "only its owner can access it")


def disk(path: Path) -> Iterator[Check]:
    """Check that there is room where a data folder is or will be."""
    path = path.absolute()
    while not path.exists():
        path = path.parent
    usage = shutil.disk_usage(path)
    low = usage.free < max(_FREE_BYTES_LOW, usage.total // 50)
    yield Check(
        "disk space",
        not low,
        f"{usage.free / 1024**3:.1f} GiB of {usage.total / 1024**3:.1f} GiB are free",
        "free some space, or move the data folder to a larger disk" if low else None,
    )


def clock(last_append_s: float | None) -> Iterator[Check]:
    """Check the clock, also against when the log's last event was appended."""
    now_s = time.time()
    shown = _utc(now_s)
    if time.gmtime(now_s).tm_year < _YEAR_MIN:
        yield Check("clock", False, shown, "set the clock (timedatectl set-ntp true)")
        return
    yield Check("clock", True, shown)
    if last_append_s is not None and last_append_s - now_s > _AHEAD_S_MAX:
        yield Check(
            "append times",
            False,
            f"the log's last event is dated {_utc(last_append_s)}, {last_append_s - now_s:,.0f} s "
            "after now: the clock was ahead then, or is behind now. Append times never go back, "
            f"so every event until {_utc(last_append_s)} gets that time",
            "set the clock if it is behind (timedatectl set-ntp true); else nothing is lost, and "
            "append times are right again from then on",
        )


def _utc(seconds: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


def kept_aside(path: Path) -> Iterator[Check]:
    """Return the files that were set aside because they contradicted the log."""
    for aside in sorted(path.glob("*.contradicted-*")):
        yield Check(
            "kept aside",
            True,
            f"{aside} contradicted the log, which was accepted",
            "keep it as evidence, or delete it when you no longer need it",
        )
