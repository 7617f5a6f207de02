"""Open the log that a URL names."""

from __future__ import annotations

from modeltrail.eventlog.address import kind_of, mistake_in, path_of, shown
from modeltrail.eventlog.base import EventLog, LogMisconfigured

_FORMS = """a log is one of
  ./folder, /folder, file:folder or file:///folder    a file log.sqlite in that folder
  kafka://host:port,host:port/prefix?option=value     topics <prefix>runs, <prefix>registry
  memory:                                             gone with the process, for tests"""


def open_log(url: str, *, create: bool = True) -> EventLog:
    """Open a log.

    Args:
        url: ``./folder`` or ``file:/folder`` (embedded; the file is ``folder/log.sqlite``),
            ``kafka://host:port,.../prefix?option=...``, or ``memory:``.
        create: Create the log if it does not exist.

    Raises:
        LogMisconfigured: the URL is invalid, or its target cannot be used as a log.
        LogUnavailable: the log cannot be reached.
    """
    if not url:
        raise LogMisconfigured(f"the log's URL is empty; {_FORMS}")
    wrong = mistake_in(url)
    if wrong is not None:
        raise LogMisconfigured(f"{wrong}; {_FORMS}")
    kind = kind_of(url)
    if kind == "folder":
        from modeltrail.eventlog.embedded import EmbeddedLog

        try:
            folder = path_of(url)
        except LogMisconfigured as error:
            raise LogMisconfigured(f"{error}; {_FORMS}") from None
        return EmbeddedLog(folder, create=create)
    if kind == "kafka":
        from modeltrail.eventlog.kafka import KafkaLog

        return KafkaLog(url, create=create)
    if url == "memory:":
        from modeltrail.eventlog.memory import MemoryLog

        return MemoryLog()
    raise LogMisconfigured(f"{shown(url)!r} is not the URL of a log; {_FORMS}")
