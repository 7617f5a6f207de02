"""The parser of the command line, and the types of its options.

A value is checked while it is parsed, so that a mistake costs nothing: a message with what is
expected, and exit code 2. Nothing heavy is imported, so that help appears at once.
"""

from __future__ import annotations

import argparse
import math
import os
import re
import sys
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any, NoReturn
from urllib.parse import urlsplit

from modeltrail.api.errors import did_you_mean

_CLOCK_SKEW_S = 60.0
_SHOWN_CHARACTERS = 100
_SPAN_UNITS_S = {"m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_POSITION = re.compile(r"(runs|registry):[0-9]{1,9}:[0-9]{1,18}")
_SIZE = re.compile(r"([0-9]{1,12}(?:\.[0-9]{1,6})?) ?([KMGT]?)(i?)B", re.I)
_MEMORY_BYTES_MIN = 64 * 1024**2

Bad = argparse.ArgumentTypeError


class Parser(argparse.ArgumentParser):
    """A parser that suggests corrections."""

    def __init__(self, *args: Any, **options: Any) -> None:
        """Make a parser. The arguments that it parses remember it."""
        super().__init__(*args, **options)
        self.set_defaults(parser=self)

    def commands(self) -> dict[str, Parser]:
        """Return the commands of a group by name; empty for a command."""
        groups = (a for a in self._actions if isinstance(a, argparse._SubParsersAction))
        return {name: parser for group in groups for name, parser in group.choices.items()}

    def parse_args(  # type: ignore[override]
        self, args: Sequence[str] | None = None, namespace: argparse.Namespace | None = None
    ) -> argparse.Namespace:
        """Parse the arguments. The command itself reports arguments that it does not know."""
        for text in sys.argv[1:] if args is None else args:
            try:
                text.encode()
            except UnicodeEncodeError:
                self.error(f"{text!a} is not text in UTF-8")
        found, unknown = self.parse_known_args(args, namespace)
        if unknown:
            parser: Parser = found.parser
            parser.error(_unknown(parser, unknown))
        return found

    def error(self, message: str) -> NoReturn:
        """Print what is wrong and where help is. Exits with code 2."""
        if message == "the following arguments are required: COMMAND":
            sys.stderr.write(self.format_help())
            sys.exit(2)
        wrong = re.match(r"argument (\S+): invalid choice: '(.*?)' \(choose from (.*)\)", message)
        if wrong is not None:
            choices = re.findall(r"'(.*?)'", wrong[3])
            what = "command" if wrong[1] == "COMMAND" else wrong[1]
            message = f"there is no {what} {wrong[2]!r}" if what == "command" else (
                f"{what}: {wrong[2]!r} is none of {', '.join(choices)}"
            )  # fmt: skip
            message += did_you_mean(wrong[2], choices)
        message = message.removeprefix("argument ")
        sys.stderr.write(f"{self.prog}: {message}\nhelp: {self.prog} --help\n")
        sys.exit(2)


def _unknown(parser: Parser, unknown: Sequence[str]) -> str:
    first = next((text for text in unknown if text.startswith("-")), unknown[0])
    name = first.partition("=")[0]
    if not name.startswith("-"):
        return f"{name!r} is one argument too many; put quotes around a text with spaces"
    known = [option for action in parser._actions for option in action.option_strings]
    return f"there is no option {name}{did_you_mean(name, known)}"


def check_environment() -> None:
    """Check the environment like options. Raises ``argparse.ArgumentTypeError``."""
    for name, check in (("MODELTRAIL_URL", target), ("MODELTRAIL_SERVER", server)):
        value = os.environ.get(name)
        if value:
            try:
                check(value)
            except Bad as error:
                raise Bad(f"{name}: {error}") from None


# Types of options


def _short(text: str) -> str:
    return repr(text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]}…")


def text(value: str) -> str:
    """Parse a text that is not blank, such as a name or path."""
    if not value.strip():
        raise Bad("expected some text, not an empty value")
    return value


