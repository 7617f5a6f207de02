"""What each route asks of its caller. A route without a rule is for administrators only.

A rule is given the caller's rights and what the request names: for MLflow's endpoints the fields as
the endpoint itself will read them, else the query and the path.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from starlette.requests import Request
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, Receive, Scope, Send

from modeltrail.api.access.files import check_place
from modeltrail.api.access.rights import Level, Rights
from modeltrail.api.artifacts.uris import place_of
from modeltrail.api.context import sign_in
from modeltrail.api.gates import FILES
from modeltrail.api.mlflow.calls import EndpointRoute, Rule
from modeltrail.api.routing import PooledRoute

Values = Mapping[str, Any]

READ, EDIT, MANAGE = Level.READ, Level.EDIT, Level.MANAGE


def public(_: Rights, __: Values) -> None:
    """For everybody, signed in or not."""


def signed_in(_: Rights, __: Values) -> None:
    """For every user."""


def looks_itself(_: Rights, __: Values) -> None:
    """For every user: the route filters what it shows, or checks what its body names."""


def admin(rights: Rights, _: Values) -> None:
    """For administrators."""
    rights.admin()


def everything(rights: Rights, _: Values) -> None:
    """For those who may read everything."""
    rights.everything()


_AT_ONCE = (signed_in, looks_itself, admin, everything)
"""Rules that look at nothing but the user's rights, and need no thread."""


def _experiment(need: Level) -> Rule:
    def rule(rights: Rights, values: Values) -> None:
        rights.experiment(str(values.get("experiment_id") or "0"), need)

    return rule


def _run(need: Level) -> Rule:
    def rule(rights: Rights, values: Values) -> None:
        rights.run(str(values.get("run_id") or values.get("run_uuid") or ""), need)

    return rule


def _runs(name: str) -> Rule:
    def rule(rights: Rights, values: Values) -> None:
        for run_id in set(values.get(name) or ()):
            rights.run(run_id, READ)

    return rule


def _logged_model(need: Level) -> Rule:
    def rule(rights: Rights, values: Values) -> None:
        rights.logged_model(str(values["model_id"]), need)

    return rule


def _model(need: Level, field: str = "name") -> Rule:
    def rule(rights: Rights, values: Values) -> None:
        rights.model(str(values.get(field) or ""), need)

    return rule


def _place(need: Level) -> Rule:
    return lambda rights, values: check_place(rights, place_of(str(values.get("path") or "")), need)


def _all(*rules: Rule) -> Rule:
    def rule(rights: Rights, values: Values) -> None:
        for one in rules:
            one(rights, values)

    return rule


def _experiment_by_name(rights: Rights, values: Values) -> None:
    rights.experiment_named(str(values["experiment_name"]), READ)


def _new_experiment(field: str) -> Rule:
    return lambda rights, values: rights.new_experiment(str(values[field]))


def _new_model(field: str) -> Rule:
    return lambda rights, values: rights.new_model(str(values[field]))


def _source_run(rights: Rights, values: Values) -> None:
    if values.get("source_run_id"):
        rights.run(str(values["source_run_id"]), READ)


_RUN_WRITES = (
    "update log-metric log-parameter log-param set-tag delete-tag log-batch log-inputs log-model "
    "outputs"
)
_MODEL_WRITES = {
    "PATCH": "registered-models/update model-versions/update",
    "POST": "registered-models/set-tag registered-models/alias model-versions/transition-stage "
    "model-versions/set-tag",
    "DELETE": "registered-models/delete-tag registered-models/alias model-versions/delete-tag",
}

