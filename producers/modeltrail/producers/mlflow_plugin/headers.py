"""Headers of the requests that this plugin makes to a server, and of no others."""

from __future__ import annotations

import threading

_asking = threading.local()


def announce() -> None:
    """The next request of this thread is one of this plugin's."""
    _asking.on = True


class Headers:
    """Lets the server read up to the log's end as of now: this process appends beside it.

    A provider in the sense of ``mlflow.tracking.request_header``, which MLflow makes when it is
    imported, whether it is of use or not.
    """

    def in_context(self) -> bool:
        """Whether the request to be made is one of this plugin's."""
        return getattr(_asking, "on", False)

    def request_headers(self) -> dict[str, str]:
        """The headers, for one request."""
        from modeltrail.producers.environment import user_name

        _asking.on = False
        return {"X-Modeltrail-Consistency": "log", "X-Modeltrail-Actor": user_name()}
