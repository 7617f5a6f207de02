"""Parse the plugin's tracking URIs."""

from __future__ import annotations

import json
import os
from typing import NamedTuple
from urllib.parse import parse_qsl, urlencode

from modeltrail.eventlog.address import absolute_url, kind_of

PREFIX = "modeltrail+"


class Address(NamedTuple):
    """A parsed tracking URI."""

    target: str
    """The target of the producers: a folder, ``kafka://`` or ``http(s)://``."""
    server: str | None
    """The server named in the URI, or the URI's own server."""

    def find_server(self, configured: str | None) -> str | None:
        """Return the server to read from, or None.

        It is the one in the URI, or else the configured one, or else the one that serves the
        folder.
        """
        found = self.server or configured
        if found is None and os.path.isabs(self.target):
            try:
                with open(os.path.join(self.target, "server.json"), encoding="utf-8") as file:
                    found = str(json.load(file)["url"])
            except (OSError, ValueError, KeyError, TypeError):
                return None
        return None if found is None else found.rstrip("/")


def parse_address(uri: str) -> Address:
    """Parse a tracking URI. A relative folder becomes absolute, based on the working directory.

    ``?server=URL`` is for the plugin; all other options are for the log.
    """
    plain = uri[len(PREFIX) :] if uri.lower().startswith(PREFIX) else uri
    head, _, query = plain.partition("?")
    options = parse_qsl(query, keep_blank_values=True)
    server = next((value for key, value in options if key == "server" and value), None)
    rest = urlencode([(key, value) for key, value in options if key != "server"])
    kind = kind_of(head)
    if kind == "folder":
        return Address(absolute_url(head), server)
    if kind == "server":
        return Address(head, server or head)
    return Address(f"{head}?{rest}" if rest else head, server)
