"""Artifacts in S3, Google Cloud Storage or Azure Blob Storage, through ``obstore``."""

from __future__ import annotations

import logging
import os
import queue
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlsplit

from modeltrail.api.artifacts.storage import PIECE_BYTES, BadArtifacts, Entry, Pieces, Stat
from modeltrail.api.errors import InvalidRequest, Unavailable

if TYPE_CHECKING:
    from obstore import ObjectMeta
    from obstore.store import AzureStore, GCSStore, S3Store

logger = logging.getLogger("modeltrail.artifacts")

SCHEMES = ("s3", "gs", "az", "abfss")
_KEY_BYTES_MAX = 1_000  # S3 and Google allow 1,024 with the prefix
_PART_BYTES = 8 * 1024 * 1024  # 10,000 parts, S3's maximum, are 78 GiB
_PARTS_AT_A_TIME = 2
_RETRY_S = 20
_STALLED_S = 60
_LIST_AT_A_TIME = 1_000
_SIGNED_WELL = re.compile(r"[\w/.-]+", re.ASCII)  # Azure refuses obstore's signatures for others


def open_objects(url: str) -> Objects:
    """Return the storage at a URL. Raises ``BadArtifacts`` or ``Unavailable``."""
    parts = urlsplit(url)
    if parts.password or parts.query or parts.fragment or not parts.netloc:
        raise BadArtifacts(
            f"not the URL of a bucket: {parts.scheme}://{parts.netloc.rpartition('@')[2]}; it is "
            "SCHEME://BUCKET/PREFIX, and credentials come from the environment"
        )
    try:
        from obstore.store import from_url
    except ModuleNotFoundError:
        raise BadArtifacts(
            f"artifacts at {parts.scheme}:// need obstore; install it with: "
            "pip install 'modeltrail[server,objects]'"
        ) from None
    try:
        store = from_url(
            url.rstrip("/"),
            client_options={
                "allow_http": _plain_http(parts.scheme),
                # for a whole file; a stalled transfer ends by the next one
                "timeout": timedelta(days=1),
                "read_timeout": timedelta(seconds=_STALLED_S),
            },
            retry_config={"max_retries": 5, "retry_timeout": timedelta(seconds=_RETRY_S)},
        )
    except Exception as error:
        raise BadArtifacts(f"{url}: {_plain(error)}") from None
    return Objects(url.rstrip("/"), store)


def _plain_http(scheme: str) -> bool:
    """Return whether the endpoint in the environment is without TLS."""
    names = {
        "s3": ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT"),
        "gs": ("GOOGLE_BASE_URL",),
    }.get(scheme, ("AZURE_STORAGE_ENDPOINT", "AZURE_ENDPOINT", "AZURE_STORAGE_USE_EMULATOR"))
    return any(
        os.environ.get(name, "").lower().startswith(("http://", "true", "1")) for name in names
    )


class Objects:
    """A ``Storage`` in an object store."""

    folder: Path | None = None

    def __init__(self, url: str, store: Any) -> None:
        """Use a store of ``obstore`` with keys below ``url``."""
        self.url = url
        self._store: S3Store | GCSStore | AzureStore = store
        self._signs = True
        # Azure has several kinds of blobs, so the kind must be given.
        self._azure = urlsplit(url).scheme in ("az", "abfss")
        self.signed_headers = {"x-ms-blob-type": "BlockBlob"} if self._azure else {}

    def check(self) -> None:
        """Send the store one request. Raises ``BadArtifacts`` if it refuses.

        A store that does not answer may do so later, so this only logs a warning.
        """
        import obstore
        from obstore.exceptions import PermissionDeniedError, UnauthenticatedError

        try:
            obstore.list_with_delimiter(self._store, "-")
        except Exception as error:
            told = f"artifacts at {self.url} are out of reach: {_plain(error)}"
            no = (PermissionDeniedError, UnauthenticatedError, FileNotFoundError)
            if isinstance(error, no) or "404 Not Found" in str(error):
                raise BadArtifacts(told) from None
            logger.warning("%s", told)

    def url_of(self, key: str) -> str:
        return f"{self.url}/{key}"

    def write(self, key: str) -> _ObjectSink:
        if len(key.encode()) > _KEY_BYTES_MAX:
            raise InvalidRequest(
                f"the path of an artifact may have at most {_KEY_BYTES_MAX:,} bytes in this store"
            )
        return _ObjectSink(self._store, key)

    def stat(self, key: str) -> Stat | None:
        import obstore

        try:
            with _store_errors():
                return _stat(obstore.head(self._store, key))
        except FileNotFoundError:
            return None

    def open(self, key: str) -> tuple[Stat, Pieces] | None:
        import obstore

        try:
            with _store_errors():
                found = obstore.get(self._store, key)
        except FileNotFoundError:
            return None
        return _stat(found.meta), _pieces(iter(found.stream(min_chunk_size=PIECE_BYTES)))

    def read(self, key: str, start: int, end: int) -> Pieces:
        import obstore

        try:
            with _store_errors():
                found = obstore.get(self._store, key, options={"range": (start, end)})
        except FileNotFoundError:
            raise Unavailable("the file disappeared while it was read") from None
        return _pieces(iter(found.stream(min_chunk_size=PIECE_BYTES)))

    def entries(self, key: str) -> list[Entry]:
        import obstore

        with _store_errors():
            found = obstore.list_with_delimiter(self._store, key or None)
        return [
            *(Entry(prefix.rpartition("/")[2], None) for prefix in found["common_prefixes"]),
            *(Entry(o["path"].rpartition("/")[2], o["size"]) for o in found["objects"]),
        ]

    def walk(self, key: str) -> Iterator[tuple[str, Stat]]:
        import obstore

        with _store_errors():
            for batch in obstore.list(self._store, key or None, chunk_size=_LIST_AT_A_TIME):
                for found in batch:
                    yield found["path"], _stat(found)

    def delete(self, key: str) -> None:
        import obstore

        try:
            with _store_errors():
                obstore.delete(self._store, key)
        except FileNotFoundError:
            pass

    def signed(self, method: Literal["GET", "PUT"], key: str, valid_s: int) -> str | None:
        """Return a signed URL, or None: some kinds of credentials cannot sign."""
        import obstore

        if not self._signs or (self._azure and not _SIGNED_WELL.fullmatch(key)):
            return None
        try:
            return obstore.sign(self._store, method, key, timedelta(seconds=valid_s))
        except Exception as error:
            self._signs = False  # this may take seconds to find out
            logger.warning("no URL can be signed for %s: %s", self.url, _plain(error))
            return None