MLFLOW: Final[Mapping[str, Rule]] = {
    "GET server-info": signed_in,
    "POST experiments/create": _new_experiment("name"),
    "GET experiments/get": _experiment(READ),
    "GET experiments/get-by-name": _experiment_by_name,
    "GET experiments/search": looks_itself,
    "POST experiments/search": looks_itself,
    "POST experiments/update": _all(_experiment(EDIT), _new_experiment("new_name")),
    "POST experiments/delete": _experiment(MANAGE),
    "POST experiments/restore": _experiment(MANAGE),
    "POST experiments/set-experiment-tag": _experiment(EDIT),
    "POST experiments/delete-experiment-tag": _experiment(EDIT),
    "POST runs/create": _experiment(EDIT),
    "GET runs/get": _run(READ),
    "POST runs/delete": _run(MANAGE),
    "POST runs/restore": _run(MANAGE),
    "POST runs/search": looks_itself,
    **{f"POST runs/{name}": _run(EDIT) for name in _RUN_WRITES.split()},
    "GET metrics/get-history": _run(READ),
    "GET metrics/get-history-bulk": _runs("run_id"),
    "GET metrics/get-history-bulk-interval": _runs("run_ids"),
    "GET artifacts/list": _run(READ),
    "POST artifacts/presigned-upload-url": signed_in,  # refused to all of them
    "POST artifacts/presigned-download-url": signed_in,
    "POST logged-models": _all(_experiment(EDIT), _source_run),
    "GET logged-models/{model_id}": _logged_model(READ),
    "PATCH logged-models/{model_id}": _logged_model(EDIT),
    "DELETE logged-models/{model_id}": _logged_model(MANAGE),
    "PATCH logged-models/{model_id}/tags": _logged_model(EDIT),
    "DELETE logged-models/{model_id}/tags/{tag_key:path}": _logged_model(EDIT),
    "POST logged-models/{model_id}/params": _logged_model(EDIT),
    "GET logged-models/{model_id}/artifacts/directories": _logged_model(READ),
    "POST logged-models/search": looks_itself,
    "POST registered-models/create": _new_model("name"),
    "GET registered-models/get": _model(READ),
    "POST registered-models/rename": _all(_model(EDIT), _new_model("new_name")),
    "DELETE registered-models/delete": _model(MANAGE),
    "GET registered-models/search": looks_itself,
    "GET registered-models/get-latest-versions": _model(READ),
    "POST registered-models/get-latest-versions": _model(READ),
    "GET registered-models/alias": _model(READ),
    # And READ on where the files come from, which the endpoint looks up.
    "POST model-versions/create": _model(EDIT),
    "GET model-versions/get": _model(READ),
    "GET model-versions/get-download-uri": _model(READ),
    "DELETE model-versions/delete": _model(MANAGE),
    "GET model-versions/search": looks_itself,
    **{
        f"{method} {path}": _model(EDIT)
        for method, paths in _MODEL_WRITES.items()
        for path in paths.split()
    },
    **{
        f"{method} {path}": looks_itself
        for method, paths in {
            "GET": "users/get users/current users/current/permissions users/permissions/list "
            "users/permissions/get users/roles/list experiments/permissions/get "
            "registered-models/permissions/get",
            "PATCH": "users/update-password experiments/permissions/update "
            "registered-models/permissions/update",
            "POST": "users/permissions/grant users/permissions/revoke "
            "experiments/permissions/create registered-models/permissions/create",
            "DELETE": "experiments/permissions/delete registered-models/permissions/delete",
        }.items()
        for path in paths.split()
    },
    **{
        f"{method} {path}": admin
        for method, paths in {
            "GET": "users/list roles/get roles/list roles/permissions/list roles/users/list "
            "webhooks webhooks/{webhook_id}",
            "POST": "users/create roles/create roles/assign roles/permissions/add webhooks "
            "webhooks/{webhook_id}/test",
            "PATCH": "users/update-admin roles/update roles/permissions/update "
            "webhooks/{webhook_id}",
            "DELETE": "users/delete roles/delete roles/unassign roles/permissions/remove "
            "webhooks/{webhook_id}",
        }.items()
        for path in paths.split()
    },
}
"""Rules of MLflow's endpoints, by method and the path after ``mlflow/``."""

_PROXY = "2.0/mlflow-artifacts"
_BOTH = ("/api", "/ajax-api")
_MODELS = "/api/v1/models/{model}"
_VERSION = f"{_MODELS}/versions/{{version}}"

