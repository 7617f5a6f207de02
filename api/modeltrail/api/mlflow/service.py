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
    # Clients compare it with MLflow's releases, to learn whether the server takes spans (3.4 and
    # later). This one does not, and its own version is below.
    return PlainTextResponse(program_version())


routes: list[BaseRoute] = [Route("/version", _version, methods=["GET"])]


@endpoints.add("GET", "server-info", version="3.0")
def server_info(call: Call) -> dict[str, Any]:
    """What the server can do beyond the basics."""
    return {
        "store_type": "Modeltrail",
        "workspaces_enabled": False,
        # Clients that look here then use it for every large file, so only where it spares this
        # server the bytes. Those that are told to by their own settings can do so anywhere.
        "multipart_uploads_enabled": call.node.artifacts.signs,
        "multipart_downloads_enabled": call.node.artifacts.signs,
    }
