"""Headers for the requests that this plugin makes to a server."""

from __future__ import annotations

import threading

_asking = threading.local()


def announce() -> None:
    """Mark the next request of this thread as one of this plugin's."""
    _asking.on = True


class Headers:
    """Make the server read up to the current end of the log, because this process appends directly.

    A provider for ``mlflow.tracking.request_header``. MLflow creates it when it is imported, even
    if it is not used.
    """

    def in_context(self) -> bool:
        """Return whether the next request is one of this plugin's."""
        return getattr(_asking, "on", False)

    def request_headers(self) -> dict[str, str]:
        """Return the headers for one request."""
        from modeltrail.producers.environment import user_name

        _asking.on = False
        return {"X-Modeltrail-Consistency": "log", "X-Modeltrail-Actor": user_name()}
