"""What every storage of artifacts promises: a folder, S3, Google's and Azure's."""

from __future__ import annotations

import hashlib
import os
import sys
import threading
import urllib.request
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple
from unittest import mock

import pytest

from modeltrail.api.artifacts.layers import Layers
from modeltrail.api.artifacts.multipart import Multipart
from modeltrail.api.artifacts.storage import BadArtifacts, Entry
from modeltrail.api.artifacts.store import UPLOADS, ArtifactStore, Stored, open_storage
from modeltrail.api.errors import InvalidRequest, NotFound, TooLarge, Unavailable
from object_stores import STORES, ObjectStoreMissing, s3

RUN = "0123456789abcdef" * 2
MEGABYTE = 1024 * 1024


class Place(NamedTuple):
    kind: str
    url: str


@pytest.fixture(scope="module", params=["folder", *STORES])
def place(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Place]:
    """One place of each kind, shared by the tests of this module."""
    if request.param == "folder":
        yield Place("folder", str(tmp_path_factory.mktemp("artifacts") / "below"))
        return
    try:
        with STORES[request.param]() as server, mock.patch.dict(os.environ, server.environment):
            yield Place(request.param, server.url)
    except ObjectStoreMissing as error:
        if os.environ.get("CI"):
            pytest.fail(str(error))
        pytest.skip(str(error))


@pytest.fixture
def store(place: Place, request: pytest.FixtureRequest) -> ArtifactStore:
    """A store of its own for each test."""
    storage = open_storage(f"{place.url}/{request.node.originalname}")
    storage.check()
    return ArtifactStore(storage, bytes_max=100 * MEGABYTE, signs=True)


def put(store: ArtifactStore, path: str, data: bytes, owner: str = RUN) -> Stored:
    with store.write(owner, path) as upload:
        for start in range(0, len(data), MEGABYTE):
            upload.write(data[start : start + MEGABYTE])
        return upload.finish()


def get(store: ArtifactStore, path: str, owner: str = RUN) -> bytes:
    stat, pieces = store.open(owner, path)
    data = b"".join(pieces)
    assert stat.size_bytes == len(data)
    assert abs(datetime.now(UTC) - stat.modified_at) < timedelta(minutes=5)
    return data


NAMES = [
    "plain.txt", "a b.txt", "100%.txt", "%2e%2e", "%25", "a#b?c=d&e+f.txt", "größe.bin", "日本語",
    "e\u0301.txt", "😀", " lead", "'\"<>|^`{}[]~*:;,@!$()", ".hidden", "..dots", "x" * 200,
]  # fmt: skip


def test_names_come_back_as_they_went(store: ArtifactStore) -> None:
    for name in NAMES:
        data = name.encode()
        stored = put(store, f"d/{name}", data)
        assert (stored.size_bytes, stored.sha256) == (len(data), hashlib.sha256(data).hexdigest())
        assert stored.location.startswith(store.storage.url)
    for name in NAMES:
        assert get(store, f"d/{name}") == name.encode()
    assert {e.name for e in store.entries(RUN, "d")} == set(NAMES)
    assert [f.path for f in store.list(RUN)] == sorted(f"d/{name}" for name in NAMES)
    for name in NAMES:
        store.delete(RUN, f"d/{name}")
    assert store.list(RUN) == []
    assert store.entries(RUN) == []


def test_folders(store: ArtifactStore) -> None:
    for path in ("a/b/c", "a/b.txt", "ab", "a/b/d/e/f"):
        put(store, path, path.encode())
    put(store, "a/x", b"other", owner="f" * 32)
    assert store.entries(RUN) == [Entry("a", None), Entry("ab", 2)]
    assert store.entries(RUN, "a") == [Entry("b", None), Entry("b.txt", 7)]
    assert store.entries(RUN, "a/b") == [Entry("c", 5), Entry("d", None)]
    assert [f.path for f in store.list(RUN, "a/b")] == ["a/b/c", "a/b/d/e/f"]
    assert [tuple(f) for f in store.list(RUN, "a/b/d")] == [("a/b/d/e/f", 9)]
    for nothing in ("nothing", "a/b/c/d", "a/nothing"):
        assert store.entries(RUN, nothing) == []
        assert store.list(RUN, nothing) == []
    store.delete(RUN, "a/b/c")
    assert store.entries(RUN, "a/b") == [Entry("d", None)]
    assert get(store, "a/x", "f" * 32) == b"other"


def test_what_is_not_there(store: ArtifactStore) -> None:
    put(store, "folder/file", b"x")
    for path in ("nothing", "folder", "folder/file/below"):
        for ask in (store.open, store.stat, store.delete):
            with pytest.raises(NotFound):
                ask(RUN, path)
    assert get(store, "folder/file") == b"x"


