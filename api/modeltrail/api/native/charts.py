"""Charts of metrics: many series, in buckets that keep every extreme."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Header, Query
from starlette.responses import Response

from modeltrail.api.native.parameters import CallerHere, LogEnd, NodeHere, answer
from modeltrail.api.routing import PooledRoute
from modeltrail.api.runs.charts import ChartsQuery, as_arrow, as_json, chart
from modeltrail.api.sql.formats import FORMATS

router = APIRouter(prefix="/api/v1", tags=["runs"], route_class=PooledRoute)

_ARROW = FORMATS["arrow"][0]
_FOUND: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "Buckets by series (its place in `series`) and start (`bucket`). `lo`, `hi` "
        "and `sum` are of finite values, and `lo` and `hi` are null if there is none; `first` and "
        "`last` are by step, then time; `n` counts all points, and `nan`, `pos_inf` and `neg_inf` "
        "those that are not finite. In JSON, NaN and infinities are text. In an Arrow stream "
        "everything but the rows is JSON in the metadata `modeltrail` of its schema.",
        "content": {
            "application/json": {
                "example": {
                    "series": [
                        {
                            "run_id": "0af7651916cd43dd8448eb211c80319c",
                            "key": "loss",
                            "model_id": None,
                            "dataset_name": None,
                            "dataset_digest": None,
                            "points": 1_000_000,
                            "min": 0.03,
                            "max": 9.5,
                            "gaps": [[4_100, 4_300]],
                            "ended_at_step": 999_999,
                            "status": "FINISHED",
                        }
                    ],
                    "x": "step",
                    "bucket_width": 2_048,
                    "exact": False,
                    "position": {"registry": "registry:0:31", "runs": ["runs:0:41"]},
                    "rows": [
                        {
                            "series": 0,
                            "bucket": 0,
                            "lo": 0.9,
                            "hi": 9.5,
                            "first": 1.0,
                            "last": 0.9,
                            "sum": 2_100.5,
                            "n": 2_048,
                            "nan": 0,
                            "pos_inf": 0,
                            "neg_inf": 0,
                        }
                    ],
                }
            },
            _ARROW: {},
        },
    }
}


@router.post("/charts", summary="Charts of metrics", responses=_FOUND, response_class=Response)
def charts(
    asked: ChartsQuery,
    node: NodeHere,
    caller: CallerHere,
    log_end: LogEnd,
    format: Annotated[
        Literal["json", "arrow"] | None,
        Query(description="`json`, or by the header `Accept` `arrow`."),
    ] = None,
    accept: Annotated[str, Header(include_in_schema=False)] = "",
) -> Response:
    """Series of metrics in buckets, as many as are wanted, of runs that you may read.

    A bucket has the true minimum and maximum of its points. Its width is a power of two and its
    start a multiple of that, the same for all series, so lines do not move when points are added.
    Zoom with `from` and `to`: `exact` is true when no bucket has more than one point. `gaps` says
    where events of a run are missing, from the last point before to the first one after.
    """
    with node.read(log_end=log_end) as cursor:
        found = chart(node, cursor, caller.rights, asked)
    if format == "arrow" or (format is None and _ARROW in accept):
        return Response(as_arrow(found), media_type=_ARROW)
    return answer(as_json(found))
