"""Copy artifacts in pieces, and compare those that exist here."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

from modeltrail.api.artifacts.store import Stored
from modeltrail.api.errors import InvalidRequest
from modeltrail.api.importing.destinations import Destination, rows
from modeltrail.api.importing.entities import File, Folder
from modeltrail.api.importing.files import StoredFolder
from modeltrail.api.importing.writing import Writer
from modeltrail.consumers.reading import sql

if TYPE_CHECKING:
    from modeltrail.api.importing.importer import ExperimentReport, Report

_QUERIES = {"run": sql("imports.run_files"), "model": sql("imports.logged_model_files")}
_EVENTS = {"run": "ArtifactLogged", "model": "LoggedModelArtifactLogged"}


class ArtifactCopier:
    """Copies the files of runs and logged models into the destination's artifact store."""

    def __init__(self, destination: Destination, report: Report) -> None:
        self._destination = destination
        self._report = report

    def copy(
        self, kind: str, id: str, folder: Folder, writer: Writer, report: ExperimentReport
    ) -> None:
        """Copy files that are missing or changed, and compare the stored ones.

        Args:
            kind: ``run`` or ``model``.
            id: Id of the run or logged model.
            folder: Its files at the source.
            writer: Sends the events that record stored files.
            report: Counts the results.

        Raises:
            SourceError: the files cannot be read.
        """
        files = list(folder.files())
        if not files:
            return
        here = {
            path: (size, sha) for path, size, sha in rows(self._destination, _QUERIES[kind], [id])
        }
        for file in files:
            report.artifacts += 1
            report.artifact_bytes += file.size_bytes or 0
            if self._is_here(folder, file, here.get(file.path)):
                continue
            if self._report.dry_run:
                stored = Stored(file.size_bytes or 0, "", "")
            else:
                found = self._copy(kind, id, folder, file)
                if found is None:
                    continue
                stored = found
            self._report.artifacts_copied += 1
            self._report.artifact_bytes_copied += stored.size_bytes
            fields = {"path": file.path, **stored._asdict()}
            writer.put(_EVENTS[kind], file.modified_at_ms, fields)

    def _is_here(self, folder: Folder, file: File, here: tuple[int, str] | None) -> bool:
        if here is None or (file.size_bytes is not None and file.size_bytes != here[0]):
            return False
        if not isinstance(folder, StoredFolder):
            return True  # comparing more than the size would mean to download it
        digest = hashlib.sha256()
        for piece in folder.read(file.path):
            digest.update(piece)
        return digest.hexdigest() == here[1]

    def _copy(self, kind: str, id: str, folder: Folder, file: File) -> Stored | None:
        """Copy a file. If that fails, record a difference and return None."""
        digest, size = hashlib.sha256(), 0

        def counted() -> Iterator[bytes]:
            nonlocal size
            for piece in folder.read(file.path):
                digest.update(piece)
                size += len(piece)
                yield piece

        try:
            stored = self._destination.store(kind, id, file.path, counted())
        except InvalidRequest as error:
            self._report.differ(f"{kind} {id}: {error.message}")
            return None
        if (stored.size_bytes, stored.sha256) != (size, digest.hexdigest()):
            self._report.differ(f"{kind} {id}: artifact {file.path!r} was not stored as it is")
            return None
        if file.size_bytes is not None and size != file.size_bytes:
            self._report.notes.append(f"{kind} {id}: artifact {file.path!r} grew while it was read")
        return stored
