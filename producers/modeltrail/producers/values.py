"""Convert the caller's values to plain ones at once, so that no caller's object is kept."""

from __future__ import annotations

from typing import Any

from modeltrail.limits import INT64_MAX, KEY_CHARACTERS_MAX


def as_float(value: Any) -> float:
    """Return a number of any kind as a float: bool, int, NumPy scalar, tensor of one element.

    Text is refused even if it spells a number, because it is more likely a mistake than a metric.

    Raises:
        Exception: any error of the value's own conversion.
    """
    if isinstance(value, str | bytes | bytearray):
        raise TypeError(f"a metric must be a number, not {type(value).__name__}")
    try:
        return float(value)
    except TypeError:
        return float(value.item())


def as_step(step: Any) -> int:
    """Return a step as an int of 64 bits.

    Raises:
        OverflowError: it does not fit.
        Exception: any error of the value's own conversion.
    """
    number = int(step)
    if not -INT64_MAX - 1 <= number <= INT64_MAX:
        raise OverflowError("a step must fit into 64 bits")
    return number


def as_text(value: Any) -> str:
    """Return ``str(value)`` as valid UTF-8: lone surrogates become escapes."""
    text = str(value)
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-8", "backslashreplace").decode()
    return "".join(text) if type(text) is not str else text


def is_key(key: Any) -> bool:
    """Return whether this is text of 1 to 250 characters that UTF-8 can encode."""
    if not isinstance(key, str) or not 0 < len(key) <= KEY_CHARACTERS_MAX:
        return False
    return key.isascii() or as_text(key) == key


def artifact_name(path: Any) -> str:
    """Return a safe relative path with '/' separators. Raises ``ValueError``."""
    text = as_text(path).replace("\\", "/")
    parts = [part for part in text.split("/") if part not in ("", ".")]
    if text.startswith("/") or ".." in parts or not parts or "\0" in text or len(text) > 1024:
        raise ValueError(f"not a relative path within a run's artifacts: {text[:200]!r}")
    return "/".join(parts)