def test_empty_overwritten_and_large(store: ArtifactStore) -> None:
    assert put(store, "f", b"").sha256 == hashlib.sha256(b"").hexdigest()
    assert get(store, "f") == b""
    before = store.stat(RUN, "f").etag
    large = os.urandom(19 * MEGABYTE + 1)  # several parts, the last of them short
    assert put(store, "f", large).sha256 == hashlib.sha256(large).hexdigest()
    assert get(store, "f") == large
    assert store.stat(RUN, "f").etag != before
    exact = large[: 16 * MEGABYTE]
    put(store, "f", exact)
    assert get(store, "f") == exact
    for start, end in ((0, 1), (5, 9 * MEGABYTE), (len(exact) - 1, len(exact))):
        assert b"".join(store.read(RUN, "f", start, end)) == exact[start:end]


@pytest.mark.parametrize("size", [MEGABYTE, 40 * MEGABYTE])
def test_an_upload_that_fails_leaves_what_was(store: ArtifactStore, size: int) -> None:
    put(store, "f", b"before")

    def fail() -> None:
        with store.write(RUN, "f") as upload:
            for _ in range(size // MEGABYTE):
                upload.write(bytes(MEGABYTE))
            raise KeyError("the client went away")

    with pytest.raises(KeyError):
        fail()
    assert get(store, "f") == b"before"
    store.bytes_max = 10
    with pytest.raises(TooLarge):
        put(store, "f", bytes(11))
    assert get(store, "f") == b"before"
    assert [key for key, _ in store.storage.walk(UPLOADS)] == []


def test_a_long_path(store: ArtifactStore) -> None:
    path = "/".join(["ü" * 100] * 9)  # 1,800 bytes, too many for an object store
    if store.storage.folder is None:
        with pytest.raises(InvalidRequest):
            put(store, path, b"x")
    else:
        put(store, path, b"x")
        assert get(store, path) == b"x"


# Uploads in parts


def upload_parts(
    store: ArtifactStore, multipart: Multipart, id: str, urls: list[str | None], parts: list[bytes]
) -> dict[int, str]:
    etags = {}
    for number, (url, part) in enumerate(zip(urls, parts, strict=True), 1):
        if url is None:
            with multipart.write_part(id, number) as upload:
                upload.write(part)
                upload.finish()
            etags[number] = multipart.etag_of_part(id, number)
        else:
            headers = {"Content-Type": "application/octet-stream", **store.storage.signed_headers}
            request = urllib.request.Request(url, part, headers, method="PUT")
            with urllib.request.urlopen(request) as answer:
                etags[number] = answer.headers["ETag"]
        assert etags[number]
    return etags


def test_in_parts(store: ArtifactStore, place: Place) -> None:
    multipart = Multipart(store)
    recorded: list[Stored] = []
    parts = [os.urandom(n) for n in (6 * MEGABYTE, 5 * MEGABYTE, 7)]
    id, urls = multipart.create(RUN, "d/ü%.bin", len(parts))
    # Google's URLs are signed by a service of Google's.
    assert [url is not None for url in urls] == [place.kind in ("s3", "azure")] * 3
    etags = upload_parts(store, multipart, id, urls, parts)
    assert store.list(RUN) == []
    for number, etag in ((3, "another"), (4, "")):
        with pytest.raises(InvalidRequest):
            multipart.complete(id, RUN, "d/ü%.bin", {**etags, number: etag}, recorded.append)
    with pytest.raises(InvalidRequest):
        multipart.complete(id, RUN, "d/ü%.bin", {1: etags[1], 3: etags[3]}, recorded.append)
    with pytest.raises(NotFound):
        multipart.complete(id, RUN, "elsewhere", etags, recorded.append)
    stored = multipart.complete(id, RUN, "d/ü%.bin", etags, recorded.append)
    whole = b"".join(parts)
    assert stored[:2] == (len(whole), hashlib.sha256(whole).hexdigest())
    assert get(store, "d/ü%.bin") == whole
    # The same from a client that did not hear the answer; even from another server.
    assert Multipart(store).complete(id, RUN, "d/ü%.bin", etags, recorded.append) == stored
    assert recorded == [stored]
    multipart.abort(id, RUN, "d/ü%.bin")
    assert get(store, "d/ü%.bin") == whole


def test_parts_are_forgotten(store: ArtifactStore) -> None:
    multipart = Multipart(store)
    id, urls = multipart.create(RUN, "f", 2)
    upload_parts(store, multipart, id, urls, [b"one", b"two"])
    multipart.abort(id, RUN, "f")
    with pytest.raises(NotFound):
        multipart.complete(id, RUN, "f", {1: "", 2: ""}, print)
    with pytest.raises(NotFound):
        multipart.write_part(id, 1)
    assert list(store.storage.walk(UPLOADS)) == []
    id, urls = multipart.create(RUN, "f", 2)
    upload_parts(store, multipart, id, urls, [b"one", b"two"])
    assert multipart.clean() == 0
    assert len(list(store.storage.walk(UPLOADS))) == 3
    assert multipart.clean(datetime.now(UTC) + timedelta(hours=25)) == 1
    assert list(store.storage.walk(UPLOADS)) == []


@pytest.mark.parametrize("id", ["", "..", "../" + RUN, "0" * 64, "upload.json", "0" * 32])
def test_ids_of_uploads_that_are_none(store: ArtifactStore, id: str) -> None:
    multipart = Multipart(store)
    for call in (
        lambda: multipart.write_part(id, 1),
        lambda: multipart.complete(id, RUN, "f", {1: ""}, print),
        lambda: multipart.abort(id, RUN, "f"),
    ):
        with pytest.raises(NotFound):
            call()
    for parts in (0, -1, 10_001):
        with pytest.raises(InvalidRequest):
            multipart.create(RUN, "f", parts)


def test_what_was_in_another_place_before(tmp_path: Path) -> None:
    before = ArtifactStore(tmp_path / "before")
    for path in ("a/old", "a/both", "gone"):
        put(before, path, b"old")
    store = ArtifactStore(Layers(open_storage(str(tmp_path / "now")), before.storage))
    put(store, "a/both", b"newer")
    put(store, "a/new", b"new")
    assert store.entries(RUN) == [Entry("a", None), Entry("gone", 3)]
    assert store.entries(RUN, "a") == [Entry("both", 5), Entry("new", 3), Entry("old", 3)]
    assert [f.path for f in store.list(RUN)] == ["a/both", "a/new", "a/old", "gone"]
    assert [get(store, f"a/{name}") for name in ("both", "new", "old")] == [
        b"newer",
        b"new",
        b"old",
    ]
    for path, part in (("a/both", b"ewe"), ("a/old", b"ld")):
        assert b"".join(store.read(RUN, path, 1, 1 + len(part))) == part
    assert get(before, "a/both") == b"old"
    for path in ("a/both", "gone"):
        store.delete(RUN, path)
        with pytest.raises(NotFound):
            store.stat(RUN, path)
    assert not store.storage.url.endswith("before")


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("http://host/artifacts", "expected a folder"),
        ("ftp://host/x", "expected a folder"),
        ("file://elsewhere/x", "another machine"),
        ("s3://", "BUCKET"),
        ("s3://key:secret@bucket/x", "environment"),
        ("s3://bucket/x?secret=y", "environment"),
    ],
)
def test_places_that_are_none(url: str, told: str) -> None:
    with pytest.raises(BadArtifacts) as refusal:
        open_storage(url)
    assert told in str(refusal.value)
    assert "secret" not in str(refusal.value)


