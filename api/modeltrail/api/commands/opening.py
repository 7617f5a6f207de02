"""`modeltrail open`."""

from __future__ import annotations

import argparse
import os
import sys
import webbrowser
from urllib.parse import quote

from modeltrail.api.commands.common import CommandError, data_folder, note, say, server_of
from modeltrail.api.remote import Server


def open_page(args: argparse.Namespace) -> int:
    """Open the page of the server, or print its address where there is no browser."""
    server = server_of(args)
    if server is None:
        folder = data_folder(args).path
        raise CommandError(
            f"no server runs on {folder}; start one with: modeltrail serve --data {folder}"
        )
    address = f"{Server(server).url}/{quote((args.page or '').lstrip('/'), safe='/?=&#:@,%')}"
    if args.only_print:
        say(address)
        return 0
    if not (_has_window() and webbrowser.open(address)):
        note("there is no browser here; open this address in one:")
    say(address)
    return 0


def _has_window() -> bool:
    """Return whether a browser can show a window: elsewhere it would fill the terminal."""
    shown = any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER"))
    return shown or sys.platform in ("darwin", "win32", "cygwin")
