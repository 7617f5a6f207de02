"""MLflow's GraphQL, which its web pages use for runs and experiments."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING, Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from modeltrail.api.access.caller import Caller, sign_in
from modeltrail.api.errors import ApiError, InvalidRequest
from modeltrail.api.gates import READS
from modeltrail.api.mlflow import wire
from modeltrail.api.mlflow.calls import CountedRoute, Endpoint, Endpoints, Rule, caller, invoke
from modeltrail.api.node import Node

if TYPE_CHECKING:
    from graphql import DocumentNode, GraphQLResolveInfo, GraphQLSchema

_ENDPOINTS = {
    "mlflowGetExperiment": "GET experiments/get",
    "mlflowGetMetricHistoryBulkInterval": "GET metrics/get-history-bulk-interval",
    "mlflowGetRun": "GET runs/get",
    "mlflowListArtifacts": "GET artifacts/list",
    "mlflowSearchModelVersions": "GET model-versions/search",
    "mlflowSearchRuns": "POST runs/search",
}
_ROOT_FIELDS_MAX = 10
_TOKENS_MAX = 2_000
_RUNS_MAX = 1_000
"""Maximum number of runs in one answer, each with its experiment and versions."""


class _Answers:
    """The answers of the endpoints that one request needs."""

    def __init__(self, server: _Server, node: Node, who: Caller) -> None:
        self._server = server
        self._node = node
        self._who = who
        self._experiments: dict[str, Any] = {}

    def answer_of(self, name: str, values: Mapping[str, Any]) -> Any:
        """Return the answer of an endpoint, after checking the caller's rights."""
        endpoint, rule = self._server.endpoint(name)
        return invoke(endpoint, self._server.state, rule, self._who, self._node, values)

    def experiment(self, experiment_id: str) -> Any:
        """Return the experiment of a run, looked up once."""
        if experiment_id not in self._experiments:
            found = self.answer_of("GET experiments/get", {"experiment_id": experiment_id})
            self._experiments[experiment_id] = found["experiment"]
        return self._experiments[experiment_id]

    def versions(self, run_id: str) -> Any:
        """Return the model versions created from a run that the caller may read."""
        if "'" in run_id:
            return []  # no filter can express it
        found = self.answer_of("GET model-versions/search", {"filter": f"run_id = '{run_id}'"})
        return found.get("model_versions", [])


class _Server:
    """The endpoints behind the schema."""

    def __init__(
        self,
        parts: Sequence[Endpoints],
        state: dict[type, Any],
        rule_of: Callable[[str, str], Rule] | None,
    ) -> None:
        self.state = state
        self._rule_of = rule_of
        self._endpoints = {
            f"{method} {endpoint.path}": endpoint
            for part in parts
            for endpoint in part.all
            for method in endpoint.methods
        }

    def endpoint(self, name: str) -> tuple[Endpoint, Rule | None]:
        """Return an endpoint and its rule, by method and path."""
        endpoint = self._endpoints[name]
        method = name.partition(" ")[0]
        return endpoint, None if self._rule_of is None else self._rule_of(method, endpoint.path)


def routes(
    parts: Sequence[Endpoints],
    state: dict[type, Any],
    rule_of: Callable[[str, str], Rule] | None,
) -> list[BaseRoute]:
    """Return the GraphQL route over these endpoints; see ``calls.routes``."""
    server = _Server(parts, state, rule_of)

    async def answer(request: Request) -> Response:
        await sign_in(request)
        body = await request.body()
        data = await READS.run(_answer, server, request, body)
        return Response(data, media_type="application/json")

    return [CountedRoute("/graphql", answer, methods=["GET", "POST"])]


def _answer(server: _Server, request: Request, body: bytes) -> bytes:
    from graphql import GraphQLError, execute_sync, parse, validate

    who = caller(request)
    values = wire.body_fields(body) if request.method == "POST" else {**request.query_params}
    query, variables = values.get("query"), values.get("variables") or {}
    if isinstance(variables, str):
        variables = wire.body_fields(variables.encode("utf-8", "replace"))
    operation = values.get("operationName")
    if not isinstance(query, str) or not query.strip():
        raise wire.missing("query")
    if not isinstance(variables, dict) or not isinstance(operation, str | None):
        raise InvalidRequest("expected 'variables' as an object and 'operationName' as a string")
    try:
        document = parse(query, max_tokens=_TOKENS_MAX)
    except (GraphQLError, RecursionError) as error:
        raise InvalidRequest(f"GraphQL: {error!s:.500}") from None
    _check_size(document)
    wrong = validate(_schema(), document, max_errors=5)
    if wrong:
        raise InvalidRequest("GraphQL: " + "; ".join(error.message for error in wrong)[:1_000])
    found = execute_sync(
        _schema(),
        document,
        context_value=_Answers(server, request.app.state.node, who),
        variable_values=variables,
        operation_name=operation,
        field_resolver=_field,
    )
    errors = [error.message for error in found.errors or ()]
    return wire.to_json({"data": found.data, "errors": errors or None})


def _check_size(document: DocumentNode) -> None:
    """Refuse a query that asks for more than a web page does."""
    from graphql import Visitor, visit

    class Count(Visitor):
        fields = 0

        def enter_field(self, node: Any, *_: Any) -> None:
            self.fields += node.name.value in _ENDPOINTS

    count = Count()
    visit(document, count)
    if count.fields > _ROOT_FIELDS_MAX:
        raise InvalidRequest(
            f"GraphQL queries should have at most {_ROOT_FIELDS_MAX} root fields, "
            f"got {count.fields} root fields."
        )


@cache
def _schema() -> GraphQLSchema:
    """Return the schema, which is imported and built on first use."""
    from graphql import build_schema, is_input_object_type

    text = (resources.files(__package__) / "schema.graphql").read_text(encoding="utf-8")
    schema = build_schema(text)
    for type in schema.type_map.values():
        if is_input_object_type(type):
            for name, field in type.fields.items():
                field.out_name = _snake(name)
    return schema


def _snake(name: str) -> str:
    return re.sub(r"[A-Z]", lambda found: f"_{found[0].lower()}", name)


def _field(source: Any, info: GraphQLResolveInfo[_Answers], **given: Any) -> Any:
    """Return the value of a field: from the answer of its endpoint, or looked up for a run."""
    answers = info.context
    name = info.field_name
    try:
        if name in _ENDPOINTS and source is None:
            values = {k: v for k, v in (given.get("input") or {}).items() if v is not None}
            if name == "mlflowSearchRuns":
                wire.check_max_results(values.setdefault("max_results", _RUNS_MAX), _RUNS_MAX)
            return answers.answer_of(_ENDPOINTS[name], values)
        if info.parent_type.name == "MlflowRunExtension":
            if name == "experiment":
                return answers.experiment(source["info"]["experiment_id"])
            if name == "modelVersions":
                return answers.versions(source["info"]["run_id"])
    except ApiError as error:
        # In the list of errors, as in MLflow, with the code that clients look for.
        raise ValueError(f"{error.code}: {error.message}") from None
    value = source.get(_snake(name))
    wanted = str(info.return_type)
    if value is None and wanted.startswith("["):
        return []  # REST messages leave out an empty list
    if value is None and info.parent_type.name == "MlflowRunExtension":
        return {}
    if wanted == "LongString" and value is not None:
        return str(value)
    if wanted == "Float" and not isinstance(value, int | float):
        return None  # GraphQL has no NaN
    return value