def test_what_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "obstore.store", None)
    with pytest.raises(BadArtifacts, match=r"modeltrail\[server,objects\]"):
        open_storage("s3://bucket")


def test_a_store_that_says_no_or_nothing(caplog: pytest.LogCaptureFixture) -> None:
    with s3() as server, mock.patch.dict(os.environ, server.environment):
        open_storage("s3://bucket/x").check()
        missing = open_storage("s3://no-such-bucket/x")
        with pytest.raises(BadArtifacts, match="bucket does not exist"):
            missing.check()
        with pytest.raises(Unavailable, match="bucket does not exist"):
            missing.open("run/file")
    away = {**server.environment, "AWS_ENDPOINT_URL": "http://127.0.0.1:9"}
    with mock.patch.dict(os.environ, away):
        storage = open_storage("s3://bucket/x")
        storage.check()
        assert "out of reach" in caplog.text
        with pytest.raises(Unavailable):
            storage.stat("run/file")
    assert "not-to-be-told" not in caplog.text


def test_the_last_bytes_are_the_last_that_are_told_of(tmp_path: Path) -> None:
    store = ArtifactStore(tmp_path)
    told: list[str] = []
    first_is_in_place, first_may_tell = threading.Event(), threading.Event()

    def tell(stored: Stored) -> None:
        first_is_in_place.set()
        assert first_may_tell.wait(10)
        told.append(stored.sha256)

    def send(data: bytes) -> Stored:
        with store.write(RUN, "f") as upload:
            upload.write(data)
            return upload.finish(tell)

    with ThreadPoolExecutor() as pool:
        first = pool.submit(send, b"first")
        assert first_is_in_place.wait(10)
        second = pool.submit(send, b"second")
        with pytest.raises(TimeoutError):
            second.result(timeout=0.1)
        assert get(store, "f") == b"first"
        first_may_tell.set()
        assert told_in_order(first, second) == told
    assert get(store, "f") == b"second"


def told_in_order(*uploads: Future[Stored]) -> list[str]:
    return [upload.result(timeout=10).sha256 for upload in uploads]


def test_folders_outlive_their_moves(tmp_path: Path) -> None:
    store = ArtifactStore(open_storage((tmp_path / "a folder").as_uri()))
    put(store, "f", b"x")
    assert (tmp_path / "a folder" / RUN / "f").read_bytes() == b"x"
