"""Tables to look at: they fit, and what does not fit is said."""

from __future__ import annotations

import re

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from modeltrail.api.tables import aligned, cut, drawn, text_width

VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(10**6), 10**6),
    st.text(max_size=60),
    st.sampled_from(
        ["a\nb", "\x1b[31m", "日本語のテキスト" * 4, "e\N{COMBINING ACUTE ACCENT}" * 30]
    ),
)
TABLES = st.integers(1, 12).flatmap(
    lambda n: st.tuples(
        st.lists(st.text(min_size=1, max_size=30), min_size=n, max_size=n),
        st.lists(st.lists(VALUES, min_size=n, max_size=n), max_size=50),
    )
)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(TABLES, st.integers(40, 200), st.sampled_from([None, 10, 20]))
def test_every_line_fits_and_has_the_same_width(
    table: tuple[list[str], list[list[object]]], width: int, rows_max: int | None
) -> None:
    columns, rows = table
    *box, size = drawn(columns, rows, width, rows_max=rows_max).split("\n")
    assert len({text_width(line) for line in box}) == 1
    assert text_width(box[0]) <= width
    assert all(line.isprintable() for line in box)
    shown = box[0].count("┬") + 1
    assert f"{len(columns):,} column" in size
    if "columns (" in size:
        found = re.search(r"columns \((\d+) shown\)", size)
        assert found is not None
        assert int(found[1]) == shown - 1, "one place is for the dots"
        assert int(found[1]) < len(columns)
    else:
        assert shown == len(columns)
    if rows_max is not None and len(rows) > rows_max:
        assert f"{len(rows):,} rows ({rows_max:,} shown)" in size
    lines = aligned(columns, rows).split("\n")
    assert len(lines) == len(rows) + 1


def test_numbers_are_never_cut_and_stand_at_the_right() -> None:
    text = drawn(["name", "n"], [["x" * 200, 123_456_789_012_345], ["y", 7]], 40)
    assert "│ 123456789012345 │" in text
    assert "│               7 │" in text
    assert "x…" in text


def test_columns_are_cut_before_they_are_dropped() -> None:
    rows = [["a" * 60, "b" * 60, "c" * 60]]
    assert drawn(["a", "b", "c"], rows, 80).endswith("1 row, 3 columns")
    assert drawn(["a", "b", "c"], rows, 60).endswith("1 row, 3 columns (2 shown)")


def test_null_is_dim_where_the_terminal_can() -> None:
    text = drawn(["a"], [[None], ["NULL"]], 40, styled=True)
    assert "\x1b[2mNULL\x1b[0m" in text
    assert text.count("NULL") == 2
    assert text.count("\x1b[2mNULL") == 1


def test_wide_characters_are_cut_where_they_end() -> None:
    assert cut("日本語", 6) == "日本語"
    assert cut("日本語", 5) == "日本…"
    assert cut("日本語", 4) == "日…"
    assert text_width(cut("日本語", 4)) <= 4
