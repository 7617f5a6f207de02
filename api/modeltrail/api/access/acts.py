"""The permissions that acts need.

Acts on runs and logged models are here, those on the registry in its table.

An act has the name of the event that it appends, however it is requested: MLflow's endpoints,
native routes and ingest all look up its needs here or in ``registry.commands``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from enum import Enum, IntEnum
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from modeltrail.api.errors import NotFound

if TYPE_CHECKING:
    from modeltrail.api.access.rights import Rights


class Level(IntEnum):
    """How much is allowed. Each level includes those below."""

    NONE = 0
    READ = 1
    USE = 2
    EDIT = 3
    MANAGE = 4


EDIT, MANAGE, READ = Level.EDIT, Level.MANAGE, Level.READ


class Kind(Enum):
    """What a level is for, directly or through its experiment."""

    SERVER = "server"
    """The server itself: only administrators."""
    EXPERIMENT = "experiment"
    RUN = "run"
    LOGGED_MODEL = "logged model"
    MODEL = "registered model"
    EXPERIMENT_NAME = "experiment of a name"
    ACCOUNT = "account of a user"
    """An account: administrators, and the user."""
    GRANTABLE = "experiment or registered model"
    NEW_EXPERIMENT = "name of an experiment"
    """A name given to an experiment. Any user may, outside of other users' prefixes."""
    NEW_MODEL = "name of a registered model"


class Mention(NamedTuple):
    """Another object that an act refers to, beside the one that it changes."""

    kind: Kind
    level: Level
    ids: Callable[[Mapping[str, Any]], Iterable[str | None]]
    """Returns the ids in an event."""
    must_exist: bool = False
    """Whether a missing object is refused.

    If not, it may come later: logged models and runs travel separately, and MLflow accepts any id.
    """


class Act(NamedTuple):
    """What an act needs."""

    kind: Kind
    """The kind of what it changes, or of what a new object is put into."""
    level: Level
    mentions: Mapping[str, Mention] = {}


def _series_models(event: Mapping[str, Any]) -> set[str | None]:
    return {series["model_id"] for series in event["series"]}


ADMIN: Final = Act(Kind.SERVER, MANAGE)
_EDIT_RUN: Final = Act(Kind.RUN, EDIT)
_EDIT_LOGGED_MODEL: Final = Act(Kind.LOGGED_MODEL, EDIT)

RUN_ACTS: Final[Mapping[str, Act]] = {
    "RunStarted": Act(Kind.EXPERIMENT, EDIT),
    "RunUpdated": _EDIT_RUN,
    "RunEnded": _EDIT_RUN,
    "RunHeartStopped": ADMIN,  # decided by a server
    "RunDeleted": Act(Kind.RUN, MANAGE),
    "RunRestored": Act(Kind.RUN, MANAGE),
    "Heartbeat": _EDIT_RUN,
    # Metrics of a logged model are shown with the model.
    "MetricsLogged": Act(
        Kind.RUN, EDIT, {"model": Mention(Kind.LOGGED_MODEL, EDIT, _series_models)}
    ),
    "ParamsLogged": _EDIT_RUN,
    "TagsChanged": _EDIT_RUN,
    "DatasetsLogged": _EDIT_RUN,
    "ArtifactLogged": _EDIT_RUN,
    "ArtifactDeleted": _EDIT_RUN,
    "RunModelsLogged": Act(
        Kind.RUN,
        EDIT,
        {
            "input": Mention(Kind.LOGGED_MODEL, READ, lambda event: event["inputs"]),
            "output": Mention(
                Kind.LOGGED_MODEL,
                EDIT,
                lambda event: (output["model_id"] for output in event["outputs"]),
            ),
        },
    ),
    # A server creates the version from it, as a separate act: see CreateModelVersion.
    "ModelRegistrationRequested": _EDIT_RUN,
    "LoggedModelCreated": Act(
        Kind.EXPERIMENT,
        EDIT,
        {"run": Mention(Kind.RUN, READ, lambda event: (event["source_run_id"],), must_exist=True)},
    ),
    "LoggedModelImported": ADMIN,
    "LoggedModelUpdated": _EDIT_LOGGED_MODEL,
    "LoggedModelDeleted": Act(Kind.LOGGED_MODEL, MANAGE),
    "LoggedModelArtifactLogged": _EDIT_LOGGED_MODEL,
    "LoggedModelArtifactDeleted": _EDIT_LOGGED_MODEL,
}
"""What each act of the stream ``runs`` needs, by event type."""


def check(rights: Rights, kind: Kind, id: str, level: Level) -> None:
    """Check that a caller has a level for something.

    Raises:
        Forbidden: the caller does not.
        NotFound: it does not exist.
    """
    if kind is Kind.RUN:
        rights.run(id, level)
    elif kind is Kind.LOGGED_MODEL:
        rights.logged_model(id, level)
    elif kind is Kind.EXPERIMENT:
        rights.experiment(id, level)
    elif kind is Kind.MODEL:
        rights.model(id, level)
    elif kind is Kind.EXPERIMENT_NAME:
        rights.experiment_named(id, level)
    elif kind is Kind.ACCOUNT:
        if id != rights.user:
            rights.admin()
    elif kind is Kind.NEW_EXPERIMENT:
        rights.new_experiment(id)
    elif kind is Kind.NEW_MODEL:
        rights.new_model(id)
    else:
        rights.admin()


def check_mention(rights: Rights, mention: Mention, id: str) -> None:
    """Check that a caller may refer to something beside what an act changes.

    Raises:
        Forbidden: the caller may not.
        NotFound: it does not exist, and has to.
    """
    try:
        check(rights, mention.kind, id, mention.level)
    except NotFound:
        if mention.must_exist:
            raise
