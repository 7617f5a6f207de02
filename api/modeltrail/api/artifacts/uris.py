"""Parse the URIs of artifacts: the only parser of where files are.

A URI is checked when it arrives (the source of a version, the location of a logged model) and again
when files are fetched. Both use this parser, so the files that were checked are the files that are
fetched.

``mlflow-artifacts:/<path>`` refers to files of this server, through MLflow's artifact proxy:

    <experiment>/<run>/artifacts/<path>           the run's <path>
    <experiment>/models/<model>/artifacts/<path>  the logged model's <path>
    <anything else>                               itself, among the files without an owner

The experiment in the path is ignored, and the run need not exist: a path leads to the same file on
every server, however far it has folded.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import PurePosixPath, PureWindowsPath
from typing import Literal, NamedTuple
from urllib.parse import unquote, unquote_plus

from modeltrail.api.artifacts.store import OTHER, of_model
from modeltrail.api.errors import InvalidRequest

_ROUTE = "/api/2.0/mlflow-artifacts/artifacts/"
_RUN = re.compile(r"[0-9a-f]{32}")
_MODEL = re.compile(r"m-[0-9a-f]{32}")
# One letter before the colon is a drive of Windows.
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):(.*)", re.DOTALL)
_AUTHORITY = re.compile(r"\A//[^/?#]*")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_DECODINGS_MAX = 10


class Place(NamedTuple):
    """Files that this server stores."""

    kind: Literal["run", "model", "other"]
    id: str
    """Id of the run or logged model."""
    path: str
    """Path within the artifacts of that run or model; empty for the whole folder."""

    @property
    def owner(self) -> str:
        """The owner in the artifact store."""
        if self.kind == "run":
            return self.id
        return of_model(self.id) if self.kind == "model" else OTHER


class RunUri(NamedTuple):
    """The target of a ``runs:/`` URI: files of a run, wherever the run stores them."""

    run_id: str
    path: str


class ModelUri(NamedTuple):
    """The target of a ``models:/`` URI: a logged model, or a version of a registered one."""

    model_id: str | None = None
    name: str | None = None
    version: int | None = None
    stage: str | None = None
    alias: str | None = None


class Elsewhere(NamedTuple):
    """Files that this server does not read: in an object store, or on some machine's disk."""

    uri: str
    local: bool
    """Whether it is a path on some machine."""


Location = Place | RunUri | ModelUri | Elsewhere


def parse(uri: str) -> Location:
    """Return where a URI leads.

    Names in ``runs:/`` and ``models:/`` URIs are taken literally: the name of a registered model
    may contain ``#``, ``?``, ``@`` and ``%``.

    Raises:
        InvalidRequest: it is not a URI, or it leads out of its folder, however often it is decoded
            on its way. Messages begin like MLflow's for a version's source.
    """
    if _CONTROL.search(uri):
        raise _climbs(uri)
    found = _SCHEME.fullmatch(uri)
    if found is None or found[1].lower() == "file":
        return Elsewhere(uri, local=True)
    scheme, rest = found[1].lower(), found[2]
    _check_absolute(uri, rest)
    if scheme in ("runs", "models"):
        if rest.startswith("//") and not rest.startswith("///"):
            raise foreign(uri, "run_id" if scheme == "runs" else "model_id")
        if scheme == "runs":
            run_id, _, path = rest.lstrip("/").partition("/")
            return RunUri(run_id, path.strip("/"))
        return _model(uri, rest.lstrip("/"))
    if scheme == "mlflow-artifacts":
        return place_of(_AUTHORITY.sub("", rest).strip("/"))
    if scheme in ("http", "https") and _ROUTE in rest:
        return place_of(rest.partition(_ROUTE)[2].strip("/"))
    return Elsewhere(uri, local=False)


def _model(uri: str, path: str) -> ModelUri:
    parts = path.split("/")
    if len(parts) > 2 or not all(part.strip() for part in parts):
        raise foreign(uri, "model_id")
    if len(parts) == 2:
        name, suffix = parts
        if suffix.isdecimal():
            number = int(suffix) if len(suffix) < 20 else 0
            return ModelUri(name=name, version=number if number < 2**63 else 0)
        return ModelUri(name=name, stage=None if suffix.lower() == "latest" else suffix)
    name, at, alias = parts[0].rpartition("@")
    if at and alias.strip():
        return ModelUri(name=name, alias=alias)
    return ModelUri(model_id=parts[0])


def _check_absolute(uri: str, rest: str) -> None:
    """Refuse a URI that leads out of its folder."""
    decoded = _decoded(rest, unquote_plus)
    if decoded is None or _CONTROL.search(decoded):
        raise _climbs(uri)
    path = _AUTHORITY.sub("", decoded)
    if ".." in decoded.replace("\\", "/").split("/") or not re.match(r"[/?#]|$", path):
        raise _climbs(uri)


def check_plain(uri: str) -> None:
    """Refuse a URI with a name ``.``, as MLflow does for a new source. It is harmless elsewhere."""
    if "." in (_decoded(uri, unquote_plus) or ".").split("/"):
        raise _climbs(uri)


def _decoded(text: str, decode: Callable[[str], str]) -> str | None:
    """Return a text without any percent-encoding, or None if it was encoded absurdly often."""
    for _ in range(_DECODINGS_MAX):
        again = decode(text)
        if again == text:
            return text
        text = again
    return None


def foreign(uri: str, which: str) -> InvalidRequest:
    """Return the error for a source that belongs to another run or logged model."""
    return InvalidRequest(
        f"Invalid model version source: '{uri}'. The {which} request parameter must identify "
        "the resource that contains the source."
    )


def _climbs(uri: str) -> InvalidRequest:
    return InvalidRequest(
        f"Invalid model version source: '{uri}'. If supplying a source as an http, https, "
        "local file path, ftp, objectstore, or mlflow-artifacts uri, an absolute path must be "
        "provided without relative path references present. Please provide an absolute path."
    )


# Paths of the proxy


def place_of(path: str) -> Place:
    """Return where a path of the proxy leads. Raises ``InvalidRequest`` if it is unsafe."""
    names = safe(path).split("/") if path else []
    for at, name in enumerate(names[1:], 1):
        if name != "artifacts":
            continue
        owner, rest = names[at - 1], "/".join(names[at + 1 :])
        if at > 1 and names[at - 2] == "models" and _MODEL.fullmatch(owner):
            return Place("model", owner, rest)
        if _RUN.fullmatch(owner) or (at == 2 and names[0].isdecimal() and owner != "models"):
            return Place("run", owner, rest)
    return Place("other", "", "/".join(names))


def safe(path: str) -> str:
    """Return a path without empty names.

    Raises ``InvalidRequest`` if it leads out of its folder.

    It must not lead out however often it is decoded on its way.
    """
    decoded = path
    for _ in range(_DECODINGS_MAX):
        if (
            ".." in decoded.split("/")
            or "\\" in decoded
            or "\x00" in decoded
            or decoded.lower().startswith("file:")
            or PurePosixPath(decoded).is_absolute()
            or PureWindowsPath(decoded).drive
        ):
            raise InvalidRequest("Invalid path")
        again = unquote(decoded)
        if again == decoded:
            return "/".join(name for name in path.split("/") if name not in ("", "."))
        decoded = again
    raise InvalidRequest("Invalid path")
