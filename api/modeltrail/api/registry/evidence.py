"""Evidence: the values that a registry request rests on, stored in its event."""

from __future__ import annotations

from typing import Any

from modeltrail.api.node import Node
from modeltrail.consumers.reading import sql
from modeltrail.eventlog import RUNS
from modeltrail.limits import EVIDENCE_MAX


def latest_metrics(node: Node, model: str, version: int) -> list[dict[str, Any]]:
    """Return the latest metrics of a version's run and their position, as evidence."""
    with node.registry() as registry:
        found_version = registry.models.version(model, version)
        run_id = found_version.run_id if found_version is not None else None
    if not run_id:
        return []
    # In one transaction, so that the position belongs to exactly these values.
    with node.read(stream=RUNS) as cursor:
        # One small query after the other, because planning a join of them all would take longer.
        run_row = cursor.execute(sql("runs.number"), [run_id]).fetchone()
        if run_row is None:
            return []
        run, partition = run_row
        found = cursor.execute(sql("runs.metrics"), [run, EVIDENCE_MAX]).fetchall()
        position_row = cursor.execute(sql("runs.position"), [partition]).fetchone()
    position = position_row and position_row[0]
    return [
        {
            "kind": "metric",
            "key": key,
            "value": repr(value),
            "run_id": run_id,
            "position": position,
        }
        for key, value in found
    ]
