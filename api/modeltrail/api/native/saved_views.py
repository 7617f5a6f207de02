"""Saved views of pages."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query
from starlette.responses import Response

from modeltrail.api.answers import rows
from modeltrail.api.native.parameters import (
    AsOf,
    CallerHere,
    LogEnd,
    NodeHere,
    answer,
    json_example,
)
from modeltrail.api.registry.reading import offset_of
from modeltrail.api.routing import PooledRoute
from modeltrail.consumers.reading import sql

_VIEWS_MAX = 10_000
router = APIRouter(prefix="/api/v1", tags=["registry"], route_class=PooledRoute)

_VIEW = {
    "view_id": 31,
    "name": "best of the week",
    "experiment_id": "5230471834401",
    "shared": True,
    "owner": "ada",
    "page": "runs",
    "query": "filter=metrics.loss%20%3C%200.1&columns=params.lr",
    "description": None,
    "created_at": "2026-03-01T12:00:00.000000Z",
    "updated_at": "2026-03-01T12:00:00.000000Z",
    "updated_by": "ada",
    "reason": None,
}


@router.get("/views", summary="Saved views", responses=json_example({"views": [_VIEW]}))
def list_views(
    node: NodeHere,
    caller: CallerHere,
    log_end: LogEnd,
    as_of: AsOf = None,
    experiment: Annotated[
        str | None, Query(description="Only those of this experiment, by id.")
    ] = None,
    page: Annotated[str | None, Query(description="Only those of this page.")] = None,
    history: Annotated[bool, Query(description="Also what each showed before.")] = False,
) -> Response:
    """One's own views, and shared ones: of experiments that the caller may read, and of none.

    Now, or at an earlier moment.
    """
    readable, values = caller.rights.readable_experiments("experiment_id").named()
    with node.read(log_end=log_end) as cursor:
        found = rows(
            cursor,
            sql("saved_views.at", readable=readable),
            {
                **values,
                "at": offset_of(cursor, as_of),
                "owner": caller.actor.name,
                "experiment_id": experiment,
                "page": page,
                "limit": _VIEWS_MAX,
            },
        )
        if history:
            earlier: dict[int, list[dict[str, Any]]] = {one["view_id"]: [] for one in found}
            for row in rows(cursor, sql("saved_views.history"), [[str(id) for id in earlier]]):
                earlier[row.pop("view_id")].append(row)
            for one in found:
                one["history"] = earlier[one["view_id"]]
    return answer({"views": found})
