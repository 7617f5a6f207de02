"""The registry: decides every request in log order, and stores the decisions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

import duckdb

from modeltrail.consumers.projections import Incoming
from modeltrail.consumers.projections.access import Access, Accounts
from modeltrail.consumers.projections.experiments import Experiments
from modeltrail.consumers.projections.ledger import Ledger
from modeltrail.consumers.projections.models import Models
from modeltrail.consumers.projections.registry_rules import Rejected
from modeltrail.consumers.projections.requests import Requests, Verdict
from modeltrail.consumers.projections.saved_views import SavedViews
from modeltrail.consumers.projections.webhooks import Webhooks
from modeltrail.consumers.sequences import KnownProducer
from modeltrail.eventlog import REGISTRY, LogRecord
from modeltrail.schemas import Malformed

_SIGN_IN: Final = ("user", "token", "role")


class Snapshot(NamedTuple):
    """What permissions depend on, for any thread, without a lock.

    The accounts are those after the last event before an offset. The experiments and models may be
    later, never earlier: use only their methods that return one by its id or name.
    """

    next_offset: int
    accounts: Accounts
    experiments: Experiments
    models: Models


class RegistryProjection:
    """Folds the registry stream. For one thread.

    Requests are decided in log order only: one that became a dead letter is decided in a rebuild,
    never after the events that follow it.
    """

    stream = REGISTRY

    def __init__(self) -> None:
        """Make an empty registry; call ``load`` first."""
        self._forget()
        self.publish(0)

    def _forget(self) -> None:
        self._requests = Requests()
        ledger = self._ledger = Ledger()
        access = self._access = Access(ledger)
        self._experiments = Experiments(ledger, access)
        self.models = Models(ledger, access)
        self.views = SavedViews(ledger, self._experiments)
        self._parts = (access, self._experiments, self.models, Webhooks(ledger), self.views)
        self.decisions = {
            type: (entity, decide)
            for part in self._parts
            for entity, of_entity in part.decisions().items()
            for type, decide in of_entity.items()
        }

    # -- the runner's interface -------------------------------------------------------------

    def load(self, con: duckdb.DuckDBPyConnection) -> None:
        """Load the state from the tables, at the start or after a failed transaction."""
        self._forget()
        for part in self._parts:
            part.load(con)
        self._ledger.load_intervals(con)

    def record_hash(self, record: LogRecord, hash: bytes) -> None:
        """Record an event's place in the chain, whatever its content."""
        self._requests.record_hash(record, hash)

    def prepare(self, con: duckdb.DuckDBPyConnection, batch: Sequence[Incoming]) -> None:
        """Do nothing: the whole registry is in memory."""

    def apply(self, incoming: Incoming, producer: KnownProducer, missing: int) -> None:
        """Decide a request and store the decision.

        A refusal by the rules or the state is a decision too, not an error.

        Raises:
            Malformed: the type does not belong to the registry; nothing was changed.
        """
        if incoming.type not in self.decisions:
            raise Malformed(f"{incoming.type} is no request that this version can decide")
        request = self._ledger.request = self._describe(incoming)
        entity, decide = self.decisions[incoming.type]
        try:
            decide(incoming.event)
        except Rejected as refusal:
            request.accepted = False
            request.code = refusal.code
            request.message = refusal.message
        else:
            request.accepted = True
            self._access.users_changed |= entity in _SIGN_IN

    def publish(self, next_offset: int) -> None:
        """Replace ``snapshot`` by the state that was decided, with a single assignment."""
        self._access.publish()
        self.snapshot = Snapshot(next_offset, self._access.accounts, self._experiments, self.models)

    def pass_over(self, incoming: Incoming) -> None:
        """Record who asked for what; see ``Projection.pass_over``."""
        self._describe(incoming)

    def _describe(self, incoming: Incoming) -> Verdict:
        entity, _ = self.decisions.get(incoming.type, (None, None))
        model = self.models.model(incoming.event.get("model", ""))
        key = None if model is None else model.model_key
        return self._requests.describe(incoming, entity, key)

    def may_have(self, con: duckdb.DuckDBPyConnection, event_id: bytes) -> bool:
        """Return whether the trail has this id; it has all ids."""
        return self._requests.may_have(con, event_id)

    def verdicts(self) -> list[Verdict]:
        """Return the decisions since the last write."""
        return self._requests.verdicts()

    def write(self, con: duckdb.DuckDBPyConnection) -> None:
        """Write the effects since the last write, in the open transaction."""
        self._requests.write(con)
        self._ledger.write(con)
