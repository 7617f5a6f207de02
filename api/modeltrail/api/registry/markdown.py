"""Text and tables in Markdown, with what users wrote shown as it is."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

_SPECIAL = re.compile(r"([\\`*_{}\[\]<>()#+!|~&])")
_CHARACTERS_MAX = 500


def text(value: Any) -> str:
    """Return a value as text of one line, without a meaning in Markdown or HTML."""
    if value is None:
        return ""
    shown = " ".join(str(value).split())
    if len(shown) > _CHARACTERS_MAX:
        shown = shown[:_CHARACTERS_MAX] + "…"
    return _SPECIAL.sub(r"\\\1", shown)


def table(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Return a table."""
    lines = [head, ["---"] * len(head)]
    shown = [list(cells) for cells in lines] + [[text(cell) for cell in row] for row in rows]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in shown)
