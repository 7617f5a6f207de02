"""Multipart uploads: each part is a separate file until all are put together.

    .uploads/<upload id>/upload.json   the destination of the artifact, and its number of parts
    .uploads/<upload id>/<number>      a part
    .uploads/<upload id>/done.json     the result, for a client that did not get the answer

Everything is in the artifact store, so any server with that store can continue an upload.
"""

from __future__ import annotations

import json
import logging
import re
import secrets
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import closing, contextmanager, nullcontext
from datetime import UTC, datetime, timedelta
from typing import Any

from modeltrail.api.artifacts.store import UPLOADS, ArtifactStore, Stored, Upload, key_of
from modeltrail.api.errors import InvalidRequest, NotFound

logger = logging.getLogger("modeltrail.artifacts")

PARTS_MAX = 10_000
_ID = re.compile(r"[0-9a-f]{64}")
_ABANDONED_AFTER = timedelta(hours=24)
_CLEAN_FIRST_S = 60.0
_CLEAN_EVERY_S = 3600.0
_SIGNED_S = 6 * 3600


class Multipart:
    """The multipart uploads of an artifact store."""

    def __init__(self, store: ArtifactStore) -> None:
        """Use this store for parts and artifacts."""
        self._store = store
        self._lock = threading.Lock()
        self._completing: dict[str, Future[Stored]] = {}

    def create(self, owner: str, path: str, parts: int) -> tuple[str, list[str | None]]:
        """Start an upload.

        Returns:
            Its id, which cannot be guessed, and for each part a signed URL to PUT it to, or None if
                it has to be sent to ``write_part``.

        Raises:
            InvalidRequest: the path or the number of parts is invalid.
        """
        key_of(owner, path)
        if not 1 <= parts <= PARTS_MAX:
            raise InvalidRequest(f"an upload has 1 to {PARTS_MAX:,} parts, not {parts}")
        id = secrets.token_hex(32)
        self._note(id, "upload", {"owner": owner, "path": path, "parts": parts})
        urls: list[str | None] = [None] * parts
        if self._store.signs:
            for number in range(1, parts + 1):
                url = self._store.storage.signed("PUT", _part(id, number), _SIGNED_S)
                if url is None:
                    return id, [None] * parts
                urls[number - 1] = url
        return id, urls

    def write_part(self, id: str, number: int) -> Upload:
        """Start to receive a part. Raises ``NotFound``."""
        if not 1 <= number <= int(self._upload(id)["parts"]):
            raise NotFound(f"the upload has no part {number}")
        key, storage = _part(id, number), self._store.storage
        location, alone = storage.url_of(key), nullcontext()
        return Upload(storage.write(key), location, self._store.bytes_max, alone)

    def etag_of_part(self, id: str, number: int) -> str:
        """Return the tag by which ``complete`` recognizes a part."""
        found = self._store.storage.stat(_part(id, number))
        return found.etag if found is not None else ""

    def complete(
        self,
        id: str,
        owner: str,
        path: str,
        etags: Mapping[int, str],
        record: Callable[[Stored], object],
    ) -> Stored:
        """Put the parts together and record the artifact. A repeat returns the same result.

        Args:
            id: The upload.
            owner: Owner of the artifact, as in ``create``.
            path: Path of the artifact, as in ``create``.
            etags: The tag of each part, by number; an empty one is not compared.
            record: Called with the stored artifact before the parts are removed.

        Raises:
            NotFound: there is no such upload.
            InvalidRequest: a part is missing or is not the expected one.
            TooLarge: the parts are too large together.
        """
        with self._lock:
            running = self._completing.get(id)
            if running is None:
                done: Future[Stored] = Future()
                self._completing[id] = done
        if running is not None:  # an impatient client asks again
            return running.result()
        try:
            stored = self._complete(id, owner, path, etags, record)
        except BaseException as error:
            done.set_exception(error)
            raise
        else:
            done.set_result(stored)
            return stored
        finally:
            with self._lock:
                del self._completing[id]

    def _complete(
        self,
        id: str,
        owner: str,
        path: str,
        etags: Mapping[int, str],
        record: Callable[[Stored], object],
    ) -> Stored:
        upload = self._upload(id, owner, path)
        before = self._noted(id, "done")
        if before is not None:
            return Stored(**before)
        numbers = range(1, int(upload["parts"]) + 1)
        missing = [number for number in numbers if number not in etags]
        if missing or len(etags) != len(numbers):
            told = ", ".join(map(str, missing[:10])) or "none"
            raise InvalidRequest(f"the upload has {len(numbers)} parts; missing: {told}")
        with self._store.write(owner, path) as target:
            for number in numbers:
                found = self._store.storage.open(_part(id, number))
                if found is None:
                    raise InvalidRequest(f"part {number} was not uploaded")
                stat, pieces = found
                with closing(pieces):
                    if etags[number] and _bare(etags[number]) != _bare(stat.etag):
                        raise InvalidRequest(f"part {number} is not the one that was uploaded")
                    for piece in pieces:
                        target.write(piece)
            stored = target.finish(record)
        self._note(id, "done", stored._asdict())
        self._forget_parts(id)
        return stored

    def abort(self, id: str, owner: str, path: str) -> None:
        """Remove an upload. Raises ``NotFound``."""
        self._upload(id, owner, path)
        if self._noted(id, "done") is None:
            self._forget_parts(id)
            self._store.storage.delete(f"{UPLOADS}/{id}/upload.json")

    def clean(self, now: datetime | None = None) -> int:
        """Remove uploads that were not touched for a day. Returns how many."""
        newest: dict[str, datetime] = {}
        files: dict[str, list[str]] = {}
        for key, stat in self._store.storage.walk(UPLOADS):
            name = key.split("/")[1]
            newest[name] = max(stat.modified_at, newest.get(name, stat.modified_at))
            files.setdefault(name, []).append(key)
        limit = (now or datetime.now(UTC)) - _ABANDONED_AFTER
        old = [name for name, at in newest.items() if at < limit]
        for name in old:
            for key in files[name]:
                self._store.storage.delete(key)
        return len(old)

    @contextmanager
    def cleaning(self) -> Iterator[None]:
        """Clean regularly, in a thread."""
        stopping = threading.Event()
        thread = threading.Thread(
            target=self._clean_often, args=(stopping,), name="modeltrail-uploads", daemon=True
        )
        thread.start()
        try:
            yield
        finally:
            stopping.set()
            thread.join(timeout=5)  # it may be waiting for a store that is away

    def _clean_often(self, stopping: threading.Event) -> None:
        wait_s = _CLEAN_FIRST_S
        while not stopping.wait(wait_s):
            wait_s = _CLEAN_EVERY_S
            try:
                n = self.clean()
            except Exception as error:
                logger.warning("old uploads are not cleaned up: %s", error)
            else:
                if n:
                    logger.info("cleaned up %d uploads that were not completed", n)

    def _upload(self, id: str, owner: str | None = None, path: str | None = None) -> Any:
        found = self._noted(id, "upload") if _ID.fullmatch(id) else None
        if found is None or (
            owner is not None and (found["owner"], found["path"]) != (owner, path)
        ):
            raise NotFound("no such upload: it was aborted, or not completed within a day")
        return found

    def _noted(self, id: str, name: str) -> Any:
        found = self._store.storage.open(f"{UPLOADS}/{id}/{name}.json")
        return None if found is None else json.loads(b"".join(found[1]))

    def _note(self, id: str, name: str, content: Mapping[str, Any]) -> None:
        sink = self._store.storage.write(f"{UPLOADS}/{id}/{name}.json")
        try:
            sink.write(json.dumps(content).encode())
            sink.finish()
        finally:
            sink.abort()

    def _forget_parts(self, id: str) -> None:
        for key, _ in list(self._store.storage.walk(f"{UPLOADS}/{id}")):
            if not key.endswith(".json"):
                self._store.storage.delete(key)


def _part(id: str, number: int) -> str:
    return f"{UPLOADS}/{id}/{number}"


def _bare(etag: str) -> str:
    return etag.removeprefix("W/").strip('"')
