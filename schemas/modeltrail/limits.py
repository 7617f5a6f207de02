"""Limits on what events may contain, for producers, the HTTP APIs, imports and the fold.

It is not in ``modeltrail.schemas``, which imports the codec: a training job needs the limits first.
"""

from __future__ import annotations

from typing import Final, Literal, get_args

EVENT_BYTES_MAX: Final = 8 * 1024 * 1024
"""An encoded event."""
ID_CHARACTERS_MAX: Final = 256
"""The id of a run or logged model. MLflow has the same limit."""
KEY_CHARACTERS_MAX: Final = 250
"""The key of a metric, param or tag. MLflow has the same limit."""
TEXT_BYTES_MAX: Final = 64 * 1024
"""The value of a param or tag of a run or logged model, in UTF-8."""
NAME_CHARACTERS_MAX: Final = 250
"""The name of a user, actor or client program, or an idempotency key."""
EXPERIMENT_NAME_CHARACTERS_MAX: Final = 500
REASON_CHARACTERS_MAX: Final = 10_000
EVIDENCE_MAX: Final = 1_000
"""Pieces of evidence in a request."""
INT64_MAX: Final = 2**63 - 1

RunStatus = Literal["RUNNING", "SCHEDULED", "FINISHED", "FAILED", "KILLED"]
RUN_STATUSES: Final[tuple[str, ...]] = get_args(RunStatus)
"""The statuses of a run, in the order of MLflow's numbers for them, which begin with 1."""
RUN_ENDED: Final = RUN_STATUSES[2:]
MODEL_STATUSES: Final = ("PENDING", "READY", "FAILED")
"""The statuses of a logged model, in the order of MLflow's numbers for them."""
PERMISSIONS: Final = ("NO_PERMISSIONS", "DENY", "READ", "USE", "EDIT", "MANAGE")
"""What can be granted. The first two deny everything, whatever other permissions say."""
RESOURCES: Final = ("experiment", "registered_model")
"""What permissions are for. Runs, logged models and files use those of their experiment."""


def is_too_long(text: str) -> bool:
    """Return whether a text has more than ``TEXT_BYTES_MAX`` bytes."""
    if len(text) * 4 <= TEXT_BYTES_MAX:
        return False
    return len(text.encode("utf-8", "surrogatepass")) > TEXT_BYTES_MAX
