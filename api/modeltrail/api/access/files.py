"""What a caller may do with files, by where they are or where they are said to come from."""

from __future__ import annotations

from urllib.parse import urlsplit

from modeltrail.api.access.rights import Level, Rights
from modeltrail.api.errors import InvalidRequest, NotFound
from modeltrail.api.mlflow.artifacts import Place, place_of_uri


def check_place(rights: Rights, place: Place, need: Level) -> None:
    """Whether a caller may do this with files of a run, of a logged model, or of nobody.

    Raises:
        Forbidden: no.
        NotFound: there is no such run or logged model.
    """
    if place.kind == "run":
        rights.run(place.id, need)
    elif place.kind == "model":
        rights.logged_model(place.id, need)
    else:
        # Files of nobody; under the id of an experiment they count as its own.
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
    """Whether a caller may make a version of what is at a source, which it lets others read.

    What is nowhere here gives nothing away, and passes.

    Raises:
        Forbidden: the caller may not read the run, logged model or version that it comes from.
    """
    named: list[tuple[str, str | None]] = [("run", run_id), ("logged", model_id)]
    parts = urlsplit(source)
    first = parts.path.lstrip("/").partition("/")[0].partition("@")[0]
    if parts.scheme.lower() == "runs":
        named.append(("run", first))
    elif parts.scheme.lower() == "models":
        named += [("logged", first), ("model", first)]
    for kind, name in named:
        if name:
            try:
                if kind == "run":
                    rights.run(name, Level.READ)
                elif kind == "logged":
                    rights.logged_model(name, Level.READ)
                else:
                    rights.model(name, Level.READ)
            except NotFound:
                continue
    try:
        place = place_of_uri(source)
    except InvalidRequest:
        return  # refused, or read by nobody
    if place is not None:
        check_place(rights, place, Level.READ)
