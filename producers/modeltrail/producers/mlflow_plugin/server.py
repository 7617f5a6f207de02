"""The server that answers reads and has the registry."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any

from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INVALID_STATE, TEMPORARILY_UNAVAILABLE
from mlflow.utils.credentials import get_default_host_creds
from mlflow.utils.rest_utils import http_request

from modeltrail.producers.mlflow_plugin import headers
from modeltrail.producers.mlflow_plugin.address import Address
from modeltrail.producers.settings import read_settings

logger = logging.getLogger("modeltrail")

_PROBE_TIMEOUT_S = 2
_TRUSTED_S = 5.0
"""How long the result of a check, that the server answers or does not, is trusted."""


class Server:
    """Finds the server, checks that it answers, and delivers what was logged here before reads."""

    def __init__(self, address: Address, flush: Callable[[float], bool]) -> None:
        """Make a client; nothing is contacted yet.

        Args:
            address: The parsed tracking URI.
            flush: Waits up to the given seconds until everything logged here is delivered.
        """
        self._address = address
        self._flush = flush
        self._probed: tuple[str, bool, float] | None = None

    @property
    def url(self) -> str | None:
        """The server's URL, or None."""
        return self._address.find_server(read_settings().server)

    @property
    def answers(self) -> bool:
        """Return whether there is a server and it answered within the last seconds."""
        url = self.url
        if url is None:
            return False
        now = time.monotonic()
        if self._probed is None or self._probed[0] != url or now - self._probed[2] > _TRUSTED_S:
            self._probed = (url, _probe(url), time.monotonic())
            if not self._probed[1]:
                logger.warning("the server %s does not answer", url)
        return self._probed[1]

    def creds(self) -> Any:
        """Return the credentials that MLflow's REST clients ask for before each request.

        Waits up to ``MODELTRAIL_READ_TIMEOUT_S`` until everything logged here is delivered.

        Raises:
            MlflowException: there is no server, or it does not answer.
        """
        self.require()
        self._flush(read_settings().read_timeout_s)
        headers.announce()
        return credentials(str(self.url))

    def require(self) -> None:
        """Raise ``MlflowException`` if no server answers."""
        if self.answers:
            return
        url = self.url
        if url is None:
            raise MlflowException(
                "This needs a Modeltrail server, and none is known: this process only knows what "
                "it logged itself. Set MODELTRAIL_SERVER to a server's URL, add ?server=URL to "
                "the tracking URI, or, for a folder, start 'modeltrail serve' on it.",
                error_code=INVALID_STATE,
            )
        raise MlflowException(
            f"The Modeltrail server {url} does not answer. What is logged meanwhile is kept and "
            "delivered; reading has to wait.",
            error_code=TEMPORARILY_UNAVAILABLE,
        )


def credentials(url: str) -> Any:
    """Return MLflow's settings for a server. The token may also come from ``MODELTRAIL_TOKEN``."""
    creds = get_default_host_creds(url)
    if not creds.token and not creds.username:
        creds.token = read_settings().token
    return creds


def _probe(url: str) -> bool:
    try:
        answer = http_request(
            credentials(url),
            "/health",
            "GET",
            max_retries=0,
            timeout=_PROBE_TIMEOUT_S,
            raise_on_status=False,
        )
    except Exception:  # any error means that it does not answer
        return False
    return bool(answer.status_code == 200)
