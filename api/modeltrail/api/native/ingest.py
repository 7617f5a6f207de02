"""Events of training jobs over HTTP."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from starlette.responses import Response

from modeltrail.api.access.acts import Level, check
from modeltrail.api.access.rights import Rights
from modeltrail.api.actor import Actor
from modeltrail.api.artifacts.uris import parse
from modeltrail.api.errors import Forbidden, InvalidRequest, NotFound, UnknownSchema
from modeltrail.api.native.parameters import CallerHere, NodeHere, answer, json_example
from modeltrail.api.node import Node
from modeltrail.api.routing import PooledRoute
from modeltrail.api.runs.rights import Batch, thing_of
from modeltrail.consumers.caretaker import absolute_source
from modeltrail.consumers.sequences import check_sequence
from modeltrail.eventlog import RUNS, NewEvent, Position
from modeltrail.limits import (
    ID_CHARACTERS_MAX,
    KEY_CHARACTERS_MAX,
    RUN_ENDED,
    TEXT_BYTES_MAX,
    is_too_long,
)
from modeltrail.schemas import (
    Malformed,
    encode,
    event_stream,
    parse_writer_schema,
    unpack,
    writer_schemas,
)
from modeltrail.schemas import UnknownSchema as UnknownWriterSchema
from modeltrail.schemas.framing import MEDIA_TYPE, unframe

router = APIRouter(prefix="/api/v1", tags=["ingest"], route_class=PooledRoute)

_EVENTS_MAX = 100_000
_SCHEMA_EXAMPLE = {"fingerprint": "a1b2c3d4e5f60718"}


async def body_of(request: Request) -> bytes:
    """Return the raw body."""
    return await request.body()


Body = Annotated[bytes, Depends(body_of)]


def payloads_of(body: bytes) -> list[bytes]:
    """Return the events of a batch. Raises ``InvalidRequest``."""
    payloads: list[bytes] = []
    try:
        for payload in unframe(body):
            payloads.append(payload)
            if len(payloads) > _EVENTS_MAX:
                raise InvalidRequest(f"a batch may have at most {_EVENTS_MAX:,} events")
    except Malformed as error:
        raise _bad(len(payloads), str(error)) from None
    return payloads


def _bad(index: int, why: str) -> InvalidRequest:
    return InvalidRequest(
        f"event {index} of the batch: {why}; nothing of the batch was appended", index=index
    )


@router.post(
    "/ingest",
    summary="Append a batch of run events",
    responses=json_example({"appended": 2, "positions": {"runs:0": 123}}, "All are durable."),
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {MEDIA_TYPE: {"schema": {"type": "string", "format": "binary"}}},
        }
    },
)
def ingest(request: Request, node: NodeHere, caller: CallerHere, body: Body) -> Response:
    """Append events of stream `runs`, all or none, in order. Answers when they are durable.

    With `--auth`, each event needs the same permission as the same act elsewhere, and so does
    everything that it refers to. If another user starts the same run at the same moment, only the
    start in this batch is appended, without effect, and the answer is 403.

    The body is one event after the other: its length as four little-endian bytes, then the Avro
    single-object encoding. `positions` has, for each partition, the offset after the last event.
    Answers 409 `UNKNOWN_SCHEMA` with a `fingerprint` if the writer's schema is not known: PUT it to
    `/api/v1/schemas/{fingerprint}` and send the batch again. Repeats have no effect. Answers 403
    `PRODUCER_TAKEN` if a producer id belongs to another run or model, or to another user; a user
    with MANAGE on the run can deliver the events of another's producer.
    """
    verified = caller.actor if caller.actor.verified else None
    checked = [
        _check(node, index, payload, verified) for index, payload in enumerate(payloads_of(body))
    ]
    if not checked:
        return answer({"appended": 0, "positions": {}})
    rights = caller.rights
    batch = Batch(rights)
    batch.check((type, event) for _, type, event in checked)
    bound, continued = node.bindings.claim(
        RUNS, [event for _, _, event in checked], verified, lambda event: _manages(rights, event)
    )
    events = [new for new, _, _ in checked]
    for index, owner in continued.items():
        _, type, event = checked[index]
        events[index] = events[index]._replace(payload=_delivered(type, event, owner))
    positions: list[Position] = []
    first = set(batch.new.values())
    if 0 < len(first) < len(events):
        # If two users start the same run at once, the fold decides whose it is. Only then may the
        # rest follow.
        positions += node.append([events[index] for index in sorted(first)])
        batch.check_begun()
        events = [event for index, event in enumerate(events) if index not in first]
    positions += node.append(events)
    node.bindings.keep(bound)
    ends: dict[str, int] = {}
    for position in positions:
        name = str(position.within)
        ends[name] = max(ends.get(name, 0), position.offset + 1)
    return answer({"appended": len(positions), "positions": ends})


def _check(
    node: Node, index: int, payload: bytes, verified: Actor | None
) -> tuple[NewEvent, str, dict[str, Any]]:
    try:
        type, event = node.codec.decode(payload)
        if event_stream(type) != RUNS:
            raise Malformed(f"{type} belongs to the registry, which takes no events from outside")
        owner, key = ("run", event["run_id"]) if "run_id" in event else ("model", event["model_id"])
        if not key or len(key) > ID_CHARACTERS_MAX or not key.isprintable():
            raise Malformed(f"a {owner}'s id has 1 to {ID_CHARACTERS_MAX} printable characters")
        check_sequence(event["envelope"]["sequence"])
        _check_fields(type, event)
        if verified is not None:
            # The log must not contain an unproven name as if it were proven.
            event["envelope"]["actor"] = verified.name
            event["envelope"]["actor_verified"] = True
            payload = encode(type, event)
        elif event["envelope"]["actor_verified"]:
            event["envelope"]["actor_verified"] = False
            payload = encode(type, event)
    except UnknownWriterSchema as error:
        fingerprint = error.fingerprint.hex()
        raise UnknownSchema(
            f"event {index} of the batch was written with a schema that is not known here; "
            f"PUT it to /api/v1/schemas/{fingerprint}, then send the batch again",
            fingerprint=fingerprint,
            index=index,
        ) from None
    except Malformed as error:
        raise _bad(index, str(error)) from None
    return NewEvent(RUNS, key, payload), type, event


def _manages(rights: Rights, event: Mapping[str, Any]) -> bool:
    try:
        check(rights, *thing_of(event), Level.MANAGE)
    except Forbidden:
        return False
    return True


def _delivered(type: str, event: dict[str, Any], owner: str) -> bytes:
    """Return an event of a producer that the sender continues for its owner, as unverified."""
    head = event["envelope"]
    by = f"delivered by {head['actor']}"
    head.update(
        actor=owner,
        actor_verified=False,
        reason=f"{head['reason']} ({by})" if head["reason"] else by,
    )
    return encode(type, event)


def _check_fields(type: str, event: dict[str, Any]) -> None:
    """Refuse what would become a dead letter in the fold, so that the job learns of it."""
    if type == "RunStarted" and event["experiment_id"] is None and not event["experiment_name"]:
        raise Malformed("RunStarted: neither experiment_id nor experiment_name is given")
    if type == "RunEnded" and event["status"] not in RUN_ENDED:
        raise Malformed(f"RunEnded: {event['status']!r} is not {', '.join(RUN_ENDED)}")
    try:
        if type == "ModelRegistrationRequested":
            parse(absolute_source(event["source"], event["run_id"]))
        elif event.get("artifact_location"):
            parse(event["artifact_location"])
    except InvalidRequest as error:
        raise Malformed(f"{type}: {error.message}") from None
    if type == "MetricsLogged":
        unpack(event)
        for series in event["series"]:
            _check_key("metric", series["key"], None)
    for kind in ("params", "tags"):
        for key, value in (event.get(kind) or {}).items():
            if type != "ModelRegistrationRequested":
                _check_key(kind[:-1], key, value)


def _check_key(kind: str, key: str, value: str | None) -> None:
    if not 1 <= len(key) <= KEY_CHARACTERS_MAX:
        raise Malformed(
            f"a {kind} key has 1 to {KEY_CHARACTERS_MAX} characters, this one {len(key):,}: "
            f"{key[:50]!r}"
        )
    if value is not None and is_too_long(value):
        raise Malformed(
            f"the value of {kind} {key[:50]!r} has {len(value.encode()):,} bytes; "
            f"{TEXT_BYTES_MAX:,} are allowed"
        )


@router.get(
    "/schemas",
    summary="Fingerprints of the writer schemas that are known",
    responses=json_example({"fingerprints": ["a1b2c3d4e5f60718"]}),
)
def list_schemas(node: NodeHere) -> Response:
    """Fingerprints (CRC-64-AVRO, eight little-endian bytes), in hexadecimal."""
    known = {**writer_schemas(), **node.log.schemas()}
    return answer({"fingerprints": sorted(fingerprint.hex() for fingerprint in known)})


@router.get(
    "/schemas/{fingerprint}",
    summary="A writer schema",
    responses=json_example({"type": "record", "name": "Heartbeat"}, "The Avro schema."),
)
def get_schema(fingerprint: str, node: NodeHere) -> Response:
    """The schema as JSON. An Avro reader in any language can read the events with it."""
    known = {**writer_schemas(), **node.log.schemas()}
    for found, text in known.items():
        if found.hex() == fingerprint.lower():
            return Response(text.encode(), media_type="application/json")
    raise NotFound(f"no writer schema with fingerprint {fingerprint[:32]!r} is known")


@router.put(
    "/schemas/{fingerprint}",
    summary="Make a writer schema known",
    responses=json_example(_SCHEMA_EXAMPLE, "The log keeps it."),
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": {"type": "object"}}},
        }
    },
)
def put_schema(fingerprint: str, node: NodeHere, body: Body) -> Response:
    """Store a writer schema with the log. This server's own schema must be able to read it."""
    try:
        text = body.decode()
        found, _ = parse_writer_schema(text)
        if found.hex() != fingerprint.lower():
            raise Malformed(f"the schema's fingerprint is {found.hex()}, not {fingerprint[:32]}")
        node.keep_schema(found, json.dumps(json.loads(text), ensure_ascii=False))
    except UnicodeDecodeError:
        raise InvalidRequest("the schema is not UTF-8") from None
    except Malformed as error:
        raise InvalidRequest(str(error)) from None
    return answer({"fingerprint": found.hex()})
