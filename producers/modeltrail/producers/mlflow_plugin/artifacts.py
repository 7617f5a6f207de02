"""Artifacts: written through the outbox, read from a server or a folder."""

from __future__ import annotations

import os
import shutil
from typing import Any
from urllib.parse import unquote, urlsplit

from mlflow.entities import FileInfo
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE, RESOURCE_DOES_NOT_EXIST
from mlflow.store.artifact.artifact_repo import ArtifactRepository
from mlflow.store.artifact.http_artifact_repo import HttpArtifactRepository
from mlflow.store.artifact.mlflow_artifacts_repo import MlflowArtifactsRepository

from modeltrail.eventlog.address import kind_of
from modeltrail.producers.mlflow_plugin.server import credentials
from modeltrail.producers.mlflow_plugin.store import TrackingStore
from modeltrail.producers.run import Run
from modeltrail.producers.settings import Settings
from modeltrail.producers.values import artifact_name


class Artifacts(ArtifactRepository):  # type: ignore[misc]  # MLflow ships no types
    """The files of a run or of a logged model."""

    def __init__(self, artifact_uri: str, store: TrackingStore) -> None:
        """Make a repository; nothing is looked up yet.

        Raises:
            MlflowException: the URI is not that of a run's or a logged model's artifacts.
        """
        super().__init__(artifact_uri)
        self._store = store
        names = [n for n in unquote(urlsplit(artifact_uri).path).split("/") if n]
        if "artifacts" not in names[1:]:
            raise MlflowException(
                f"not the artifacts of a run or logged model: {artifact_uri}",
                error_code=INVALID_PARAMETER_VALUE,
            )
        at = names.index("artifacts", 1)
        self._id = names[at - 1]
        self._of_model = at > 1 and names[at - 2] == "models"
        self._within = "/".join(names[at + 1 :])

    def _writer(self) -> Run:
        if self._of_model:
            return self._store.writable_model(self._id).writer
        return self._store.writable_run(self._id).writer

    def _path(self, artifact_path: str | None) -> str | None:
        return "/".join(part for part in (self._within, artifact_path) if part) or None

    def log_artifact(self, local_file: str, artifact_path: str | None = None) -> None:
        """Store a file. It is copied to the outbox now and uploaded later."""
        if not os.path.exists(local_file):
            raise FileNotFoundError(f"No such file or directory: '{local_file}'")
        self._writer().log_artifact(local_file, self._path(artifact_path))

    def log_artifacts(self, local_dir: str, artifact_path: str | None = None) -> None:
        """Store all files of a folder; see ``log_artifact``."""
        if not os.path.isdir(local_dir):
            raise FileNotFoundError(f"No such directory: '{local_dir}'")
        self._writer().log_artifacts(local_dir, self._path(artifact_path))

    def list_artifacts(self, path: str | None = None) -> list[Any]:
        """List what is directly in a folder."""
        remote = self._remote()
        if remote is not None:
            return list(remote.list_artifacts(path))
        top = self._folder()
        folder = os.path.join(top, *artifact_name(path).split("/")) if path else top
        if not os.path.isdir(folder):
            return []
        prefix = f"{artifact_name(path)}/" if path else ""
        return [
            FileInfo(prefix + entry.name, is_dir, None if is_dir else entry.stat().st_size)
            for entry in sorted(os.scandir(folder), key=lambda e: e.name)
            for is_dir in (entry.is_dir(),)
            if not entry.name.endswith(".part")
        ]

    def _download_file(self, remote_file_path: str, local_path: str) -> None:
        remote = self._remote()
        if remote is not None:
            remote._download_file(remote_file_path, local_path)
            return
        file = os.path.join(self._folder(), *artifact_name(remote_file_path).split("/"))
        if not os.path.isfile(file):
            raise MlflowException(
                f"No such artifact: '{remote_file_path}'", error_code=RESOURCE_DOES_NOT_EXIST
            )
        shutil.copyfile(file, local_path)

    def delete_artifacts(self, artifact_path: str | None = None) -> None:
        """Delete files. Only the server can do this."""
        self._store.server.require()
        self._remote().delete_artifacts(artifact_path)

    def _remote(self) -> Any:
        """Return the server's repository if a server answers.

        Deliver what was logged here first.
        """
        server = self._store.server
        self._store.flush(self._store.settings.read_timeout_s)
        if not server.answers:
            return None
        return _Remote(self.artifact_uri, str(server.url))

    def _folder(self) -> str:
        """Return the folder of the files.

        Raises ``MlflowException`` if they cannot be read here.
        """
        settings = self._store.settings
        root = _artifact_folder(settings)
        if root is None:
            self._store.server.require()
        owner = ["models", self._id] if self._of_model else [self._id]
        return os.path.join(str(root), *owner, *self._within.split("/"))


def _artifact_folder(settings: Settings) -> str | None:
    """Return where the producers store artifacts, if that is a folder."""
    if kind_of(settings.url) == "folder":
        return os.path.join(settings.url, "artifacts")
    elsewhere = settings.artifacts
    if not elsewhere or kind_of(elsewhere) == "server":
        return None
    return os.path.abspath(elsewhere)


class _Remote(HttpArtifactRepository):  # type: ignore[misc]  # MLflow ships no types
    """MLflow's own repository, on the server that the plugin reads from."""

    def __init__(self, artifact_uri: str, server: str) -> None:
        super().__init__(MlflowArtifactsRepository.resolve_uri(artifact_uri, server))
        self._server = server

    @property
    def _host_creds(self) -> Any:
        creds = credentials(self._server)
        creds.host = self.artifact_uri
        return creds
