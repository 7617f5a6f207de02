"""Experiments and registered models: compare them with the fold, and make the missing requests."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

from modeltrail.api.importing.destinations import Destination, rows
from modeltrail.api.importing.entities import Experiment, Model, Version
from modeltrail.api.importing.files import is_ours_to_copy
from modeltrail.api.importing.writing import Request
from modeltrail.consumers.reading import sql

_VALID_ID = re.compile(r"0|[1-9][0-9]{0,17}")
_OF_MODEL = re.compile(r"(?:^|/)models/(m-[0-9a-f]{32})/artifacts(/.*)?$")
_OF_RUN = re.compile(r"(?:^|/)([0-9a-f]{32})/artifacts(/.*)?$")


def _changed(theirs: Mapping[str, str], ours: Mapping[str, str]) -> dict[str, str]:
    return {key: value for key, value in theirs.items() if ours.get(key) != value}


# Experiments


class ExperimentsHere:
    """The experiments of the destination, and which of them came from the source."""

    def __init__(self, destination: Destination, identity: str) -> None:
        self.by_id: dict[str, Experiment] = {}
        self.by_name: dict[str, Experiment] = {}
        for row in rows(destination, sql("imports.experiments")):
            found = Experiment(*row)
            self.by_id[found.id] = self.by_name[found.name] = found
        for experiment_id, key, value in rows(destination, sql("imports.experiment_tags")):
            self.by_id[experiment_id].tags[key] = value
        self._imported = dict(rows(destination, sql("imports.imported_experiments"), [identity]))
        self._with_runs = {
            row[0] for row in rows(destination, sql("imports.experiments_with_runs"))
        }

    def of(self, experiment: Experiment) -> Experiment | None:
        """Return the experiment here that is the source's, or that it was imported as."""
        imported = self._imported.get(experiment.id)
        if imported is not None:
            return self.by_id[imported]
        return self.by_name.get(experiment.name)

    def free_id(self, experiment: Experiment) -> str | None:
        """Return the id that it can keep here, or None if that is taken."""
        taken = self.by_id.get(experiment.id)
        is_free = taken is None or taken.created_at_ms is None
        return experiment.id if is_free and _VALID_ID.fullmatch(experiment.id) else None

    def requests(self, experiment: Experiment, *, copy_all: bool) -> list[Request]:
        """Return the missing requests for an experiment of the source."""
        here = self.of(experiment)
        what = f"experiment {experiment.name!r}"
        if here is None or (here.created_at_ms is None and here.id == experiment.id):
            location = experiment.artifact_location
            if location and (copy_all or is_ours_to_copy(location)):
                location = None
            if here is not None and here.id in self._with_runs:
                location = here.artifact_location  # its runs store their artifacts there
            return [
                Request(
                    "ImportExperiment",
                    what,
                    experiment.created_at_ms,
                    imported_id=experiment.id,
                    experiment_id=self.free_id(experiment),
                    name=experiment.name,
                    artifact_location=location,
                    tags=experiment.tags,
                    deleted=experiment.deleted,
                    created_at_ms=experiment.created_at_ms,
                    updated_at_ms=experiment.updated_at_ms,
                )
            ]
        wanted = []
        restore = [Request("RestoreExperiment", what, experiment_id=here.id)]
        delete = [Request("DeleteExperiment", what, experiment_id=here.id)]
        if here.name != experiment.name:
            wanted.append(
                Request("RenameExperiment", what, experiment_id=here.id, name=experiment.name)
            )
        tags = _changed(experiment.tags, here.tags)
        if tags:
            wanted.append(Request("ChangeExperimentTags", what, experiment_id=here.id, tags=tags))
        if here.deleted and (wanted or not experiment.deleted):
            wanted = restore + wanted
        if experiment.deleted and (wanted or not here.deleted):
            wanted += delete
        return wanted


# Registered models


