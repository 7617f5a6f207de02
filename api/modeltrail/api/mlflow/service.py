"""What clients ask about the server itself."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import BaseRoute, Route

from modeltrail.api.mlflow.calls import Call, Endpoints
from modeltrail.consumers.database import program_version

endpoints = Endpoints()


async def _version(request: Request) -> Response:
    # Clients compare this with MLflow's releases, to see whether the server accepts spans (3.4 and
    # later). This one does not, and its own version is lower.
    return PlainTextResponse(program_version())


routes: list[BaseRoute] = [Route("/version", _version, methods=["GET"])]


@endpoints.declare("GET server-info", version="3.0")
def server_info(call: Call) -> dict[str, Any]:
    """Return what the server can do beyond the basics."""
    return {
        "store_type": "Modeltrail",
        "workspaces_enabled": False,
        # Clients that see this use it for every large file, so it is offered only if it spares this
        # server the bytes. Clients with their own setting can use it anyway.
        "multipart_uploads_enabled": call.node.artifacts.signs,
        "multipart_downloads_enabled": call.node.artifacts.signs,
    }
