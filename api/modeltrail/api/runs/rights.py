"""Check whether a caller may append events of runs and logged models, by the rules in ``acts``."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from modeltrail.api.access.acts import Kind, Level, check, check_mention
from modeltrail.api.access.files import check_source
from modeltrail.api.access.rights import Rights
from modeltrail.api.artifacts.uris import Place, parse
from modeltrail.api.errors import Forbidden, NotFound
from modeltrail.api.registry.commands import ACTS, act_of
from modeltrail.consumers.caretaker import absolute_source
from modeltrail.schemas import experiment_id

Thing = tuple[Kind, str]
"""A run or logged model. An id alone does not tell which of the two it is."""

_EXPERIMENT_LEVEL = ACTS["RunStarted"].level
_VERSION_LEVEL = ACTS["CreateModelVersion"].level


def thing_of(event: Mapping[str, Any]) -> Thing:
    """Return the run or logged model of an event. Its id is the event's key in the stream."""
    if "run_id" in event:
        return Kind.RUN, event["run_id"]
    return Kind.LOGGED_MODEL, event["model_id"]


class Batch:
    """The checks of one batch, event by event, in order.

    Attributes:
        new: Runs and logged models that the batch starts and that this server does not have, with
            the index of the event that starts each. See ``check_begun``.
    """

    def __init__(self, rights: Rights) -> None:
        self.new: dict[Thing, int] = {}
        self._rights = rights
        # Permissions on the new ones depend on where the batch puts them.
        self._checks: dict[Thing, Callable[[Level], None]] = {}
        self._named: set[str] = set()  # future ids of experiments that runs name first
        self._passed: set[tuple[Thing, Level]] = set()

    def check(self, events: Iterable[tuple[str, Mapping[str, Any]]]) -> None:
        """Check events, each given as its type and fields.

        Raises:
            Forbidden: one of them is not allowed; nothing of the batch may be appended.
            NotFound: one belongs to a run or logged model that never started.
        """
        if not self._rights.is_admin:
            for index, (type, event) in enumerate(events):
                self._check(index, type, event)

    def _check(self, index: int, type: str, event: Mapping[str, Any]) -> None:
        act, thing = act_of(type), thing_of(event)
        if act.kind is thing[0]:
            self._check_thing(thing, act.level)
        elif type == "RunStarted":
            self._check_start(index, event)
        elif type == "LoggedModelCreated":
            self._check_model(index, event)
        else:
            self._rights.admin()
        for mention in act.mentions.values():
            for id in mention.ids(event):
                if id and (mention.kind, id) in self._checks:
                    self._check_thing((mention.kind, id), mention.level)
                elif id:
                    check_mention(self._rights, mention, id)
        if type == "ModelRegistrationRequested":
            self._rights.model_or_new(event["model"], _VERSION_LEVEL)
            source = absolute_source(event["source"], event["run_id"])
            check_source(self._rights, source, event["run_id"])

    def _check_thing(self, thing: Thing, level: Level) -> None:
        if (thing, level) in self._passed:
            return
        if thing in self._checks:
            self._checks[thing](level)
        else:
            check(self._rights, *thing, level)
        self._passed.add((thing, level))

    def _check_new(self, index: int, thing: Thing, within: Callable[[Level], None]) -> None:
        """Check something that a batch starts. If it already exists, the existing one counts."""
        if thing in self._checks or self._is_there(thing):
            self._check_thing(thing, _EXPERIMENT_LEVEL)
            return
        within(_EXPERIMENT_LEVEL)
        self._checks[thing] = within
        self.new[thing] = index

    def _is_there(self, thing: Thing) -> bool:
        try:
            check(self._rights, *thing, Level.NONE)
        except NotFound:
            return False
        return True

    def _check_start(self, index: int, event: Mapping[str, Any]) -> None:
        id, name = event["experiment_id"], event["experiment_name"]

        def within(level: Level) -> None:
            if id is not None:
                self._rights.experiment(id, level)
                return
            try:
                self._rights.experiment_named(name, level)
            except NotFound:
                self._rights.new_experiment(name)
                if level > _EXPERIMENT_LEVEL:
                    raise Forbidden(
                        f"Permission denied: {level.name} is needed for experiment '{name}', "
                        "which does not exist yet."
                    ) from None

        self._check_new(index, (Kind.RUN, event["run_id"]), within)
        if id is None:
            self._named.add(experiment_id(name))

    def _check_model(self, index: int, event: Mapping[str, Any]) -> None:
        model_id, id, location = (
            event[name] for name in ("model_id", "experiment_id", "artifact_location")
        )

        def within(level: Level) -> None:
            try:
                self._rights.experiment(id, level)
            except NotFound:
                if id not in self._named or level > _EXPERIMENT_LEVEL:
                    raise

        self._check_new(index, (Kind.LOGGED_MODEL, model_id), within)
        # The location that this server chooses for the model itself does not exist yet.
        if location and parse(location) != Place("model", model_id, ""):
            # Users who may read the model may download what is there.
            check_source(self._rights, location)

    def check_begun(self) -> None:
        """Check that what the batch started belongs to the caller, after the fold has decided.

        Another user may have started the same at the same moment. The fold takes the first, and the
        rest of the batch would be about that one.

        Raises:
            Forbidden: it belongs to another user.
        """
        for kind, id in self.new:
            try:
                check(self._rights, kind, id, _EXPERIMENT_LEVEL)
            except Forbidden as error:
                raise Forbidden(
                    f"{error.message} Another caller began {kind.value} {id} at the same moment "
                    "and was first; of the batch only beginnings were appended, without effect."
                ) from None
