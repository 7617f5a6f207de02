"""MLflow's artifact proxy, and lists of the artifacts of runs.

A client turns ``mlflow-artifacts:/<path>`` into paths of the proxy, and ``uris`` says where they
lead, so that MLflow's clients and Modeltrail's see each other's files.
"""

from __future__ import annotations

import mimetypes
import re
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from modeltrail.api.access.acts import Level
from modeltrail.api.access.files import check_place
from modeltrail.api.access.rights import Rights
from modeltrail.api.actor import Actor
from modeltrail.api.artifacts.places import NotServed, root_of_run
from modeltrail.api.artifacts.sending import receive, sent
from modeltrail.api.artifacts.storage import Entry
from modeltrail.api.artifacts.store import Stored, key_of
from modeltrail.api.artifacts.uris import Place, parse, place_of, safe
from modeltrail.api.errors import ApiError, InvalidRequest, NotFound
from modeltrail.api.gates import FILES
from modeltrail.api.mlflow import wire
from modeltrail.api.mlflow.calls import Call, CountedRoute, Endpoints, caller
from modeltrail.api.node import Node
from modeltrail.consumers.reading import sql
from modeltrail.limits import NAME_CHARACTERS_MAX

endpoints = Endpoints()

_PAGE_UPLOAD_BYTES_MAX = 10 * 1024 * 1024
# Files that a browser would run or render as a page are sent as text.
_TEXT = re.compile(
    r"(cfg|conf|css|csv|html?|ini|js|json|jsonnet|log|md|mlmodel|mlproject|py|rst|svg|toml|tsv|txt"
    r"|xhtml|xml|ya?ml)"
)


# Listing


def listed(entries: list[Entry], folder: str = "") -> list[dict[str, Any]]:
    """Return the entries of a folder in MLflow's form."""
    prefix = f"{folder}/" if folder else ""
    return [
        wire.set_fields(path=prefix + e.name, is_dir=e.size_bytes is None, file_size=e.size_bytes)
        for e in entries
    ]


def list_under(node: Node, rights: Rights, root: str, path: str | None) -> list[dict[str, Any]]:
    """List a folder under a root, if this server stores it and the caller may read it.

    Raises:
        NotServed: the files are elsewhere.
        Forbidden: the root, which may come from events of a job, leads to files of others.
    """
    place = parse(root)
    if not isinstance(place, Place):
        raise NotServed(root)
    check_place(rights, place, Level.READ)
    path = safe(path) if path else ""
    within = "/".join(part for part in (place.path, path) if part)
    return listed(node.artifacts.entries(place.owner, within), path)


@endpoints.declare("GET artifacts/list run_id path? page_token?")
def _list_artifacts(call: Call) -> dict[str, Any]:
    with call.node.read() as cursor:
        root = root_of_run(cursor, call["run_id"])
    files = list_under(call.node, call.caller.rights, root, call.get("path"))
    return wire.set_fields(root_uri=root, files=files or None)


@endpoints.declare("POST artifacts/presigned-upload-url")
def _presigned_upload(call: Call) -> dict[str, Any]:
    raise Unsupported("Presigned upload")


@endpoints.declare("POST artifacts/presigned-download-url")
def _presigned_download(call: Call) -> dict[str, Any]:
    raise Unsupported("Presigned download")


class Unsupported(ApiError, status=501, code="NOT_IMPLEMENTED"):
    """This server's storage cannot do this. Clients check the status and the words."""

    def __init__(self, what: str) -> None:
        super().__init__(f"{what} is not supported for the current artifact repository")


# The proxy


def routes() -> list[BaseRoute]:
    """Return the routes of the proxy."""
    found: list[BaseRoute] = [
        CountedRoute(f"{prefix}/2.0/mlflow/upload-artifact", _upload_of_page, methods=["POST"])
        for prefix in ("/api", "/ajax-api")
    ]
    for prefix in ("/api/2.0/mlflow-artifacts", "/ajax-api/2.0/mlflow-artifacts"):
        one = prefix + "/artifacts/{path:path}"
        found += [
            CountedRoute(f"{prefix}/artifacts", _list, methods=["GET"]),
            CountedRoute(one, _download, methods=["GET"]),
            CountedRoute(one, _upload, methods=["PUT"]),
            CountedRoute(one, _delete, methods=["DELETE"]),
        ]
    return found


def _list(request: Request) -> Response:
    caller(request)
    node: Node = request.app.state.node
    place = place_of(request.query_params.get("path", ""))
    files = listed(node.artifacts.entries(place.owner, place.path))
    return json_answer({"files": files} if files else {})


def _download(request: Request) -> Response:
    caller(request)
    return download(request, place_of(request.path_params["path"]))


