"""Deliver what ended processes left in their outboxes."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from typing import NamedTuple

from modeltrail.eventlog.address import without_secrets
from modeltrail.producers.delivery import Delivery
from modeltrail.producers.outbox import Outbox, default_root, remove_litter, temporary_root
from modeltrail.producers.settings import read_settings


class SyncResult(NamedTuple):
    """The result for one outbox."""

    folder: str
    target: str
    """Its target, without secrets."""
    events: int
    """Number of events delivered by this call."""
    artifacts: int
    """Number of artifacts delivered by this call."""
    refused: int
    """Number of both that the target refused.

    They are kept in the folder ``refused`` beside the outboxes.
    """
    damaged: int
    """Number of segments with a torn end, left by a kill or power cut."""
    left_bytes: int
    """Bytes still waiting; 0 if the outbox is empty and removed."""
    error: str | None
    """Why something is left."""


def sync(
    outbox: str | None = None,
    *,
    url: str | None = None,
    token: str | None = None,
    timeout_s: float | None = None,
    progress: Callable[[str, int, int], None] | None = None,
) -> list[SyncResult]:
    """Deliver all abandoned outboxes. Outboxes of living processes are left alone.

    Args:
        outbox: Folder of the outboxes; default ``MODELTRAIL_OUTBOX``, else the usual folders.
        url: Deliver to this target instead of the outbox's own; needed if that has a password.
        token: Bearer token for ``http(s)://`` targets; default ``MODELTRAIL_TOKEN``.
        timeout_s: Return after this time, in seconds; default: no limit. A batch in progress may
            still arrive; its outbox is released once that is known.
        progress: Called after each batch with the folder, the bytes done and the total bytes; from
            another thread if there is a ``timeout_s``.

    Returns:
        A result for each outbox found.
    """
    deadline = float("inf") if timeout_s is None else time.monotonic() + timeout_s
    configured = outbox or read_settings().outbox
    roots = [configured] if configured else [default_root(), temporary_root()]
    results = []
    for root in roots:
        if not os.path.isdir(root):
            continue
        for name in sorted(os.listdir(root)):
            path = os.path.join(os.path.abspath(root), name)
            if name.startswith("."):
                remove_litter(path)
            if name.startswith(".") or name == "refused":
                continue
            try:
                found = Outbox.adopt(path)
            except OSError as error:  # an outbox that cannot be opened must not hold up the others
                left = SyncResult(path, "", 0, 0, 0, 0, 1, f"cannot be opened: {error}")
                results.append(left)
                continue
            if found is not None:
                results.append(_sync(found, url, token, deadline, progress))
    return results


def _sync(
    outbox: Outbox,
    url: str | None,
    token: str | None,
    deadline: float,
    progress: Callable[[str, int, int], None] | None,
) -> SyncResult:
    settings = read_settings(url, token)
    # The outbox contains no secrets; the environment may name the same target with them.
    same = url is not None or without_secrets(settings.url) == outbox.target
    delivery = Delivery(outbox, settings.url if same else outbox.target, settings)
    total = outbox.waiting_bytes
    errors: list[str] = []

    def walk(step: Callable[[], bool]) -> None:
        try:
            while time.monotonic() < deadline and step():
                if progress is not None:
                    progress(outbox.path, total - outbox.waiting_bytes, total)
        except Exception as error:
            errors.append(f"{error or type(error).__name__}")

    def deliver() -> None:
        outbox.make_recordable()
        walk(delivery.step_events)
        walk(delivery.step_artifacts)

    if deadline == float("inf"):
        deliver()
    else:
        # A client may wait for its server much longer, in many places. Leave its thread to it.
        thread = threading.Thread(target=deliver, name="modeltrail-sync", daemon=True)
        thread.start()
        thread.join(max(0.0, deadline - time.monotonic()))
        if thread.is_alive():
            threading.Thread(
                target=_give_back, args=(thread, delivery, outbox), daemon=True
            ).start()
            return _result(outbox, delivery, ["the time was up"])
    delivery.close()
    result = _result(outbox, delivery, errors)
    outbox.close()
    return result


def _give_back(delivering: threading.Thread, delivery: Delivery, outbox: Outbox) -> None:
    delivering.join()
    delivery.close()
    outbox.close()


def _result(outbox: Outbox, delivery: Delivery, errors: list[str]) -> SyncResult:
    left = 0 if outbox.empty else max(1, outbox.waiting_bytes)
    if left and not errors:
        errors = ["the time was up"]
    if left and outbox.unrecorded:
        errors = [
            *errors,
            f"what was delivered cannot be noted in the outbox ({outbox.unrecorded}): the next "
            "sync may send it again, without effect",
        ]
    return SyncResult(
        outbox.path,
        outbox.target,
        outbox.events.handled - delivery.refused_events,
        outbox.artifacts.handled - delivery.refused_artifacts,
        delivery.refused_events + delivery.refused_artifacts,
        outbox.events.damaged + outbox.artifacts.damaged,
        left,
        "; ".join(errors) or None,
    )
