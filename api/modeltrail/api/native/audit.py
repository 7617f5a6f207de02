"""The audit trail."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Path, Query
from starlette.responses import Response

from modeltrail.api.answers import page
from modeltrail.api.artifacts import check
from modeltrail.api.errors import InvalidRequest, NotFound
from modeltrail.api.native.history import CHANGE
from modeltrail.api.native.parameters import (
    AsOf,
    CallerHere,
    Limit,
    LogEnd,
    NodeHere,
    PageToken,
    answer,
    json_example,
)
from modeltrail.api.pages import Pages
from modeltrail.api.registry.difference import changes
from modeltrail.api.registry.reading import offset_of, registry_position
from modeltrail.api.registry.trail import FACETS, trail
from modeltrail.api.registry.trail import facets as counted
from modeltrail.api.routing import PooledRoute
from modeltrail.consumers.chain import heads, links
from modeltrail.eventlog import REGISTRY_PARTITION, Partition

_CHANGES_MAX = 10_000
Outcome = Literal["accepted", "refused", "repeat", "dead_letter"]
_EVENTS = Pages("events")
_ARTIFACTS = Pages("artifacts")
_EVENT = {
    "log_offset": 17,
    "appended_at": "2026-03-01T12:00:00.000000Z",
    "event_id": "0195a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5b",
    "type": "SetRegisteredModelAlias",
    "actor": "ada",
    "actor_verified": True,
    "client": "curl/8",
    "reason": "beats the champion by 2 points",
    "entity": "alias",
    "model": "digits",
    "version": 3,
    "alias": "champion",
    "experiment_id": None,
    "about": "model digits@champion version 3",
    "accepted": True,
    "code": None,
    "message": None,
    "request": {"model": "digits", "alias": "champion", "version": 3},
    "hash": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
}
router = APIRouter(prefix="/api/v1", tags=["audit"], route_class=PooledRoute)


@router.get(
    "/audit",
    summary="Who did what, when, why, and what became of it",
    responses=json_example(
        {
            "events": [_EVENT],
            "next_page_token": None,
            "facets": {"outcome": [{"value": "accepted", "events": 16}]},
        }
    ),
)
def audit(
    node: NodeHere,
    caller: CallerHere,
    log_end: LogEnd,
    as_of: AsOf = None,
    model: Annotated[str | None, Query(description="Registered model.")] = None,
    version: Annotated[int | None, Query(ge=1, le=2**62)] = None,
    alias: str | None = None,
    experiment: Annotated[str | None, Query(description="Experiment id.")] = None,
    actor: str | None = None,
    type: Annotated[str | None, Query(description="Event type.")] = None,
    accepted: Annotated[bool | None, Query(description="Only accepted, or only refused.")] = None,
    outcome: Annotated[Outcome | None, Query(description="What became of it.")] = None,
    since: Annotated[str | None, Query(description="Appended at or after this time.")] = None,
    until: Annotated[str | None, Query(description="Appended before this time.")] = None,
    facets: Annotated[
        str | None,
        Query(
            description="Also count by these, with commas between them: actor, type, model, "
            "outcome. Each under the filters of the others."
        ),
    ] = None,
    limit: Limit = 100,
    page_token: PageToken = None,
) -> Response:
    """Every request to the registry, newest first, including refusals, repeats and dead letters.

    With `--auth`, users who may not read everything see the requests about experiments and models
    that they may read.
    """
    filters: dict[str, Any] = {
        "model": model,
        "version": version,
        "alias": alias,
        "experiment": experiment,
        "actor": actor,
        "type": type,
        "accepted": accepted,
        "outcome": outcome,
        "since": since,
        "until": until,
    }
    last = _EVENTS.last(page_token, int)
    names = [] if facets is None else facets.split(",")
    unknown = sorted(set(names) - set(FACETS))
    if unknown:
        raise InvalidRequest(f"facets: expected some of {', '.join(FACETS)}, got {unknown[0]!r}")
    with node.read(log_end=log_end) as cursor:
        filters["up_to"] = None if as_of is None else offset_of(cursor, as_of)
        events = trail(cursor, filters, limit + 1, None if last is None else last[0], caller.rights)
        body = page(events, limit, _EVENTS, ["log_offset"])
        if names:
            body["facets"] = counted(cursor, filters, names, caller.rights)
    return answer(body)


@router.get(
    "/audit/artifacts",
    summary="What is recorded of each file",
    responses=json_example(
        {
            "artifacts": [
                {
                    "kind": "run",
                    "id": "0af7651916cd43dd8448eb211c80319c",
                    "path": "model/model.pkl",
                    "size_bytes": 1024,
                    "sha256": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
                    "location": "file:///data/artifacts/RUN/model/model.pkl",
                    "logged_at": "2026-03-01T12:00:00.000000Z",
                }
            ],
            "total": 1,
            "elsewhere": [],
            "next_page_token": None,
        }
    ),
)
def audit_artifacts(
    node: NodeHere,
    log_end: LogEnd,
    run: Annotated[str | None, Query(description="Of this run, and models it logged.")] = None,
    model: Annotated[str | None, Query(description="Of this registered model's versions.")] = None,
    limit: Limit = 1_000,
    page_token: PageToken = None,
) -> Response:
    """The latest record of each existing file, for `modeltrail audit verify`.

    `total` counts them on all pages; `elsewhere` lists versions whose files are stored elsewhere.
    """
    last = _ARTIFACTS.last(page_token, str, str, str)
    with node.read(log_end=log_end) as cursor:
        roots, elsewhere = check.roots(cursor, run, model)
        records = check.recorded(cursor, roots, limit + 1, last)
        total = check.count(cursor, roots)
    body = page(records, limit, _ARTIFACTS, ["kind", "id", "path"])
    return answer({**body, "total": total, "elsewhere": elsewhere})


@router.get(
    "/audit/chain",
    summary="The hash chains as this server folded them",
    responses=json_example(
        {
            "heads": {"registry:0": {"offset": 17, "hash": "9f86d081884c7d65…"}},
            "links": [[0, 1772366400000, "9f86d081884c7d65…"]],
        }
    ),
)
def audit_chain(
    node: NodeHere,
    partition: Annotated[
        str | None, Query(description="As in `runs:0`; without it no links are given.")
    ] = None,
    first: Annotated[int, Query(ge=0, le=2**62, description="First offset.")] = 0,
    last: Annotated[int, Query(ge=0, le=2**62, description="Last offset.")] = 2**62,
    limit: Annotated[int, Query(ge=1, le=100_000)] = 10_000,
) -> Response:
    """The hash chains, which `modeltrail audit verify` compares with the raw log.

    `heads` has the end of each partition's chain. A link is an event's offset, its append time
    (milliseconds since 1970), and the hash of the chain there: in full for the registry, the first
    8 bytes for other streams.
    """
    try:
        wanted = None if partition is None else Partition.parse(partition)
    except ValueError as error:
        raise InvalidRequest(str(error)) from None
    with node.cursor() as cursor:
        found = [] if wanted is None else links(cursor, wanted, first, last, limit)
        ends = heads(cursor)
    return answer(
        {
            "heads": {str(p): {"offset": h.offset, "hash": h.hash.hex()} for p, h in ends.items()},
            "links": [[link.offset, link.appended_at_ms, link.hash.hex()] for link in found],
        }
    )


@router.get(
    "/audit/{offset}",
    summary="One request, and its effect",
    responses=json_example(
        {
            **_EVENT,
            "position": "registry:0:17",
            "previous_hash": "2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae",
            "changes": [{**CHANGE, "events": []}],
        }
    ),
)
def audit_event(
    offset: Annotated[int, Path(ge=0, le=2**62, description="Offset in the registry's log.")],
    node: NodeHere,
    caller: CallerHere,
    log_end: LogEnd,
) -> Response:
    """A request as it came, with evidence, verdict, place in the hash chain, and what it changed.

    404 if the caller may not read it.
    """
    with node.read(log_end=log_end) as cursor:
        found = trail(cursor, {"offset": offset}, 1, None, caller.rights)
        if not found:
            raise NotFound(f"there is no event at {registry_position(offset)}")
        (event,) = found
        before = links(cursor, REGISTRY_PARTITION, offset - 1, offset - 1, 1)
        event["position"] = registry_position(offset)
        event["previous_hash"] = before[0].hash.hex() if before else None
        event["changes"] = changes(cursor, caller.rights, offset - 1, offset, _CHANGES_MAX)
    return answer(event)
