"""Saved views of pages: own ones, and those shared with readers of an experiment or everyone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import duckdb

from modeltrail.consumers.projections import registry_rules as rules
from modeltrail.consumers.projections.experiments import Experiments
from modeltrail.consumers.projections.ledger import Decisions, Entity, Ledger
from modeltrail.consumers.projections.registry_rules import Rejected
from modeltrail.consumers.projections.requests import Event
from modeltrail.limits import NAME_CHARACTERS_MAX

PAGE_CHARACTERS_MAX = 100
QUERY_CHARACTERS_MAX = 16_000
VIEWS_MAX = 1_000
"""Most views of one place: of a user, of an experiment, or shared with everyone."""

_Place = tuple[str | None, str | None]  # owner, None if it is shared; experiment


@dataclass(slots=True, kw_only=True, eq=False)
class View(Entity):
    """A row of ``fold.views``. What it shows is in ``fold.history``."""

    table = "fold.views"
    keys = ("view_id",)
    kind = "view"
    view_id: Final[str]
    name: Final[str]
    experiment_id: Final[str | None]
    shared: Final[bool]
    owner: Final[str]
    created_at_ms: Final[int]
    created_by: Final[str]

    @property
    def place(self) -> _Place:
        """Return where its name is its own."""
        return None if self.shared else self.owner, self.experiment_id


class SavedViews:
    """Decides the events about saved views."""

    def __init__(self, ledger: Ledger, experiments: Experiments) -> None:
        """Write effects to a ledger. Views belong to these experiments."""
        self._ledger = ledger
        self._experiments = experiments
        self._views: dict[str, View] = {}
        self._by_name: dict[_Place, dict[str, View]] = {}

    def load(self, con: duckdb.DuckDBPyConnection) -> None:
        """Load the state from the tables."""
        for view in self._ledger.load(con, View):
            self._keep(view)

    def _keep(self, view: View) -> None:
        self._views[view.view_id] = view
        self._by_name.setdefault(view.place, {})[view.name] = view

    def decisions(self) -> Decisions:
        """Return the function that decides each type of event, by entity."""
        return {"view": {"DeleteView": self._delete, "SaveView": self._save}}

    def view(self, view_id: int) -> View | None:
        """Return an existing view."""
        return self._views.get(str(view_id))

    def named(self, name: str, experiment_id: str | None, owner: str | None) -> View | None:
        """Return a view by its name; ``owner`` is None for a shared one."""
        return self._by_name.get((owner, experiment_id), {}).get(name)

    def _save(self, event: Event) -> None:
        name, experiment_id, shared = event["name"], event["experiment_id"], event["shared"]
        if not name.strip() or len(name) > NAME_CHARACTERS_MAX or not name.isprintable():
            raise Rejected(
                rules.INVALID,
                f"Invalid view name: expected 1 to {NAME_CHARACTERS_MAX} printable characters.",
            )
        for field, limit in (("page", PAGE_CHARACTERS_MAX), ("query", QUERY_CHARACTERS_MAX)):
            if len(event[field]) > limit:
                raise Rejected(rules.INVALID, f"{field} may have {limit:,} characters at most.")
        rules.description(event["description"])
        if experiment_id is not None and self._experiments.experiment(experiment_id) is None:
            raise Rejected(rules.MISSING, f"No Experiment with id={experiment_id} exists")
        owner = self._ledger.request.actor
        there = self._by_name.get((None if shared else owner, experiment_id), {})
        view = there.get(name)
        if view is None:
            if len(there) >= VIEWS_MAX:
                raise Rejected(
                    rules.INVALID, f"There are {VIEWS_MAX:,} views already; delete some first."
                )
            view = self._ledger.begin(
                View(
                    view_id=str(self._ledger.request.offset),
                    name=name,
                    experiment_id=experiment_id,
                    shared=shared,
                    owner=owner,
                    **self._ledger.created(),
                )
            )
            self._keep(view)
        else:
            self._ledger.touch(view)
        for attribute in ("page", "query", "description"):
            self._ledger.put(view, attribute, None, event[attribute])

    def _delete(self, event: Event) -> None:
        view = self.view(event["view_id"])
        if view is None:
            raise Rejected(rules.MISSING, f"View with id={event['view_id']} not found")
        self._ledger.end(view)
        del self._views[view.view_id]
        del self._by_name[view.place][view.name]
