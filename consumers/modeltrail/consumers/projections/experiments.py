"""The experiments of the registry: create, rename, delete, restore, tag."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import duckdb

from modeltrail.consumers.projections import registry_rules as rules
from modeltrail.consumers.projections.access import Access
from modeltrail.consumers.projections.ledger import Decisions, Entity, Ledger
from modeltrail.consumers.projections.registry_rules import Rejected
from modeltrail.consumers.projections.requests import Event
from modeltrail.schemas import experiment_id


@dataclass(slots=True, kw_only=True, eq=False)
class Experiment(Entity):
    """A row of ``fold.experiments``. Rows are never removed.

    One that no event created has no times.
    """

    table = "fold.experiments"
    keys = ("experiment_id",)
    kind = "experiment"
    in_use = "true"
    experiment_id: Final[str]
    name: str
    artifact_location: str | None
    created_at_ms: int | None
    created_by: str | None


class Experiments:
    """Decides the events about experiments."""

    def __init__(self, ledger: Ledger, access: Access) -> None:
        """Write effects to a ledger. ``access`` gives the creator of an experiment MANAGE on it."""
        self._ledger = ledger
        self._access = access
        self._by_id: dict[str, Experiment] = {}
        self._by_name: dict[str, Experiment] = {}

    def load(self, con: duckdb.DuckDBPyConnection) -> None:
        """Load the state from the tables."""
        for experiment in self._ledger.load(con, Experiment):
            self._by_id[experiment.experiment_id] = self._by_name[experiment.name] = experiment

    def decisions(self) -> Decisions:
        """Return the function that decides each type of event, by entity."""
        return {
            "experiment": {
                "ChangeExperimentTags": self._change_tags,
                "CreateExperiment": self._create,
                "DeleteExperiment": self._delete,
                "ImportExperiment": self._import,
                "RenameExperiment": self._rename,
                "RestoreExperiment": self._restore,
            }
        }

    # -- for readers ------------------------------------------------------------------------

    def experiment(self, experiment_id: str) -> Experiment | None:
        """Return an experiment, deleted or not."""
        return self._by_id.get(experiment_id)

    def named(self, name: str) -> Experiment | None:
        """Return the experiment that has a name, deleted or not."""
        return self._by_name.get(name)

    # -- decisions --------------------------------------------------------------------------

    def _create(self, event: Event) -> None:
        name, tags = event["name"], event["tags"]
        rules.experiment_name(name)
        rules.artifact_location(event["artifact_location"])
        rules.tags(tags, rules.EXPERIMENT_TAG_VALUE_MAX)
        self._free_name(name)
        self._add(self._new_id(name), event)

    def _new_id(self, name: str) -> str:
        generation = 1
        while (new_id := experiment_id(name, generation)) in self._by_id:
            generation += 1
        return new_id

    def _add(self, new_id: str, event: Event) -> Experiment:
        name = event["name"]
        self._ledger.request.experiment_id = new_id
        experiment = self._by_id[new_id] = self._by_name[name] = self._ledger.begin(
            Experiment(
                experiment_id=new_id,
                name=name,
                artifact_location=event["artifact_location"] or None,
                **self._ledger.created(),
            )
        )
        self._ledger.put(experiment, "name", None, name)
        self._ledger.put_tags(experiment, event["tags"])
        self._access.grant_creator("experiment", new_id)
        return experiment

    def _import(self, event: Event) -> None:
        name, wanted = event["name"], event["experiment_id"]
        rules.experiment_name(name)
        rules.artifact_location(event["artifact_location"])
        rules.tags(event["tags"], rules.EXPERIMENT_TAG_VALUE_MAX)
        if wanted is not None:
            rules.experiment_id(wanted)
        experiment = self._by_id.get(wanted)
        if experiment is None:
            self._free_name(name)
            experiment = self._add(wanted or self._new_id(name), event)
        elif experiment.created_at_ms is not None:
            raise Rejected(rules.EXISTS, f"Experiment(id={wanted}) already exists.")
        else:
            self._replace_default(experiment, event)
        if event["deleted"] != experiment.deleted:
            self._move(experiment, deleted=event["deleted"])
        created = self._ledger.created(event)
        experiment.created_at_ms = created["created_at_ms"]
        experiment.updated_at_ms = created["updated_at_ms"]
        experiment.created_by = created["created_by"]
        self._ledger.change(experiment)

    def _replace_default(self, experiment: Experiment, event: Event) -> None:
        """Let an imported experiment replace the built-in Default experiment (id 0)."""
        self._give_name(experiment, event["name"])
        experiment.artifact_location = event["artifact_location"] or None
        self._ledger.put_tags(experiment, event["tags"])

    def _give_name(self, experiment: Experiment, name: str) -> None:
        if name != experiment.name:
            self._free_name(name)
            del self._by_name[experiment.name]
            self._by_name[name] = experiment
            self._ledger.put(experiment, "name", None, name)
            experiment.name = name

    def _free_name(self, name: str) -> None:
        """Refuse a name that is taken, with its owner."""
        holder = self._by_name.get(name)
        if holder is None:
            return
        taken = holder.experiment_id
        if self._ledger.request.experiment_id is None:
            self._ledger.request.experiment_id = taken
        if holder.deleted:
            raise Rejected(
                rules.EXISTS,
                f"Experiment(name={name}) already exists in deleted state (id={taken}). Restore "
                "it, or rename it after restoring it to free the name.",
            )
        raise Rejected(rules.EXISTS, f"Experiment(name={name}) already exists.")

    def _experiment(self, event: Event, deleted: bool | None = None) -> Experiment:
        wanted = event["experiment_id"]
        experiment = self._by_id.get(wanted)
        if experiment is None or (deleted is not None and experiment.deleted != deleted):
            raise Rejected(rules.MISSING, f"No Experiment with id={wanted} exists")
        return experiment

    def _rename(self, event: Event) -> None:
        rules.experiment_name(event["name"])
        experiment = self._experiment(event)
        if experiment.deleted:
            raise Rejected(rules.INVALID, "Cannot rename a non-active experiment.")
        self._give_name(experiment, event["name"])
        self._ledger.touch(experiment)

    def _delete(self, event: Event) -> None:
        self._change_lifecycle(event, deleted=True)

    def _restore(self, event: Event) -> None:
        self._change_lifecycle(event, deleted=False)

    def _change_lifecycle(self, event: Event, *, deleted: bool) -> None:
        experiment = self._experiment(event, deleted=not deleted)
        self._move(experiment, deleted=deleted)
        self._ledger.touch(experiment)

    def _move(self, experiment: Experiment, *, deleted: bool) -> None:
        lifecycle = "deleted" if deleted else "active"
        self._ledger.put(experiment, "lifecycle", None, lifecycle)
        experiment.deleted = deleted
        self._ledger.change(experiment)

    def _change_tags(self, event: Event) -> None:
        tags = event["tags"]
        rules.tags(tags, rules.EXPERIMENT_TAG_VALUE_MAX)
        experiment = self._experiment(event)
        wanted = experiment.experiment_id
        if experiment.deleted:
            raise Rejected(
                rules.INVALID,
                f"The experiment {wanted} must be in the 'active' state. Current state is deleted.",
            )
        for key, value in tags.items():
            if value is None and ("tag", key) not in experiment.open:
                raise Rejected(
                    rules.MISSING, f"No tag with name: {key} in experiment with id {wanted}"
                )
        self._ledger.put_tags(experiment, tags)
