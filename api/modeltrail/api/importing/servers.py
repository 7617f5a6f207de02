"""A running MLflow server, through REST."""

from __future__ import annotations

import base64
import json
import os
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import IO, Any
from urllib.parse import quote, urlencode, urlsplit

from modeltrail.api.importing.entities import (
    Experiment,
    File,
    Folder,
    LoggedModel,
    Model,
    PointsBuilder,
    Run,
    Source,
    SourceError,
    SourcePoints,
    Version,
    whole,
)
from modeltrail.api.importing.files import folder_at, local_path

_TIMEOUT_S = 300.0
_PIECE_BYTES = 1024 * 1024
_RUNS = 100
_POINTS = 25_000
_V2 = "/api/2.0/mlflow/"
_PROMPTS = "mlflow.prompt.is_prompt"
_GONE = (404, 405, 501)

Json = dict[str, Any]
Link = tuple[str | None, str | None, str | None]
"""Logged model, dataset name, dataset digest."""

_NO_LINK: list[Link] = [(None, None, None)]


def is_server(source: str) -> bool:
    """Return whether a source is the URL of a server."""
    return urlsplit(source).scheme in ("http", "https")


class NotThere(SourceError):
    """The server has no such route or object."""


class ServerSource(Source):
    """A server with MLflow's API."""

    def __init__(self, url: str) -> None:
        """Use the server at a URL.

        Credentials come from ``MLFLOW_TRACKING_TOKEN``, or ``MLFLOW_TRACKING_USERNAME`` and
        ``MLFLOW_TRACKING_PASSWORD``, or the URL.

        Raises:
            SourceError: it does not answer like MLflow.
        """
        super().__init__()
        parts = urlsplit(url)
        host = parts.netloc.rpartition("@")[2]
        self._url = f"{parts.scheme}://{host}{parts.path.rstrip('/')}"
        self.identity = self._url
        self._authorization = _authorization(parts.username, parts.password)
        # For the current experiment: the logged models of its points.
        self._links: dict[str, dict[tuple[str, int, int], list[Link]]] = {}
        self._keys: dict[str, list[str]] = {}
        try:
            self._json(f"{_V2}experiments/search?max_results=1")
        except NotThere:
            raise SourceError(f"{self._url} does not answer as MLflow's server does") from None

    def _open(self, path: str, body: Json | None = None) -> IO[bytes]:
        request = urllib.request.Request(self._url + path)
        if body is not None:
            request.data = json.dumps(body).encode()
            request.add_header("Content-Type", "application/json")
        if self._authorization is not None:
            request.add_header("Authorization", self._authorization)
        try:
            answer: IO[bytes] = urllib.request.urlopen(request, timeout=_TIMEOUT_S)
            return answer
        except urllib.error.HTTPError as error:
            with error:
                text = error.read().decode("utf-8", "replace")
            message = f"{error.code} {error.reason}"
            with suppress(ValueError, KeyError, TypeError):
                message = str(json.loads(text)["message"])
            kind = NotThere if error.code in _GONE else SourceError
            hint = ""
            if error.code in (401, 403):
                hint = "; set MLFLOW_TRACKING_TOKEN, or MLFLOW_TRACKING_USERNAME and _PASSWORD"
            raise kind(f"{self._url}: {message[:500]}{hint}") from None
        except OSError as error:
            reason = getattr(error, "reason", error)
            raise SourceError(f"no answer from {self._url}: {reason}") from None

    def _json(self, path: str, body: Json | None = None) -> Json:
        with self._open(path, body) as answer:
            try:
                found = json.load(answer)
            except ValueError:
                found = None
        if not isinstance(found, dict):
            raise NotThere(f"{self._url}{path.partition('?')[0]} does not answer with JSON")
        return found

    def _pages(
        self, path: str, name: str, asked: Json, *, post: bool = False
    ) -> Iterator[list[Json]]:
        """Return the pages of a list."""
        while True:
            if post:
                page = self._json(_V2 + path, asked)
            else:
                page = self._json(f"{_V2}{path}?{urlencode(asked)}")
            yield page.get(name) or []
            token = page.get("next_page_token")
            if not token:
                return
            asked = {**asked, "page_token": token}

    # Experiments and runs

    def experiments(self) -> list[Experiment]:
        asked = {"view_type": "ALL", "max_results": 1000}
        return [
            Experiment.of(e, str(e["experiment_id"]), _tags(e))
            for page in self._pages("experiments/search", "experiments", asked)
            for e in page
        ]

    def runs(self, experiment: Experiment) -> Iterator[list[Run]]:
        body = {
            "experiment_ids": [experiment.id],
            "run_view_type": "ALL",
            "max_results": _RUNS,
            "order_by": ["attributes.start_time ASC"],
        }
        for page in self._pages("runs/search", "runs", body, post=True):
            self._keys.clear()
            runs = [self._run(found, experiment) for found in page]
            if runs:
                yield runs

    def _run(self, found: Json, experiment: Experiment) -> Run:
        info, data, inputs = found["info"], found.get("data") or {}, found.get("inputs") or {}
        run_id = str(info.get("run_id") or info["run_uuid"])
        self._keys[run_id] = [metric["key"] for metric in data.get("metrics") or ()]
        run = Run.of(info, run_id, experiment.id, _params(data), _tags(data))
        for one in inputs.get("dataset_inputs") or ():
            dataset = one["dataset"]
            run.datasets.append(
                {
                    "name": dataset["name"],
                    "digest": dataset["digest"],
                    "source_type": dataset.get("source_type") or "",
                    "source": dataset.get("source") or "",
                    "schema": dataset.get("schema"),
                    "profile": dataset.get("profile"),
                    "tags": _tags(one),
                }
            )
        run.model_inputs = {one["model_id"] for one in inputs.get("model_inputs") or ()}
        run.model_outputs = {
            (one["model_id"], whole(one.get("step")) or 0)
            for one in (found.get("outputs") or {}).get("model_outputs") or ()
        }
        return run

    def points(self, runs: Sequence[Run]) -> Iterator[SourcePoints]:
        for run in runs:
            links = self._links.get(run.run_id, {})
            builder = PointsBuilder(run.run_id)
            for key in self._keys.get(run.run_id, ()):
                for step, timestamp_ms, value in self._history(run.run_id, key):
                    linked = links.get((key, step, timestamp_ms)) or _NO_LINK
                    for model_id, name, digest in linked:
                        if builder.add((key, model_id, name, digest), step, timestamp_ms, value):
                            yield builder.take()
            if len(builder):
                yield builder.take()

    def _history(self, run_id: str, key: str) -> Iterator[tuple[int, int, float]]:
        """Return the points of a metric, each once. A page may repeat points of the one before."""
        seen: set[tuple[int, int, str]] = set()
        asked = {"run_id": run_id, "metric_key": key, "max_results": _POINTS}
        for page in self._pages("metrics/get-history", "metrics", asked):
            for point in page:
                at = (whole(point.get("step")) or 0, whole(point["timestamp"]) or 0)
                value = float(point["value"])
                if (one := (*at, repr(value))) not in seen:
                    seen.add(one)
                    yield *at, value

    # Logged models and the registry

    def logged_models(self, experiment: Experiment) -> list[LoggedModel]:
        self._links = {}
        try:
            asked = {"experiment_ids": [experiment.id], "max_results": 50}
            pages = list(self._pages("logged-models/search", "models", asked, post=True))
        except NotThere:
            return []  # a server before MLflow 3
        return [self._logged_model(found) for page in pages for found in page]

    def _logged_model(self, found: Json) -> LoggedModel:
        info, data = found["info"], found.get("data") or {}
        model_id = info["model_id"]
        for metric in data.get("metrics") or ():
            links = self._links.setdefault(metric.get("run_id") or "", {})
            at = (
                metric["key"],
                whole(metric.get("step")) or 0,
                whole(metric["timestamp"]) or 0,
            )
            link = (model_id, metric.get("dataset_name"), metric.get("dataset_digest"))
            links.setdefault(at, [])
            if link not in links[at]:
                links[at].append(link)
        return LoggedModel.of(info, model_id, info["experiment_id"], _params(data), _tags(info))

    def models(self) -> Iterator[Model]:
        names: set[str] = set()
        # Prompts are listed only on request; servers before 3 do not know the parameter.
        for filter in ("", f"tags.`{_PROMPTS}` = 'true'"):
            asked = {"max_results": 100, **({"filter": filter} if filter else {})}
            try:
                for page in self._pages("registered-models/search", "registered_models", asked):
                    for found in page:
                        if found["name"] not in names:
                            names.add(found["name"])
                            yield self._model(found, filter != "")
            except SourceError:
                if not filter:
                    raise

    def _model(self, found: Json, is_prompt: bool) -> Model:
        name = found["name"]
        escaped = name.replace("'", "''") if "'" in name else name
        filter = f"name='{escaped}'"
        if is_prompt:
            filter += f" AND tags.`{_PROMPTS}` = 'true'"
        asked = {"filter": filter, "max_results": 1000}
        versions = [
            Version.of(one, _tags(one))
            for page in self._pages("model-versions/search", "model_versions", asked)
            for one in page
        ]
        aliases = {one["alias"]: one["version"] for one in found.get("aliases") or ()}
        return Model.of(found, _tags(found), aliases, versions)

    # Artifacts

    def folder(self, uri: str, *, run_id: str | None = None, model_id: str | None = None) -> Folder:
        if urlsplit(uri).scheme in ("mlflow-artifacts", "http", "https"):
            return _ProxiedFolder(self, uri)
        path = local_path(uri)
        if path is not None and not path.is_dir():
            return _ServedFolder(self, run_id) if run_id is not None else folder_at(uri, None)
        return folder_at(uri, None)

    def bytes_at(self, path: str) -> Iterator[bytes]:
        """Return the body of an answer, in pieces."""
        with self._open(path) as answer:
            try:
                while piece := answer.read(_PIECE_BYTES):
                    yield piece
            except OSError as error:
                raise SourceError(f"{self._url} broke the connection: {error}") from None

    def listed(self, route: str, query: dict[str, str]) -> list[Json]:
        """Return the entries of a folder."""
        try:
            return self._json(f"{route}?{urlencode(query)}").get("files") or []
        except NotThere:
            return []


