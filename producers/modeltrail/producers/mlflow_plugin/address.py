"""Tracking URIs of the plugin, taken apart."""

from __future__ import annotations

import json
import os
from typing import NamedTuple
from urllib.parse import parse_qsl, urlencode

from modeltrail.producers.settings import absolute_url

PREFIX = "modeltrail+"


class Address(NamedTuple):
    """Where a tracking URI leads."""

    target: str
    """What the producers log to: a folder, ``kafka://`` or ``http(s)://``."""
    server: str | None
    """The server that the URI names, or that it is."""

    def find_server(self, configured: str | None) -> str | None:
        """The server to read from, as far as anybody says where it is.

        That is the one of the URI, else the configured one, else the one that serves the folder.
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
    """Take a tracking URI apart; a relative folder is one of the working directory as of now.

    ``?server=URL`` is for the plugin; all other options are the log's.
    """
    plain = uri[len(PREFIX) :] if uri.lower().startswith(PREFIX) else uri
    head, _, query = plain.partition("?")
    options = parse_qsl(query, keep_blank_values=True)
    server = next((value for key, value in options if key == "server" and value), None)
    rest = urlencode([(key, value) for key, value in options if key != "server"])
    scheme = head.partition(":")[0].lower()
    if scheme == "file":
        return Address(absolute_url(head), server)
    if scheme in ("http", "https"):
        return Address(head, server or head)
    return Address(f"{head}?{rest}" if rest else head, server)
