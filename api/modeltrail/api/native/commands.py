"""The routes of the registry's commands, generated from the table of commands."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from inspect import Parameter, Signature
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Path, Query
from pydantic import AfterValidator, BaseModel, ConfigDict, create_model
from pydantic import Field as PydanticField
from starlette.responses import Response

from modeltrail.api.errors import InvalidRequest
from modeltrail.api.native.parameters import CallerHere, NodeHere, answer, json_example
from modeltrail.api.registry.commands import EXAMPLES, REQUIRED, Command, Field, routes
from modeltrail.api.registry.grants import user_rights
from modeltrail.api.registry.performing import perform
from modeltrail.api.routing import PooledRoute
from modeltrail.limits import REASON_CHARACTERS_MAX

_WHY: dict[str, Any] = {
    "description": "Why; it stays in the trail.",
    "max_length": REASON_CHARACTERS_MAX,
}


def _checked(value: str) -> str:
    try:
        value.encode()
    except UnicodeEncodeError:
        raise ValueError("half of a surrogate pair cannot be encoded in UTF-8") from None
    return value


_Text = Annotated[str, AfterValidator(_checked)]
_PLAIN: dict[str, Any] = {"string": _Text, "long": int, "boolean": bool, "double": float}


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


def _python(type: Any) -> Any:
    """Return the Python type for an Avro type."""
    if isinstance(type, list):
        (one,) = (one for one in type if one != "null")
        return _python(one) | None
    if isinstance(type, str):
        return _PLAIN[type]
    if type["type"] == "map":
        return dict[str, _python(type["values"])]  # type: ignore[misc]
    if type["type"] == "array":
        return list[_python(type["items"])]  # type: ignore[misc]
    fields: dict[str, Any] = {
        one["name"]: (
            _python(one["type"]),
            PydanticField(one.get("default", ...), description=one["doc"]),
        )
        for one in type["fields"]
    }
    return create_model(type["name"], __base__=_Strict, __doc__=type["doc"], **fields)


def _type(field: Field) -> Any:
    return Literal[field.choices] if field.choices else _python(field.type)


def _body(name: str, commands: Sequence[Command], fields: Sequence[Field]) -> type[BaseModel]:
    """Return the model of a request body for one of some commands."""
    described: dict[str, Any] = {"reason": (_Text | None, PydanticField(None, **_WHY))}
    for field in fields:
        free = field.nullable or len(commands) > 1
        default = field.default
        if default is REQUIRED:
            default = None if free else ...
        kind = _type(field) | None if free else _type(field)
        described[field.name] = (
            kind,
            PydanticField(default, description=field.doc, **field.limits),
        )
    shown = [field for field in fields if field.event in EXAMPLES]
    if commands[0].method == "PATCH":
        shown = shown[-1:]
    else:
        shown = [field for field in shown if field.default is REQUIRED]
    example = {field.name: EXAMPLES[field.event] for field in shown}
    model: type[BaseModel] = create_model(name, __base__=_Strict, **described)
    model.model_config["json_schema_extra"] = {"example": example}
    return model


def _chosen(commands: Sequence[Command], body: dict[str, Any]) -> Command:
    """Return the command that a body is for."""
    names = [field.name for command in commands for field in command.body]
    given = [name for name in names if body.get(name) is not None]
    if len(commands) == 1:
        if commands[0].method == "PATCH" and not given:
            raise InvalidRequest(f"nothing to change: give one of {', '.join(names)}")
        return commands[0]
    if len(given) != 1:
        raise InvalidRequest(
            f"give exactly one of: {', '.join(names)}; each is a request of its own"
        )
    return next(one for one in commands if given[0] in [field.name for field in one.body])


def _endpoint(commands: Sequence[Command]) -> Callable[..., Response]:
    first = commands[0]
    fields = list({field.name: field for one in commands for field in one.body}.values())
    body = _body("".join(one.type for one in commands), commands, fields)
    deletes = first.method == "DELETE"
    optional = not fields or (deletes and all(field.default is not REQUIRED for field in fields))

    def endpoint(**received: Any) -> Response:
        node, caller, sent = (received.pop(name) for name in ("node", "caller", "body"))
        values = (sent or body()).model_dump()
        values |= {name: value for name, value in received.items() if value is not None}
        command = _chosen(commands, values)
        if command.area == "access":
            user_rights(caller)
        given = {field.event: values[field.name] for field in command.fields}
        return answer(perform(node, caller.saying(values["reason"]), command, given))

    def parameter(name: str, kind: Any, default: Any = Parameter.empty) -> Parameter:
        return Parameter(name, Parameter.KEYWORD_ONLY, annotation=kind, default=default)

    path = [field for field in first.fields if field not in first.body]
    parameters = [
        parameter(one.name, Annotated[_type(one), Path(description=one.doc, **one.limits)])
        for one in path
    ]
    if deletes:
        for one in fields if optional else ():
            query = Query(description=one.doc, **one.limits)
            parameters.append(parameter(one.name, Annotated[_type(one) | None, query], None))
        parameters.append(parameter("reason", Annotated[_Text | None, Query(**_WHY)], None))
    parameters += [parameter("node", NodeHere), parameter("caller", CallerHere)]
    parameters.append(parameter("body", body | None, None) if optional else parameter("body", body))
    endpoint.__signature__ = Signature(parameters)  # type: ignore[attr-defined]
    endpoint.__name__ = "_or_".join(one.type for one in commands)
    return endpoint


def add_routes(router: APIRouter) -> None:
    """Add the routes of all commands."""
    for (area, method, path), commands in routes().items():
        docs = [command.doc for command in commands]
        answers = ("position", "event_id", *commands[0].returns)
        router.add_api_route(
            path,
            _endpoint(commands),
            methods=[method],
            tags=[area],
            summary=" ".join(docs) if docs[1:] else docs[0].partition(".")[0].partition(":")[0],
            description=" ".join(docs),
            responses=json_example({name: EXAMPLES[name] for name in answers}),
        )


router = APIRouter(route_class=PooledRoute)
add_routes(router)
