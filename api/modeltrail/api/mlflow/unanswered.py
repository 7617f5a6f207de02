"""Unanswered requests, in a folder that outlives the process.

If a server is killed after it appended a request and before it sent the answer, MLflow's clients
send the request again, to the next process. That process finds it here, and appends the same event
again: a repeat, which has no second effect and gets the answer of the first.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import re
import secrets
import time
from collections import OrderedDict
from pathlib import Path
from typing import NamedTuple

logger = logging.getLogger("modeltrail.api")

KEPT_S = 300.0
"""How long a client may take to ask again. MLflow's clients try for about four minutes."""

_NAME = re.compile("[0-9a-f]{32}-[0-9a-f]{32}")


class Attempt(NamedTuple):
    """An attempt to answer a request."""

    key: str
    """A digest of the request and its sender."""
    cause: bytes
    """The cause of the ids of new things and events; 16 bytes, the same for a repeat."""
    again: bool
    """Whether an earlier attempt may have taken effect."""

    @property
    def name(self) -> str:
        """The name of its file, which is empty."""
        return f"{self.key}-{self.cause.hex()}"


class Unanswered:
    """The running attempts, and those whose clients got no answer. For one event loop."""

    def __init__(self, folder: Path | None) -> None:
        """Read what earlier processes left in a folder. None keeps nothing beyond this process."""
        self._folder = folder
        self._begun: OrderedDict[str, tuple[float, Attempt]] = OrderedDict()
        self._open: set[str] = set()
        if folder is not None:
            folder.mkdir(mode=0o700, exist_ok=True)
            now = time.time()
            for file in sorted(folder.iterdir(), key=lambda file: file.stat().st_mtime):
                key, _, cause = file.name.partition("-")
                if _NAME.fullmatch(file.name):
                    attempt = Attempt(key, bytes.fromhex(cause), again=True)
                    self._begun[attempt.name] = (min(file.stat().st_mtime, now), attempt)
                    self._open.add(attempt.name)

    def begin(self, *said: object) -> Attempt:
        """Start an attempt, or continue the same request if it got no answer."""
        now = time.time()
        while self._begun and next(iter(self._begun.values()))[0] < now - KEPT_S:
            self.end(next(iter(self._begun.values()))[1])
        key = hashlib.sha256(repr(said).encode("utf-8", "surrogatepass")).hexdigest()[:32]
        for name in self._open:
            if name.startswith(key):
                self._open.remove(name)
                return self._begun[name][1]
        attempt = Attempt(key, secrets.token_bytes(16), again=False)
        self._begun[attempt.name] = (now, attempt)
        if self._folder is not None:
            try:
                (self._folder / attempt.name).touch(mode=0o600)
            except OSError as error:
                logger.warning("a repeat of this request will not be recognized: %s", error)
        return attempt

    def leave(self, attempt: Attempt) -> None:
        """Leave an attempt for a repeat: it is not known whether it took effect."""
        if attempt.name in self._begun:
            self._begun[attempt.name] = (self._begun[attempt.name][0], attempt._replace(again=True))
            self._open.add(attempt.name)

    def end(self, attempt: Attempt) -> None:
        """Remove an answered attempt."""
        self._begun.pop(attempt.name, None)
        self._open.discard(attempt.name)
        if self._folder is not None:
            with contextlib.suppress(OSError):
                (self._folder / attempt.name).unlink(missing_ok=True)