def new_source(uri: str, experiment_of: Callable[[str, str], str | None], copy_all: bool) -> str:
    """Return where the files of a version are here.

    Args:
        uri: Where they are at the source.
        experiment_of: Returns the experiment here of a ``run`` or logged ``model``, by its id.
        copy_all: Whether files of object stores were copied too.
    """
    scheme = urlsplit(uri).scheme
    if scheme in ("runs", "models", "mlflow-artifacts"):
        return uri
    if not (copy_all or is_ours_to_copy(uri)):
        return uri
    for kind, pattern, folder in (("model", _OF_MODEL, "models/"), ("run", _OF_RUN, "")):
        found = pattern.search(uri)
        if found is not None:
            experiment_id = experiment_of(kind, found[1])
            if experiment_id is not None:
                rest = found[2] or ""
                return f"mlflow-artifacts:/{experiment_id}/{folder}{found[1]}/artifacts{rest}"
    return uri


def models_here(destination: Destination) -> dict[str, tuple[Model, int]]:
    """Return the registered models of the destination, and the next version number of each."""
    found: dict[str, tuple[Model, int]] = {}
    keys: dict[str, Model] = {}
    versions: dict[tuple[str, int], Version] = {}
    for key, name, description, created, updated, following in rows(
        destination, sql("imports.models")
    ):
        model = keys[key] = Model(name, description, created, updated)
        found[name] = (model, following)
    for row in rows(destination, sql("imports.versions")):
        versions[row[0], row[1]] = version = Version(*row[1:])
        if row[0] in keys:
            keys[row[0]].versions.append(version)
    for entity, key, number, name, value in rows(destination, sql("imports.aliases_and_tags")):
        if entity == "alias":
            keys[key].aliases[name] = number
        elif entity == "model":
            keys[key].tags[name] = value
        else:
            versions[key, number].tags[name] = value
    return found


def model_requests(model: Model, here: tuple[Model, int] | None) -> Iterator[Request]:
    """Return the missing requests for a registered model, with the sources of versions here."""
    name, what = model.name, f"registered model {model.name!r}"
    if here is None:
        yield Request(
            "ImportRegisteredModel",
            what,
            model.created_at_ms,
            model=name,
            description=model.description,
            tags=model.tags,
            created_at_ms=model.created_at_ms,
            updated_at_ms=model.updated_at_ms,
        )
        ours, following = Model(name), 1
    else:
        ours, following = here
        if (model.description or "") != (ours.description or ""):
            yield Request(
                "UpdateRegisteredModel", what, model=name, description=model.description or ""
            )
        tags = _changed(model.tags, ours.tags)
        if tags:
            yield Request("ChangeRegisteredModelTags", what, model=name, tags=tags)
    numbers = {version.number: version for version in ours.versions}
    for version in model.versions:
        one = numbers.get(version.number)
        if one is not None or version.number < following:
            yield from _version_requests(name, version, one)
        else:
            yield _new_version(name, version)
    alive = {version.number for version in model.versions if not version.deleted}
    for alias, number in model.aliases.items():
        if number in alive and ours.aliases.get(alias) != number:
            yield Request(
                "SetRegisteredModelAlias", f"alias {alias!r} of {what}",
                model=name, alias=alias, version=number,
            )  # fmt: skip


def _new_version(name: str, version: Version) -> Request:
    return Request(
        "ImportModelVersion",
        f"version {version.number} of registered model {name!r}",
        version.created_at_ms,
        model=name,
        version=version.number,
        source=version.source or "unknown",
        run_id=version.run_id,
        model_id=version.model_id,
        run_link=version.run_link,
        description=version.description,
        stage="None" if version.deleted else version.stage,
        tags=version.tags,
        deleted=version.deleted,
        created_at_ms=version.created_at_ms,
        updated_at_ms=version.updated_at_ms,
    )


def _version_requests(name: str, version: Version, here: Version | None) -> Iterator[Request]:
    what = f"version {version.number} of registered model {name!r}"
    which: dict[str, Any] = {"model": name, "version": version.number}
    if version.deleted:
        if here is not None:
            yield Request("DeleteModelVersion", what, version.updated_at_ms, **which)
        return
    if here is None or (here.source, here.run_id) != (version.source, version.run_id):
        # Its number is taken by another version here, or used up: the fold reports it.
        yield _new_version(name, version)
        return
    if (version.description or "") != (here.description or ""):
        yield Request("UpdateModelVersion", what, description=version.description or "", **which)
    tags = _changed(version.tags, here.tags)
    if tags:
        yield Request("ChangeModelVersionTags", what, tags=tags, **which)
    if version.stage != here.stage:
        yield Request(
            "TransitionModelVersionStage", what, version.updated_at_ms, stage=version.stage, **which
        )
