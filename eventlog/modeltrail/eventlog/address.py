"""Addresses of logs, servers and data folders: the one parser of what users write for them."""

from __future__ import annotations

import os
import re
from typing import Final, Literal
from urllib.parse import unquote, urlsplit

from modeltrail.eventlog.base import LogMisconfigured

Kind = Literal["folder", "kafka", "memory", "server"]

_KINDS: Final[dict[str, Kind]] = {
    "file": "folder",
    "http": "server",
    "https": "server",
    "kafka": "kafka",
    "memory": "memory",
}


def kind_of(url: str) -> Kind | None:
    """Return what an address names, or None if it has another scheme."""
    # A scheme of one letter is a drive of Windows. A folder's name may have a colon after a slash.
    scheme = re.match(r"([A-Za-z][A-Za-z0-9+.-]+):", url)
    return "folder" if scheme is None else _KINDS.get(scheme[1].lower())


def path_of(url: str) -> str:
    """Return the path of a folder, given as a path or ``file:`` URL; raises ``LogError``."""
    if not url.lower().startswith("file:"):
        return url
    parts = urlsplit(url)
    if parts.netloc not in ("", "localhost") or parts.query or parts.fragment or not parts.path:
        raise LogMisconfigured(f"{url!r} does not name a folder on this machine")
    return unquote(parts.path)


def absolute_url(url: str) -> str:
    """Return the address with an absolute path, valid after a change of directory.

    A mistyped URL is returned unchanged. ``open_log`` refuses it.
    """
    url = url.strip()
    scheme, _, rest = url.partition(":")
    if kind_of(url) in ("server", "kafka") and rest.startswith("//"):
        return f"{scheme.lower()}:{rest}"
    if url == "memory:" or mistake_in(url) is not None:
        return url
    try:
        return os.path.abspath(os.path.expanduser(path_of(url)))
    except LogMisconfigured:
        return url


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
    hint = f"; did you mean '{shown(meant)}'? A folder of that name is ./{url}" if meant else ""
    return f"{shown(url)!r} is neither a folder nor the URL of a server or log{hint}"


def without_secrets(url: str) -> str:
    """Return the URL without user name, password, and options with a password, key or token."""
    head, mark, query = url.partition("?")
    scheme, sep, rest = head.partition("://")
    if sep:
        host, slash, path = rest.partition("/")
        head = scheme + sep + host.rpartition("@")[2] + slash + path
    hidden = ("password", "secret", "token", "username", "key")
    kept = [
        option
        for option in query.split("&")
        if option and not any(word in option.partition("=")[0].lower() for word in hidden)
    ]
    return head + ("?" + "&".join(kept) if kept else "") if mark else head


def shown(url: str) -> str:
    """Return the URL without what may be a password."""
    return re.sub(r"//[^/@]*@", "//…@", url).partition("?")[0]