def whole(low: int, high: int) -> Callable[[str], int]:
    """Return a type for whole numbers within bounds."""

    def parse(value: str) -> int:
        if re.fullmatch(r"-?[0-9]{1,20}", value) and low <= int(value) <= high:
            return int(value)
        raise Bad(f"expected a whole number from {low:,} to {high:,}, not {_short(value)}")

    return parse


def seconds(low: float, high: float) -> Callable[[str], float]:
    """Return a type for seconds within bounds."""

    def parse(value: str) -> float:
        try:
            number = float(value)
        except ValueError:
            number = math.nan
        if not low <= number <= high:
            raise Bad(f"expected seconds, from {low:g} to {high:,.0f}, not {_short(value)}")
        return number

    return parse


port = whole(0, 65535)


def memory(value: str) -> int:
    """Parse a size of memory in DuckDB's form. Returns bytes."""
    found = _SIZE.fullmatch(value.strip())
    if found is None:
        raise Bad(f'expected a size as in "4GB" or "512MiB", not {_short(value)}')
    unit = 1024 if found[3] else 1000
    size = float(found[1]) * unit ** " KMGT".index(found[2].upper() or " ")
    if size < _MEMORY_BYTES_MIN:
        raise Bad(f"expected at least 64MiB, not {_short(value)}")
    return int(size)


def _host_of(value: str, schemes: Sequence[str]) -> str | None:
    """Return the host in a URL with one of these schemes, or None."""
    try:
        parts = urlsplit(value)
        number = parts.port
    except ValueError:
        return None
    good = parts.scheme.lower() in schemes and f"{parts.scheme}://" in value and number != 0
    return parts.hostname if good and not re.search(r"\s", value) else None


def server(value: str) -> str:
    """Parse the URL of a server."""
    if _host_of(value, ("http", "https")) is None:
        raise Bad(f"not the URL of a server: {_short(value)}; expected as in http://host:5000")
    return value


def folder(value: str) -> str:
    """Parse the path of a local folder."""
    if "://" in value or re.match(r"(https?|kafka|memory)(:|/+$|//)", value):
        raise Bad(f"not a folder: {_short(value)}; use --server for a server, and --log for a log")
    if value.startswith("file:") and urlsplit(value).netloc:
        raise Bad(f"not a folder of this machine: {_short(value)}")
    from modeltrail.eventlog import mistake_in

    wrong = mistake_in(value)
    if wrong is not None:
        raise Bad(wrong)
    return text(value)


def log(value: str) -> str:
    """Parse the URL of a log. Its contents are checked when it is opened."""
    from modeltrail.eventlog.address import kind_of

    kind = kind_of(value)
    # Several brokers are allowed, which the library does not accept in a URL.
    brokers = re.fullmatch(r"kafka://([^/?#\s]+)([/?].*)?", value)
    if kind not in ("folder", "kafka", "memory") or (kind == "kafka" and brokers is None):
        raise Bad(
            f"not the URL of a log: {_short(value)}; expected a folder, or as in "
            "kafka://host:9092/prefix"
        )
    return text(value)


def target(value: str) -> str:
    """Parse a server, a log or a folder."""
    if re.match(r"https?(:|/)", value):
        return server(value)
    return log(value) if re.match(r"(kafka|memory)(:|/+$|//)", value) else folder(value)


def artifacts(value: str) -> str:
    """Parse a place for artifacts."""
    scheme = re.match(r"([A-Za-z][A-Za-z0-9+.-]+):", value)
    if scheme is not None and scheme[1].lower() not in (
        *("file", "s3", "gs", "az", "abfs", "abfss"),
    ):
        raise Bad(
            f"artifacts cannot be kept at {_short(value)}; expected a folder, s3://bucket/prefix, "
            "gs://…, az://… or abfss://…"
        )
    return text(value)


def network(value: str) -> str:
    """Parse an address or a network."""
    import ipaddress

    try:
        return str(ipaddress.ip_network(value))
    except ValueError as error:
        raise Bad(f"not an address or a network: {error}") from None


def public_key(value: str) -> bytes:
    """Parse a public key."""
    if not re.fullmatch(r"[0-9a-fA-F]{64}", value):
        raise Bad(f"a public key is 64 hexadecimal digits, not {_short(value)}")
    return bytes.fromhex(value)


