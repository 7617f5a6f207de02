"""Permissions on files, by where they are or where they are said to come from."""

from __future__ import annotations

from contextlib import suppress

from modeltrail.api.access.acts import Level
from modeltrail.api.access.rights import Rights
from modeltrail.api.artifacts.uris import ModelUri, Place, RunUri, parse
from modeltrail.api.errors import NotFound


def check_place(rights: Rights, place: Place, need: Level) -> None:
    """Check whether a caller may do this with files of a run, of a logged model, or without owner.

    Raises:
        Forbidden: no.
        NotFound: there is no such run or logged model.
    """
    if place.kind == "run":
        rights.run(place.id, need)
    elif place.kind == "model":
        rights.logged_model(place.id, need)
    else:
        # Files without an owner. Those under the id of an experiment count as its own.
        experiment_id = place.path.partition("/")[0]
        if experiment_id.isdecimal():
            rights.experiment(experiment_id, need)
        elif need is Level.READ:
            rights.everything()
        else:
            rights.admin()


def check_source(
    rights: Rights, source: str, run_id: str | None = None, model_id: str | None = None
) -> None:
    """Check whether a caller may create a version from a source, which lets others read it.

    A source that is not here reveals nothing, and is accepted.

    Raises:
        Forbidden: the caller may not read the run, logged model or version that it comes from.
        InvalidRequest: it is not a URI that files may be fetched from; see ``parse``.
    """
    where = parse(source)
    run_ids, model_ids, name = {run_id}, {model_id}, None
    if isinstance(where, RunUri):
        run_ids.add(where.run_id)
    elif isinstance(where, ModelUri):
        model_ids.add(where.model_id)
        name = where.name
    for one in run_ids - {None, ""}:
        with suppress(NotFound):
            rights.run(str(one), Level.READ)
    for one in model_ids - {None, ""}:
        with suppress(NotFound):
            rights.logged_model(str(one), Level.READ)
    if name is not None:
        with suppress(NotFound):
            rights.model(name, Level.READ)
    if isinstance(where, Place):
        check_place(rights, where, Level.READ)