OTHERS: Final[Mapping[str, Rule]] = {
    "GET /": public,
    "GET /health": public,
    "GET /version": public,
    "GET /docs": signed_in,
    "GET /docs/oauth2-redirect": signed_in,
    "GET /openapi.json": signed_in,
    "GET /metrics": signed_in,
    "GET /api/v1/status": signed_in,
    "GET /api/v1/whoami": signed_in,
    "GET /api/v1/schemas": signed_in,
    "GET /api/v1/schemas/{fingerprint}": signed_in,
    "PUT /api/v1/schemas/{fingerprint}": signed_in,
    "POST /api/v1/ingest": looks_itself,
    "GET /api/v1/sql": everything,
    "POST /api/v1/sql": everything,
    "GET /api/v1/audit": everything,
    "GET /api/v1/audit/artifacts": everything,
    "GET /api/v1/runs": looks_itself,
    "GET /api/v1/runs/{run_id}": _run(READ),
    "GET /api/v1/runs/{run_id}/metrics/{key:path}": _run(READ),
    "GET /api/v1/runs/{run_id}/artifacts": _run(READ),
    "GET /api/v1/runs/{run_id}/artifacts/{path:path}": _run(READ),
    "PUT /api/v1/runs/{run_id}/artifacts/{path:path}": _run(EDIT),
    "DELETE /api/v1/runs/{run_id}/artifacts/{path:path}": _run(EDIT),
    "GET /api/v1/experiments": looks_itself,
    "POST /api/v1/experiments": looks_itself,
    "GET /api/v1/experiments/{experiment_id}": _experiment(READ),
    # And for a rename, the new name.
    "PATCH /api/v1/experiments/{experiment_id}": _experiment(EDIT),
    "DELETE /api/v1/experiments/{experiment_id}": _experiment(MANAGE),
    "POST /api/v1/experiments/{experiment_id}/restore": _experiment(MANAGE),
    "GET /api/v1/models": looks_itself,
    "POST /api/v1/models": looks_itself,
    f"GET {_MODELS}": _model(READ, "model"),
    # And for a rename, the new name.
    f"PATCH {_MODELS}": _model(EDIT, "model"),
    f"DELETE {_MODELS}": _model(MANAGE, "model"),
    f"GET {_MODELS}/versions": _model(READ, "model"),
    f"POST {_MODELS}/versions": looks_itself,
    f"GET {_VERSION}": _model(READ, "model"),
    f"PATCH {_VERSION}": _model(EDIT, "model"),
    f"DELETE {_VERSION}": _model(MANAGE, "model"),
    f"PUT {_VERSION}/stage": _model(EDIT, "model"),
    f"GET {_VERSION}/stage": _model(READ, "model"),
    "GET /api/v1/stages": looks_itself,
    f"GET {_MODELS}/aliases": _model(READ, "model"),
    f"GET {_MODELS}/aliases/{{alias}}": _model(READ, "model"),
    f"PUT {_MODELS}/aliases/{{alias}}": _model(EDIT, "model"),
    f"DELETE {_MODELS}/aliases/{{alias}}": _model(EDIT, "model"),
    **{
        f"{method} /api/v1/{path}": looks_itself
        for path, methods in {
            "users": "GET POST",
            "users/{user}": "PATCH DELETE",
            "tokens": "GET POST",
            "tokens/{token_id}": "DELETE",
            "permissions": "GET PUT DELETE",
        }.items()
        for method in methods.split()
    },
    "GET /api/v1/dead-letters": admin,
    "POST /api/v1/dead-letters/retry": admin,
    "POST /api/v1/import": admin,
    "GET /api/v1/webhooks": admin,
    "GET /api/v1/webhooks/deliveries": admin,
    "POST /api/v1/webhooks/retry": admin,
    "POST /api/v1/webhooks/replay": admin,
    "PUT /api/v1/logged-models/{model_id}/artifacts/{path:path}": _logged_model(EDIT),
    # Clients send parts without credentials; the id of the upload, random and given only to who
    # may upload there, stands for them.
    f"PUT /api/{_PROXY}/mpu/parts/{{upload_id}}/{{number:int}}": public,
    "GET /get-artifact": _run(READ),
    "GET /model-versions/get-artifact": _model(READ),
    **{
        f"{method} {prefix}/{path}": rule
        for prefix in _BOTH
        for method, path, rule in (
            ("GET", "2.0/mlflow/logged-models/{model_id}/artifacts/files", _logged_model(READ)),
            ("POST", "2.0/mlflow/upload-artifact", _run(EDIT)),
            ("GET", f"{_PROXY}/artifacts", _place(READ)),
            ("GET", f"{_PROXY}/artifacts/{{path:path}}", _place(READ)),
            ("PUT", f"{_PROXY}/artifacts/{{path:path}}", _place(EDIT)),
            ("DELETE", f"{_PROXY}/artifacts/{{path:path}}", _place(EDIT)),
            ("GET", f"{_PROXY}/presigned/{{path:path}}", _place(READ)),
            ("POST", f"{_PROXY}/mpu/create/{{path:path}}", _place(EDIT)),
            ("POST", f"{_PROXY}/mpu/complete/{{path:path}}", _place(EDIT)),
            ("POST", f"{_PROXY}/mpu/abort/{{path:path}}", _place(EDIT)),
        )
    },
    # What is said to whom asks for something that is not there.
    **{
        f"{method} {prefix}/{{version}}/mlflow/{{rest:path}}": signed_in
        for prefix in _BOTH
        for method in ("GET", "POST", "PUT", "PATCH", "DELETE")
    },
}
"""Rules of all other routes, by method and path."""


def endpoint_rule(method: str, path: str) -> Rule:
    """The rule of an endpoint of MLflow's; ``admin`` where there is none."""
    return MLFLOW.get(f"{method} {path}", admin)


def route_rule(method: str, path: str) -> Rule:
    """The rule of another route; ``admin`` where there is none."""
    return OTHERS.get(f"{'GET' if method == 'HEAD' else method} {path}", admin)


async def check(request: Request) -> None:
    """Hold a request against its route's rule; raises an ``ApiError``."""
    route = request.scope["route"]
    rule = route_rule(request.method, route.path)
    if rule is not public:
        rights = await sign_in(request)
        if rule not in _AT_ONCE:
            pool = route.pool if isinstance(route, PooledRoute) else FILES
            await pool.run(rule, rights, {**request.query_params, **request.path_params})
        else:
            rule(rights, {})


class _Gate:
    """Checks a request before a route that is plain Starlette."""

    def __init__(self, app: ASGIApp, route: BaseRoute) -> None:
        self._app = app
        self._route = route

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope["route"] = self._route
        await check(Request(scope))
        await self._app(scope, receive, send)


def close_gates(routes: list[BaseRoute]) -> None:
    """Put the check before every plain route; MLflow's endpoints check with their own fields."""
    for route in routes:
        if isinstance(route, Route) and not isinstance(route, EndpointRoute):
            route.app = _Gate(route.app, route)