def result_file(value: str) -> str:
    """Return a type for files whose suffix is the format of a result."""
    suffixes = (".parquet", ".csv", ".json", ".arrow")
    if not value.lower().endswith(suffixes):
        raise Bad(f"{_short(value)} must end in {', '.join(suffixes)}")
    return value


def first_line(value: str) -> str:
    """The first line of a file, as a secret is kept in one."""
    try:
        with open(value, encoding="utf-8") as file:
            return text(file.readline().rstrip("\r\n"))
    except (OSError, UnicodeDecodeError) as error:
        raise Bad(f"cannot read {_short(value)}: {error}") from None


def _time_of(value: str) -> float | None:
    """Return an ISO 8601 time as seconds since 1970, by default in UTC, or None."""
    try:
        moment = datetime.fromisoformat(value.strip())
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
        return moment.astimezone(UTC).timestamp()
    except (ValueError, OverflowError):
        return None


def past(value: str) -> str:
    """Parse a time that is not in the future."""
    seconds = _time_of(value)
    if seconds is None:
        raise Bad(f"not a time: {_short(value)}; expected as in 2026-03-01T12:00:00Z")
    if seconds > time.time() + _CLOCK_SKEW_S:
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        raise Bad(f"{_short(value)} is in the future (it is {now})")
    return value.strip()


def moment(value: str) -> str:
    """Parse a time that is not in the future, or a position."""
    if _POSITION.fullmatch(value):
        return value
    if _time_of(value) is None:
        raise Bad(
            f"neither a time nor a position: {_short(value)}; expected as in "
            "2026-03-01T12:00:00Z or registry:0:17"
        )
    return past(value)


def expiry(value: str) -> int:
    """Parse an expiry: a span from now or a future time. Returns ms since 1970 UTC."""
    span = re.fullmatch(r"([0-9]{1,4})([mhdw])", value)
    if span is not None:
        end: float | None = time.time() + int(span[1]) * _SPAN_UNITS_S[span[2]]
    else:
        end = _time_of(value)
    if end is None:
        raise Bad(f"neither a span (90d, 12h) nor a time (2027-01-31): {_short(value)}")
    if end <= time.time():
        raise Bad(f"{_short(value)} is not in the future")
    return int(end * 1000)


def columns(value: str) -> list[str]:
    """Parse columns of runs, separated by commas."""
    names = [name.strip() for name in value.split(",")]
    for name in names:
        kind, dot, key = name.partition(".")
        if kind not in ("metrics", "params", "tags") or not dot or not key:
            raise Bad(f"expected as in metrics.loss,params.lr,tags.team, not {_short(name)}")
    return names


def request_type(value: str) -> str:
    """Parse the type of a registry request."""
    from modeltrail.schemas import event_stream, event_types

    known = [name for name in event_types() if event_stream(name) == "registry"]
    if value not in known:
        raise Bad(f"there is no event type {_short(value)}{did_you_mean(value, known)}")
    return value


_PLACEHOLDERS = {
    **dict.fromkeys(("artifacts", "log", "server", "target"), "URL"),
    **dict.fromkeys(("expiry", "past"), "TIME"),
    **{"columns": "NAMES", "folder": "FOLDER", "memory": "SIZE", "moment": "TIME|POSITION"},
    **{"network": "ADDRESS", "public_key": "HEX", "result_file": "FILE", "seconds": "SECONDS"},
    **{"text": "TEXT", "whole": "N"},
}


def option(
    to: Any, name: str, type: Callable[[str], Any], help: str, *, repeat: bool = False, **more: Any
) -> None:
    """Add an argument to a parser or group. Its type determines the placeholder in the help."""
    more = {"metavar": _PLACEHOLDERS.get(type.__qualname__.partition(".")[0]), **more}
    if repeat:
        more |= {"action": "append", "default": []}
    to.add_argument(name, type=type, help=help, **more)


def flag(to: Any, name: str, help: str) -> None:
    """Add an option without a value to a parser or group."""
    to.add_argument(name, action="store_true", help=help)
