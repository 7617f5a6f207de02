"""Open the log that a URL names."""

from __future__ import annotations

import os
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
        create: Create the log if it does not exist.

    Raises:
        LogMisconfigured: the URL is invalid, or its target cannot be used as a log.
        LogUnavailable: the log cannot be reached.
    """
    # A scheme of one letter is a drive of Windows. A folder's name may have a colon after a slash.
    scheme = re.match(r"([A-Za-z][A-Za-z0-9+.-]+):", url)
    if not url:
        raise LogMisconfigured(f"the log's URL is empty; {_FORMS}")
    wrong = mistake_in(url)
    if wrong is not None:
        raise LogMisconfigured(f"{wrong}; {_FORMS}")
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


def mistake_in(url: str) -> str | None:
    """Return what is wrong with a mistyped URL that would be taken for a folder, or None.

    Examples are ``http//host``, ``http:/host``, ``host:5000`` and ``htp://host``. An existing
    folder, or a name that begins with a dot or slash, is accepted.
    """
    if url.startswith((".", "/", "~")) or os.path.exists(url):
        return None
    if url.lower().startswith("kafka://"):
        return None  # the log itself reports what is wrong with one
    meant = None
    broken = re.match(r"(https?|kafka)([:;/\\]+)(.*)", url, re.IGNORECASE | re.DOTALL)
    scheme = re.match(r"([A-Za-z][A-Za-z0-9+.-]*)://", url)
    if re.fullmatch(r"[\w.-]+:\d+(/.*)?", url):
        meant = f"http://{url}' or 'kafka://{url}"
    elif broken and broken[2] not in ("://", "/"):
        meant = f"{broken[1].lower()}://{broken[3]}"
    elif scheme is None or scheme[1].lower() in ("http", "https", "kafka", "file"):
        return None
    hint = f"; did you mean '{_shown(meant)}'? A folder of that name is ./{url}" if meant else ""
    return f"{_shown(url)!r} is neither a folder nor the URL of a server or log{hint}"


def _file_path(url: str) -> str:
    parts = urlsplit(url)
    if parts.netloc not in ("", "localhost") or parts.query or parts.fragment or not parts.path:
        raise LogMisconfigured(f"{url!r} does not name a folder on this machine; {_FORMS}")
    return unquote(parts.path)


def _shown(url: str) -> str:
    """Return the URL without what may be a password."""
    return re.sub(r"//[^/@]*@", "//…@", url).partition("?")[0]