def _stat(meta: ObjectMeta) -> Stat:
    etag = meta["e_tag"] or ""
    if etag and not etag.startswith(('"', "W/")):
        etag = f'"{etag}"'
    return Stat(meta["size"], etag, meta["last_modified"])


def _pieces(stream: Iterator[Any]) -> Pieces:
    with _store_errors():
        for piece in stream:
            yield bytes(piece)


class _ObjectSink:
    """A ``Sink`` that uploads a small file at once, and a large one in parts, in its own thread.

    At most four parts are in memory.
    """

    def __init__(self, store: S3Store | GCSStore | AzureStore, key: str) -> None:
        self._store = store
        self._key = key
        self._part = bytearray()
        self._parts: queue.Queue[bytes | None] = queue.Queue(maxsize=1)
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None
        self._whole = False

    def write(self, data: bytes) -> None:
        self._part += data
        if len(self._part) >= _PART_BYTES:
            self._send()

    def _send(self) -> None:
        if self._thread is None:
            self._thread = threading.Thread(
                target=self._put, name="modeltrail-artifact", daemon=True
            )
            self._thread.start()
        part, self._part = bytes(self._part), bytearray()
        while self._error is None:
            try:
                self._parts.put(part, timeout=1)
                return
            except queue.Full:
                continue
        with _store_errors():
            raise self._error

    def _taken(self) -> Iterator[bytes]:
        while (part := self._parts.get()) is not None:
            yield part
        if not self._whole:
            raise _Aborted

    def _put(self) -> None:
        import obstore

        try:
            obstore.put(
                self._store,
                self._key,
                self._taken(),
                chunk_size=_PART_BYTES,
                max_concurrency=_PARTS_AT_A_TIME,
            )
        except BaseException as error:
            self._error = error

    def finish(self) -> None:
        import obstore

        if self._thread is None:
            with _store_errors():
                obstore.put(self._store, self._key, bytes(self._part), use_multipart=False)
            self._whole = True
            return
        if self._part:
            self._send()
        self._whole = True
        self._end()
        if self._error is not None:
            with _store_errors():
                raise self._error

    def abort(self) -> None:
        if self._thread is not None and not self._whole:
            self._end()

    def _end(self) -> None:
        assert self._thread is not None
        while self._thread.is_alive():
            try:
                self._parts.put(None, timeout=0.1)
                break
            except queue.Full:
                continue
        self._thread.join()


class _Aborted(Exception):
    """The upload was aborted, and its parts with it."""


@contextmanager
def _store_errors() -> Iterator[None]:
    """Raise errors of the store as ``Unavailable``, except ``FileNotFoundError``."""
    try:
        yield
    except FileNotFoundError as error:
        if "NoSuchBucket" in str(error):
            raise Unavailable(f"artifacts are out of reach: {_plain(error)}") from None
        raise
    except (GeneratorExit, Unavailable):
        raise
    except Exception as error:
        raise Unavailable(f"artifacts are out of reach: {_plain(error)}") from None


def _plain(error: BaseException) -> str:
    """Return an error in one line without URL queries, which may contain signatures."""
    text = str(error).partition("\n\nDebug source")[0]
    found = re.search(r"<Message>([^<]*)</Message>", text)
    text = re.sub(r"\?[^\s,]*", "", text.partition("\n")[0].partition("<")[0])
    if found:
        text = f"{text.rstrip(': ')}: {found[1]}"
    return text[:500]