def download(request: Request, place: Place) -> Response:
    """Return an answer with the bytes of an artifact. Raises ``NotFound``."""
    node: Node = request.app.state.node
    if not place.path:
        raise InvalidRequest("the path of an artifact is needed")
    name = place.path.rpartition("/")[2]
    try:
        return sent(node.artifacts, place.owner, place.path, request, _media_type(name))
    except NotFound:
        if node.artifacts.entries(place.owner, place.path):
            raise InvalidRequest(
                f"Artifact path refers to a directory, not a file: '{place.path}'"
            ) from None
        raise NotFound(f"No such artifact: '{place.path}'") from None


def _media_type(name: str) -> str:
    if _TEXT.fullmatch(name.rpartition(".")[2].lower()):
        return "text/plain"
    return mimetypes.guess_type(name)[0] or "application/octet-stream"


async def _upload(request: Request) -> Response:
    who = await run_in_threadpool(caller, request)
    node: Node = request.app.state.node
    place = place_of(request.path_params["path"])
    if not place.path:
        raise InvalidRequest("the path of an artifact is needed")

    def record(stored: Stored) -> None:
        record_upload(node, place, stored, who.actor, who.reason)

    await receive(node.artifacts, place.owner, place.path, request, record)
    return json_answer({})


async def _upload_of_page(request: Request) -> Response:
    """Store a file of a run that MLflow's web page uploads."""
    who = caller(request)
    body = await request.body()

    def store() -> None:
        node: Node = request.app.state.node
        names = {name: request.query_params.get(name) for name in ("run_uuid", "path")}
        for name, value in names.items():
            if not value:
                raise InvalidRequest(f"Request must specify {name}.")
        path = safe(str(names["path"]))
        if len(body) > _PAGE_UPLOAD_BYTES_MAX:
            raise InvalidRequest("Artifact size is too large. Max size is 10MB.")
        if not body:
            raise InvalidRequest("Request must specify data.")
        with node.read() as cursor:
            root = root_of_run(cursor, str(names["run_uuid"]))
        place = parse(root)
        if not isinstance(place, Place):
            raise NotServed(root)
        place = place._replace(path="/".join(part for part in (place.path, path) if part))
        check_place(who.rights, place, Level.EDIT)
        with node.artifacts.write(place.owner, place.path) as upload:
            upload.write(body)
            upload.finish(lambda stored: record_upload(node, place, stored, who.actor, who.reason))

    await FILES.run(store)
    return json_answer({})


def record_upload(
    node: Node, place: Place, stored: Stored, actor: Actor, reason: str | None
) -> None:
    """Append the event that records an upload, if the run or logged model is known."""
    fields = {"path": place.path, **stored._asdict()}
    user = _user(node, place)
    if user is None:
        return
    node.append_event(_LOGGED[place.kind], place.id, fields, _acting(actor, user), reason)


def _delete(request: Request) -> Response:
    who = caller(request)
    node: Node = request.app.state.node
    place = place_of(request.path_params["path"])
    user = _user(node, place)
    store = node.artifacts
    files = [file.path for file in store.list(place.owner, place.path)]
    if place.path and store.storage.stat(key_of(place.owner, place.path)) is not None:
        files.append(place.path)
    for path in files:
        with store.changing(place.owner, path):
            # The event goes first: removing the bytes without a record would be worse than the
            # reverse.
            if user is not None:
                actor, fields = _acting(who.actor, user), {"path": path}
                node.append_event(_DELETED[place.kind], place.id, fields, actor, who.reason)
            store.storage.delete(key_of(place.owner, path))
    return json_answer({})


_LOGGED = {"run": "ArtifactLogged", "model": "LoggedModelArtifactLogged"}
_DELETED = {"run": "ArtifactDeleted", "model": "LoggedModelArtifactDeleted"}
_USERS = {"run": "runs.user", "model": "logged_models.user"}


def _user(node: Node, place: Place) -> str | None:
    """Return the user of a run or model, or None if it exists neither here nor elsewhere."""
    if place.kind == "other":
        return None
    for log_end in (False, True):  # it may have just been created on another server
        with node.read(log_end=log_end) as cursor:
            row = cursor.execute(sql(_USERS[place.kind]), [place.id]).fetchone()
        if row is not None:
            return str(row[0])
    return None


def _acting(actor: Actor, user: str) -> Actor:
    """Return the actor. MLflow's clients send no name here, so it is the run's user."""
    if actor.verified or actor.name != "anonymous" or not user:
        return actor
    return Actor(user[:NAME_CHARACTERS_MAX], False)


def json_answer(body: dict[str, Any]) -> Response:
    """Return a JSON answer."""
    return Response(wire.to_json(body), media_type="application/json")
