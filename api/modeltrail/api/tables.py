"""Tables for a terminal, drawn as in DuckDB's shell, with the standard library alone.

Content that does not fit is left out, and the table says so: long values are cut, then columns in
the middle are dropped; rows in the middle are counted.
"""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Any

ROWS_SHOWN = 20
_TYPE_CHARACTERS = 12
_CUT_TO_MIN = 20
"""Minimum width of a cut column, in characters; beyond that columns are dropped."""

Rows = Sequence[Sequence[Any]]


def drawn(
    columns: Sequence[str],
    rows: Rows,
    width: int,
    *,
    types: Sequence[str] = (),
    null: str = "NULL",
    rows_max: int | None = ROWS_SHOWN,
    styled: bool = False,
) -> str:
    """Return a table in a box.

    Args:
        columns: Names of the columns.
        rows: Values; numbers are right-aligned.
        width: Maximum width of a line, in characters.
        types: Types of the columns, for a second header line.
        null: Text for None.
        rows_max: How many rows to show, half of them the first and half the last; None for all.
        styled: Whether the terminal supports bold and dim. Dim distinguishes NULL from text.
    """
    head, tail = split(rows, rows_max)
    cells = [[cell_text(v, null) for v in row] for row in (*head, *tail)]
    names = [cell_text(name) for name in columns]
    kinds = [cell_text(kind).strip('"').lower() for kind in types]
    numeric = [
        all(v is None or _is_number(v) for v in values) and any(v is not None for v in values)
        for values in zip(*head, *tail, strict=True)
    ] or [False] * len(columns)
    short = [kind[:_TYPE_CHARACTERS] for kind in kinds]
    heads = [names, short] if kinds else [names]
    wanted = [max(map(text_width, texts)) for texts in zip(*heads, *cells, strict=True)]
    kept, sizes = _fitting(wanted, numeric, width)
    nulls = [[value is None for value in row] for row in (*head, *tail)]
    bold, dim = (_style(code) if styled else str for code in (1, 2))

    def line(texts: Sequence[str], right: Sequence[bool], style: Callable[[int, str], str]) -> str:
        shown = [
            dim("…") if at is None else style(at, _padded(texts[at], sizes[at], right[at]))
            for at in kept
        ]
        return f"{dim('│')} {dim(' │ ').join(shown)} {dim('│')}"

    def rule(left: str, middle: str, right: str) -> str:
        return dim(
            left + middle.join("─" * (3 if a is None else sizes[a] + 2) for a in kept) + right
        )

    left_all = [False] * len(columns)
    lines = [
        line(row, numeric, lambda at, text, gone=gone: dim(text) if gone[at] else text)  # type: ignore[misc]
        for row, gone in zip(cells, nulls, strict=True)
    ]
    if tail:
        lines.insert(len(head), line(["·"] * len(columns), left_all, lambda _, text: dim(text)))
    top = [line(names, left_all, lambda _, text: bold(text))]
    if kinds:
        top.append(line(kinds, left_all, lambda _, text: dim(text)))
    return "\n".join(
        [
            rule("┌", "┬", "┐"),
            *top,
            rule("├", "┼", "┤"),
            *lines,
            rule("└", "┴", "┘"),
            size_text(len(columns), len(rows), len(kept) - (None in kept), len(head) + len(tail)),
        ]
    )


def aligned(columns: Sequence[str], rows: Rows, *, null: str = "") -> str:
    """Return a table for programs and files: nothing is cut, and there is no box."""
    cells = [[cell_text(v, null) for v in row] for row in (columns, *rows)]
    sizes = [max(map(text_width, texts)) for texts in zip(*cells, strict=True)]
    return "\n".join(
        "  ".join(
            _padded(text, size, False) for text, size in zip(row, sizes, strict=True)
        ).rstrip()
        for row in cells
    )


def split(rows: Rows, rows_max: int | None) -> tuple[Rows, Rows]:
    """Return the first and the last rows if there are too many; else all, and none."""
    if rows_max is None or len(rows) <= rows_max:
        return rows, []
    half = rows_max // 2
    return rows[:half], rows[-half:]


def size_text(columns: int, rows: int, columns_shown: int, rows_shown: int) -> str:
    """Return how many rows and columns there are, and how many of them are shown."""

    def count(n: int, shown: int, what: str) -> str:
        return f"{n:,} {what}{'' if n == 1 else 's'}" + (f" ({shown:,} shown)" if shown < n else "")

    return f"{count(rows, rows_shown, 'row')}, {count(columns, columns_shown, 'column')}"


def cell_text(value: Any, null: str = "NULL") -> str:
    """Return a value in one line, without control characters that could steer the terminal."""
    if value is None:
        text = null
    elif isinstance(value, bool):
        text = "true" if value else "false"
    elif isinstance(value, (list, dict)):
        text = json.dumps(value, ensure_ascii=False, default=str)
    elif isinstance(value, bytes):
        text = value.hex()
    else:
        text = str(value)
    if text.isprintable():
        return text
    text = text.replace("\n", "\\n").replace("\r", "\\r").replace("\t", "\\t")
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)


def text_width(text: str) -> int:
    """Return how many terminal cells a text takes."""
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1
        for c in text
    )


def cut(text: str, size: int) -> str:
    """Return a text, cut if it is too long."""
    if text_width(text) <= size:
        return text
    while text_width(text) >= size:
        text = text[: size - 1] if len(text) >= size else text[:-1]
    return f"{text}…"


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float, Decimal)) and not isinstance(value, bool)


def _padded(text: str, size: int, right: bool) -> str:
    text = cut(text, size)
    space = " " * (size - text_width(text))
    return space + text if right else text + space


def _style(code: int) -> Callable[[str], str]:
    return lambda text: f"\x1b[{code}m{text}\x1b[0m"


def _fitting(
    wanted: Sequence[int], numeric: Sequence[bool], width: int
) -> tuple[list[int | None], list[int]]:
    """Return the columns that fit and their widths.

    None stands for dropped columns in the middle.
    """
    kept: list[int] = list(range(len(wanted)))

    def sizes(most: int) -> list[int]:
        # A number must not be cut, because it would be another number.
        return [n if right else min(n, most) for n, right in zip(wanted, numeric, strict=True)]

    def fits(most: int) -> bool:
        dropped = 4 if len(kept) < len(wanted) else 0
        chosen = sizes(most)
        return sum(chosen[at] + 3 for at in kept) + 1 + dropped <= width

    least = min(_CUT_TO_MIN, max(width - 4, 1))
    while len(kept) > 2 and not fits(least):
        del kept[len(kept) // 2]
    most = max(wanted, default=0)
    low = least if fits(least) else 3
    while low < most:  # find the widest that fits
        middle = (low + most + 1) // 2
        low, most = (middle, most) if fits(middle) else (low, middle - 1)
    places: list[int | None] = list(kept)
    if len(kept) < len(wanted):
        places.insert((len(kept) + 1) // 2, None)
    return places, sizes(max(low, 1))
