"""MLflow's multipart uploads, and signed URLs of artifacts.

A client asks for URLs, PUTs each part to its own URL, and completes the upload. With ``modeltrail
serve --presigned``, and if the store supports it, they are URLs of the store, and the parts do not
pass through this server. Otherwise they lead to a route here. Such a URL is sufficient to write
that one part, because its requester was allowed to.
"""

from __future__ import annotations

import posixpath
import re
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from modeltrail.api.access.acts import Level
from modeltrail.api.access.caller import rights_of
from modeltrail.api.access.files import check_place
from modeltrail.api.artifacts.sending import receive_into
from modeltrail.api.artifacts.store import Stored, key_of
from modeltrail.api.artifacts.uris import Place, place_of
from modeltrail.api.errors import InvalidRequest, NotFound
from modeltrail.api.mlflow import artifacts, wire
from modeltrail.api.mlflow.calls import CountedRoute, caller
from modeltrail.api.node import Node

_PARTS = "/api/2.0/mlflow-artifacts/mpu/parts"
_PART = wire.message(part_number=wire.integer, etag=wire.text)
_DOWNLOAD_SIGNED_S = 900


def routes() -> list[BaseRoute]:
    """Return the routes."""
    found: list[BaseRoute] = [
        CountedRoute(_PARTS + "/{upload_id}/{number:int}", _put_part, methods=["PUT"])
    ]
    for prefix in ("/api/2.0/mlflow-artifacts", "/ajax-api/2.0/mlflow-artifacts"):
        found += [
            CountedRoute(prefix + "/presigned/{path:path}", _presigned, methods=["GET"]),
            CountedRoute(prefix + "/mpu/create/{path:path}", _create, methods=["POST"]),
            CountedRoute(prefix + "/mpu/complete/{path:path}", _complete, methods=["POST"]),
            CountedRoute(prefix + "/mpu/abort/{path:path}", _abort, methods=["POST"]),
        ]
    return found


async def _create(request: Request) -> Response:
    body = await request.body()

    def create() -> dict[str, Any]:
        caller(request)
        node: Node = request.app.state.node
        values = _values(body, {"path": wire.text, "num_parts": wire.integer}, "path")
        place = _place(request, values)
        id, urls = node.multipart.create(place.owner, place.path, values.get("num_parts", 1))
        here = f"{_base_url(request)}{_PARTS}/{id}"
        headers = node.artifacts.storage.signed_headers
        return {
            "upload_id": id,
            "credentials": [
                {
                    "url": url or f"{here}/{number}",
                    "part_number": number,
                    "headers": headers if url else {},
                }
                for number, url in enumerate(urls, 1)
            ],
        }

    return artifacts.json_answer(await run_in_threadpool(create))


def _base_url(request: Request) -> str:
    """Return the URL where this caller reaches the server, also behind a proxy.

    A caller who sends a false address only gets URLs that are of no use to it.
    """
    url = str(request.base_url).rstrip("/")
    if request.headers.get("x-forwarded-proto") == "https":
        url = f"https://{url.partition('://')[2]}"
    prefix = request.headers.get("x-forwarded-prefix", "")
    return url + prefix if re.fullmatch(r"(/[\w.~-]+)+", prefix) else url


async def _put_part(request: Request) -> Response:
    node: Node = request.app.state.node
    id, number = request.path_params["upload_id"], request.path_params["number"]
    with await run_in_threadpool(node.multipart.write_part, id, number) as upload:
        await receive_into(upload, request)
        await run_in_threadpool(upload.finish)
    etag = await run_in_threadpool(node.multipart.etag_of_part, id, number)
    return Response(headers={"ETag": etag} if etag else {})


async def _complete(request: Request) -> Response:
    body = await request.body()

    def complete() -> None:
        who = caller(request)
        node: Node = request.app.state.node
        fields = {"path": wire.text, "upload_id": wire.text, "parts": wire.many(_PART)}
        values = _values(body, fields, "path", "upload_id", "parts")
        place = _place(request, values)

        def record(stored: Stored) -> None:
            artifacts.record_upload(node, place, stored, who.actor, who.reason)

        node.multipart.complete(
            values["upload_id"], place.owner, place.path, _etags(values["parts"]), record
        )

    await run_in_threadpool(complete)
    return artifacts.json_answer({})


async def _abort(request: Request) -> Response:
    body = await request.body()

    def abort() -> None:
        caller(request)
        node: Node = request.app.state.node
        values = _values(body, {"path": wire.text, "upload_id": wire.text}, "path", "upload_id")
        place = _place(request, values)
        node.multipart.abort(values["upload_id"], place.owner, place.path)

    await run_in_threadpool(abort)
    return artifacts.json_answer({})


def _values(body: bytes, fields: wire.Fields, *required: str) -> dict[str, Any]:
    return wire.check(wire.body_fields(body), fields, required)


def _place(request: Request, values: dict[str, Any]) -> Place:
    """Return where the file goes.

    ``path`` is the client's name for it, often with its own folder.

    The route's rule has checked the folder only; with the file name it may lead elsewhere.
    """
    name = re.split(r"[/\\]", values["path"])[-1]
    if not name:
        raise InvalidRequest("Missing value for required parameter 'path'.")
    place = place_of(posixpath.join(request.path_params["path"].rstrip("/"), name))
    check_place(rights_of(request), place, Level.EDIT)
    return place


def _etags(parts: list[Any]) -> dict[int, str]:
    etags: dict[int, str] = {}
    for part in parts:
        number = part.get("part_number")
        if number is None or number in etags:
            raise InvalidRequest(f"each part has a number of its own; this has not: {part}")
        etags[number] = part.get("etag", "")
    return etags


def _presigned(request: Request) -> Response:
    caller(request)
    node: Node = request.app.state.node
    place = place_of(request.path_params["path"])
    if not node.artifacts.signs:
        raise artifacts.Unsupported("Multipart download")
    try:
        stat = node.artifacts.stat(place.owner, place.path)
    except NotFound:
        raise NotFound(f"No such artifact: '{place.path}'") from None
    key = key_of(place.owner, place.path)
    url = node.artifacts.storage.signed("GET", key, _DOWNLOAD_SIGNED_S)
    if url is None:  # without a size, a client fetches it from this server
        return artifacts.json_answer({"url": str(request.url), "headers": {}})
    return artifacts.json_answer({"url": url, "headers": {}, "file_size": stat.size_bytes})