class _ListedFolder:
    """Artifacts whose folders a server lists one by one."""

    def files(self) -> Iterator[File]:
        return self._below("")

    def _below(self, folder: str) -> Iterator[File]:
        for entry in self._entries(folder):
            # Names or whole paths: this depends on the route and the server's version.
            name = entry["path"].rpartition("/")[2]
            path = f"{folder}/{name}" if folder else name
            if entry.get("is_dir"):
                yield from self._below(path)
            else:
                yield File(path, whole(entry.get("file_size")), None)

    def _entries(self, folder: str) -> list[Json]:
        raise NotImplementedError


class _ProxiedFolder(_ListedFolder):
    """Artifacts behind the server's proxy."""

    _ROUTE = "/api/2.0/mlflow-artifacts/artifacts"

    def __init__(self, server: ServerSource, uri: str) -> None:
        self._server = server
        parts = urlsplit(uri)
        self._root = parts.path.strip("/")
        if parts.scheme in ("http", "https"):
            self._root = self._root.partition(self._ROUTE.strip("/"))[2].strip("/")

    def _entries(self, folder: str) -> list[Json]:
        path = f"{self._root}/{folder}" if folder else self._root
        return self._server.listed(self._ROUTE, {"path": path})

    def read(self, path: str) -> Iterator[bytes]:
        return self._server.bytes_at(f"{self._ROUTE}/{quote(f'{self._root}/{path}')}")


class _ServedFolder(_ListedFolder):
    """Artifacts of a run that the server reads for its web page."""

    def __init__(self, server: ServerSource, run_id: str) -> None:
        self._server = server
        self._run_id = run_id

    def _entries(self, folder: str) -> list[Json]:
        query = {"run_id": self._run_id, **({"path": folder} if folder else {})}
        return self._server.listed(f"{_V2}artifacts/list", query)

    def read(self, path: str) -> Iterator[bytes]:
        query = urlencode({"run_uuid": self._run_id, "path": path})
        return self._server.bytes_at(f"/get-artifact?{query}")


def _authorization(user: str | None, password: str | None) -> str | None:
    token = os.environ.get("MLFLOW_TRACKING_TOKEN")
    user = os.environ.get("MLFLOW_TRACKING_USERNAME") or user
    if user:
        password = os.environ.get("MLFLOW_TRACKING_PASSWORD") or password or ""
        return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()
    return f"Bearer {token}" if token else None


def _params(data: Json) -> dict[str, str]:
    return {param["key"]: param.get("value", "") for param in data.get("params") or ()}


def _tags(entity: Json) -> dict[str, str]:
    return {tag["key"]: tag.get("value", "") for tag in entity.get("tags") or ()}
