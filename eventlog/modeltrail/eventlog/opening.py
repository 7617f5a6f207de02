"""Opens the log that a URL names."""

from __future__ import annotations

import re
from urllib.parse import unquote, urlsplit

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
        create: Make a log that does not exist yet.

    Raises:
        LogMisconfigured: the URL is not understood, or what it names is not fit for use.
        LogUnavailable: it cannot be reached.
    """
    # A scheme of one letter would be a drive of Windows, and a folder's name may have a colon
    # behind a slash.
    scheme = re.match(r"([A-Za-z][A-Za-z0-9+.-]+):", url)
    if not url:
        raise LogMisconfigured(f"the log's URL is empty; {_FORMS}")
    if scheme is None or scheme[1].lower() == "file":
        from modeltrail.eventlog.embedded import EmbeddedLog

        return EmbeddedLog(url if scheme is None else _file_path(url), create=create)
    if scheme[1].lower() == "kafka":
        from modeltrail.eventlog.kafka import KafkaLog

        return KafkaLog(url, create=create)
    if url == "memory:":
        from modeltrail.eventlog.memory import MemoryLog

        return MemoryLog()
    raise LogMisconfigured(f"{_shown(url)!r} is not the URL of a log; {_FORMS}")


def _file_path(url: str) -> str:
    parts = urlsplit(url)
    if parts.netloc not in ("", "localhost") or parts.query or parts.fragment or not parts.path:
        raise LogMisconfigured(f"{url!r} does not name a folder on this machine; {_FORMS}")
    return unquote(parts.path)


def _shown(url: str) -> str:
    """Without what may be a password."""
    return re.sub(r"//[^/@]*@", "//…@", url).partition("?")[0]
