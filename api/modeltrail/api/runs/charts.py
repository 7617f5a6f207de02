"""The native query for charts: series of metrics in buckets."""

from __future__ import annotations

from typing import Annotated, Any, Final, NamedTuple

import duckdb
import pyarrow as pa
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from modeltrail.api.access.rights import Rights
from modeltrail.api.answers import plain
from modeltrail.api.errors import InvalidRequest
from modeltrail.api.node import Node
from modeltrail.api.runs.moments import folded, moment_of
from modeltrail.api.runs.query import Finder, RunsQuery, arrow_stream, position_of
from modeltrail.consumers.charts import Drawing, Series, TooManyPoints, draw, draw_against
from modeltrail.consumers.reading import sql
from modeltrail.consumers.sequences import losses
from modeltrail.limits import ID_CHARACTERS_MAX, KEY_CHARACTERS_MAX

RUNS_MAX: Final = 1_000
KEYS_MAX: Final = 1_000
SERIES_MAX: Final = 10_000
SYSTEM: Final = "system/"
_AXES: Final = ("step", "time", "relative")
_ENDS: Final = 2**63

_Key = Annotated[str, StringConstraints(min_length=1, max_length=KEY_CHARACTERS_MAX)]


class ChartsQuery(BaseModel):
    """Which series, and how to draw them."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "example": {
                "runs": ["0af7651916cd43dd8448eb211c80319c"],
                "keys": ["loss"],
                "x": "step",
                "from": 0,
                "to": 100_000,
                "width": 500,
            }
        },
    )

    runs: (
        list[Annotated[str, StringConstraints(min_length=1, max_length=ID_CHARACTERS_MAX)]] | None
    ) = Field(
        None,
        max_length=RUNS_MAX,
        description="Ids of runs. Those that do not exist, or that you may not read, have no "
        "series.",
    )
    query: RunsQuery | None = Field(
        None,
        description=f"Instead of ids, a query as for `/runs/query`. Its window has {RUNS_MAX:,} "
        "runs at most.",
    )
    keys: list[_Key] | None = Field(
        None,
        max_length=KEYS_MAX,
        description="Keys of metrics. If absent, all that do not begin with `system/`.",
    )
    system: bool = Field(
        False, description="Without keys: those that begin with `system/`, and no others."
    )
    x: _Key = Field(
        "step",
        description="`step`; `time`, in ms since 1970; `relative`, in ms since the start of the "
        "run, which is rounded down to a multiple of the bucket's width; or the key of a metric, "
        "whose value at the same step is x.",
    )
    low: float | None = Field(
        None, alias="from", description="Where x begins. The bucket there is whole."
    )
    high: float | None = Field(
        None, alias="to", description="Where x ends. The bucket there is whole."
    )
    as_of: str | None = Field(
        None,
        description="The points that were there at a time or a position, such as "
        "`2026-03-01T12:00:00Z` or `runs:0:41`. The query for runs has its own.",
    )
    width: int = Field(500, ge=1, le=4_000, description="How many buckets are wanted at most.")

    @model_validator(mode="after")
    def _check(self) -> ChartsQuery:
        if (self.runs is None) == (self.query is None):
            raise ValueError("name either runs or a query")
        if self.low is not None and self.high is not None and self.low > self.high:
            raise ValueError("from must not be greater than to")
        if self.x in _AXES and any(
            bound is not None and not -_ENDS < bound < _ENDS for bound in (self.low, self.high)
        ):
            raise ValueError("from and to are integers of 64 bits")
        return self


class _Found(NamedTuple):
    """A row of ``charts.series``."""

    number: int
    run_id: str
    key: str
    model_id: str | None
    dataset_name: str | None
    dataset_digest: str | None
    points: int
    min: float | None
    max: float | None
    first_step: int
    last_step: int
    first_ms: int
    last_ms: int
    status: str
    started_at_ms: int | None
    ended: bool
    events_missing: int

    def drawn(self, x: str) -> Series:
        """Return what is drawn of it."""
        ends = (self.first_step, self.last_step) if x == "step" else (self.first_ms, self.last_ms)
        return Series(self.number, *ends, self.started_at_ms or 0)


class Chart(NamedTuple):
    """An answer."""

    about: dict[str, Any]
    """All but the buckets, for JSON."""
    buckets: pa.Table


def chart(
    node: Node, cursor: duckdb.DuckDBPyConnection, rights: Rights, asked: ChartsQuery
) -> Chart:
    """Answer a query.

    Raises:
        InvalidRequest: it asks for too much, or for a moment that is not in the log.
        Unavailable: the moment is to be read from a log that is out of reach.
    """
    ids = _readable(cursor, rights, asked)
    if asked.as_of is None:
        return _chart(cursor, ids, asked)
    moment = moment_of(cursor, asked.as_of)
    numbers = [row[0] for row in cursor.execute(sql("charts.numbers"), [ids]).fetchall()]
    if not numbers:
        return _chart(cursor, [], asked)
    with folded(node, cursor, numbers, moment) as then:
        return _chart(then, ids, asked)


def _chart(cursor: duckdb.DuckDBPyConnection, ids: list[str], asked: ChartsQuery) -> Chart:
    against = None if asked.x in _AXES else asked.x
    found = _series(cursor, ids, asked.keys, system=asked.system)
    if against is None:
        drawing = draw(
            cursor,
            [one.drawn(asked.x) for one in found],
            asked.x,  # type: ignore[arg-type]
            None if asked.low is None else int(asked.low // 1),
            None if asked.high is None else int(asked.high // 1),
            asked.width,
        )
        gaps = _gaps(cursor, found, "step" if asked.x == "step" else "timestamp_ms")
    else:
        found, drawing = _against(cursor, ids, found, against, asked)
        gaps = {}
    shift = drawing.width if asked.x == "relative" else 0
    series = [
        {
            "run_id": one.run_id,
            "key": one.key,
            "model_id": one.model_id,
            "dataset_name": one.dataset_name,
            "dataset_digest": one.dataset_digest,
            "points": one.points,
            "min": plain(one.min),
            "max": plain(one.max),
            "gaps": [
                [_relative(at, one.started_at_ms or 0, shift) for at in gap]
                for gap in gaps.get(one.number, ())
            ],
            "ended_at_step": one.last_step if one.ended else None,
            "status": one.status,
        }
        for one in found
    ]
    about = {
        "series": series,
        "x": asked.x,
        "bucket_width": drawing.width,
        "exact": drawing.exact,
        "position": position_of(cursor),
    }
    return Chart(about, drawing.buckets)


def _readable(cursor: duckdb.DuckDBPyConnection, rights: Rights, asked: ChartsQuery) -> list[str]:
    """Return the ids of the runs that the caller may read."""
    if asked.query is not None:
        query = asked.query.model_copy(
            update={"columns": ["run_id"], "limit": min(asked.query.limit, RUNS_MAX)}
        )
        return [row[0] for row in Finder(cursor, rights, query).answer().rows]
    ids = list(dict.fromkeys(asked.runs or ()))
    readable = rights.readable_experiments("experiment_id")
    if readable.sql == "TRUE":
        return ids
    rows = cursor.execute(
        f"SELECT run_id FROM runs WHERE run_id IN (SELECT unnest(?::VARCHAR[])) AND {readable.sql}",
        [ids, *readable.params],
    ).fetchall()
    allowed = {row[0] for row in rows}
    return [run_id for run_id in ids if run_id in allowed]


def _series(
    cursor: duckdb.DuckDBPyConnection, ids: list[str], keys: list[str] | None, *, system: bool
) -> list[_Found]:
    value: str | list[str]
    if keys is not None:
        among, value = "s.key IN (SELECT unnest(?::VARCHAR[]))", keys
    else:
        among, value = f"{'' if system else 'NOT '}starts_with(s.key, ?)", SYSTEM
    query = sql("charts.series", keys=among)
    rows = cursor.execute(query, [ids, ids, value, SERIES_MAX + 1]).fetchall()
    if len(rows) > SERIES_MAX:
        raise InvalidRequest(
            f"these runs and keys have more than {SERIES_MAX:,} series: choose fewer of them"
        )
    return [_Found(*row) for row in rows]


def _against(
    cursor: duckdb.DuckDBPyConnection,
    ids: list[str],
    found: list[_Found],
    key: str,
    asked: ChartsQuery,
) -> tuple[list[_Found], Drawing]:
    """Return the series of runs that have the other metric, and their buckets."""
    others: dict[str, _Found] = {}
    for one in _series(cursor, ids, [key], system=False):
        others.setdefault(one.run_id, one)
    found = [one for one in found if one.run_id in others]
    points = sum(one.points + others[one.run_id].points for one in found)
    pairs = [(one.number, others[one.run_id].number) for one in found]
    try:
        return found, draw_against(cursor, pairs, points, asked.low, asked.high, asked.width)
    except TooManyPoints as error:
        raise InvalidRequest(f"x: {error}") from None


def _gaps(
    cursor: duckdb.DuckDBPyConnection, found: list[_Found], x: str
) -> dict[int, list[list[int | None]]]:
    """Return where events are missing, by series: from the point before to the one after."""
    incomplete = sorted({one.run_id for one in found if one.events_missing > 0})
    if not incomplete:
        return {}
    times: dict[str, list[int]] = {}
    for subject, gaps in cursor.execute(sql("charts.gaps"), [incomplete]).fetchall():
        times.setdefault(subject.partition("/")[2], []).extend(losses(gaps))
    wanted = [(one.number, ms) for one in found for ms in times.get(one.run_id, ())]
    if not wanted:
        return {}
    numbers, after = zip(*wanted, strict=True)
    table = {"series": pa.array(numbers, pa.int32()), "after_ms": pa.array(after, pa.int64())}
    cursor.register("wanted", pa.table(table))
    out: dict[int, list[list[int | None]]] = {}
    for number, _, begin, end in cursor.execute(sql("charts.around", x=x)).fetchall():
        out.setdefault(number, []).append([begin, end])
    cursor.unregister("wanted")
    return {number: sorted(gaps, key=_by_begin) for number, gaps in out.items()}


def _by_begin(gap: list[int | None]) -> int:
    return -_ENDS if gap[0] is None else gap[0]


def _relative(at: int | None, started_at_ms: int, width: float) -> int | None:
    if at is None or not width:
        return at
    return at - started_at_ms // int(width) * int(width)


def as_json(found: Chart) -> dict[str, Any]:
    """Return an answer for JSON. NaN and infinities are text."""
    rows = found.buckets.to_pylist()
    return {
        **found.about,
        "rows": [{name: plain(value) for name, value in row.items()} for row in rows],
    }


def as_arrow(found: Chart) -> bytes:
    """Return an answer as an Arrow stream, with all but the buckets in the schema's metadata."""
    table = found.buckets.combine_chunks()
    nothing = pa.RecordBatch.from_pylist([], schema=table.schema)
    return arrow_stream(table.to_batches() or [nothing], found.about)
