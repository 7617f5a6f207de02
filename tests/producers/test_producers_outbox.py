"""The outbox's files."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from modeltrail.eventlog import LogUnavailable
from modeltrail.eventlog.address import absolute_url, without_secrets
from modeltrail.producers import delivery, sync
from modeltrail.producers.outbox import Frame, Outbox, SegmentQueue, create_outbox, pack_frame


def drain(queue: SegmentQueue) -> list[bytes]:
    found = []
    while frames := queue.read():
        found += [frame.payload for frame in frames]
        queue.done(frames)
    return found


def test_frames_come_out_in_order_and_passed_segments_go(tmp_path: Path) -> None:
    queue = SegmentQueue(str(tmp_path), segment_bytes=100)
    sent = [b"%d" % i * (i % 40) for i in range(100)]
    for i, payload in enumerate(sent):
        queue.append(pack_frame("run", payload, 0))
        if i == 50:
            assert drain(queue) == sent[:51]
    assert drain(queue) == sent[51:]
    assert queue.empty
    assert queue.waiting_bytes == 0
    assert (queue.appended, queue.handled) == (100, 100)
    assert len(list(tmp_path.glob("*.seg"))) <= 1
    queue.close()


def test_another_process_goes_on_where_the_first_one_stopped(tmp_path: Path) -> None:
    first = SegmentQueue(str(tmp_path), segment_bytes=100)
    for i in range(20):
        first.append(pack_frame("run", b"%d" % i, i))
    frames = first.read()
    first.done(frames[:2])
    first.close()
    second = SegmentQueue(str(tmp_path))
    assert drain(second) == [b"%d" % i for i in range(2, 20)]
    assert second.empty
    second.close()


def test_a_lost_position_begins_again(tmp_path: Path) -> None:
    first = SegmentQueue(str(tmp_path))
    first.append(pack_frame("run", b"a", 0))
    first.done(first.read())
    first.close()
    (tmp_path / "position").write_bytes(b"garbage garbage garbage garbage")
    second = SegmentQueue(str(tmp_path))
    assert drain(second) == [b"a"]
    second.close()


@pytest.mark.parametrize("cut", [1, 5, 13, 14, 20])
def test_a_torn_frame_is_left_out_and_counted(tmp_path: Path, cut: int) -> None:
    first = SegmentQueue(str(tmp_path), segment_bytes=1)
    for i in range(3):
        first.append(pack_frame("run", b"0123456789 %d" % i, 0))
    first.close()
    torn = sorted(tmp_path.glob("*.seg"))[1]
    torn.write_bytes(torn.read_bytes()[:-cut])
    second = SegmentQueue(str(tmp_path))
    assert drain(second) == [b"0123456789 0", b"0123456789 2"]
    assert second.damaged == 1
    assert second.empty
    second.close()


def test_a_failed_write_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    queue = SegmentQueue(str(tmp_path))
    queue.append(pack_frame("run", b"a", 0))
    write = os.write

    def half(fd: int, data: bytes) -> int:
        if len(data) < 8:
            raise OSError(28, "No space left on device")
        return write(fd, data[: len(data) // 2])

    monkeypatch.setattr(os, "write", half)
    with pytest.raises(OSError, match="No space"):
        queue.append(pack_frame("run", b"b" * 100, 0))
    monkeypatch.undo()
    queue.append(pack_frame("run", b"c", 0))
    assert drain(queue) == [b"a", b"c"]
    queue.close()


def test_only_one_owner(tmp_path: Path) -> None:
    owner = Outbox.create(str(tmp_path), "./data")
    assert Outbox.adopt(owner.path) is None
    owner.events.append(pack_frame("run", b"a", 0))
    owner.close()
    heir = Outbox.adopt(owner.path)
    assert heir is not None
    assert drain(heir.events) == [b"a"]
    assert os.stat(heir.path).st_mode & 0o077 == 0
    heir.close()
    assert not os.path.exists(owner.path)
    assert Outbox.adopt(owner.path) is None


def test_an_unwritable_folder_falls_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    outbox = create_outbox(str(tmp_path / "file" / "outbox"), "./data")
    assert outbox.path.startswith(str(tmp_path / "modeltrail-outbox-"))
    assert "MODELTRAIL_OUTBOX" in caplog.text
    outbox.close()


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("/data", "/data"),
        ("https://user:pw@host:1/x", "https://host:1/x"),
        ("kafka://a:1,b:2/p?sasl_password=x&acks=all", "kafka://a:1,b:2/p?acks=all"),
        ("kafka://u:p@a:1,b:2/p?token=x", "kafka://a:1,b:2/p"),
    ],
)
def test_secrets_are_left_out(url: str, shown: str) -> None:
    assert without_secrets(url) == shown


def test_folders_become_absolute(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    assert absolute_url("./x") == absolute_url("x") == absolute_url("file:x") == str(tmp_path / "x")
    assert absolute_url("file:///a/b") == "/a/b"
    assert absolute_url("kafka://h:1") == "kafka://h:1"


def fill(outbox: Outbox, n: int) -> None:
    for i in range(n):
        outbox.events.append(pack_frame("run", b"%d" % i * 1000, 0))


class FullDisk:
    """Lets no file that has fewer than 20 bytes grow, until something was removed."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, helped_by: str) -> None:
        self.full = True
        pwrite, unlink = os.pwrite, os.unlink

        def no_space(fd: int, data: bytes, offset: int) -> int:
            if self.full and os.fstat(fd).st_size < offset + len(data):
                raise OSError(28, "No space left on device")
            return pwrite(fd, data, offset)

        def remove(path: str, **where: Any) -> None:
            unlink(path, **where)
            self.full = self.full and not path.endswith(helped_by)

        monkeypatch.setattr(os, "pwrite", no_space)
        monkeypatch.setattr(os, "unlink", remove)


def left_by_an_older_release(tmp_path: Path) -> None:
    """An outbox of 2,000 events in two segments, whose position was never written."""
    outbox = Outbox.create(str(tmp_path / "outbox"), "./data")
    fill(outbox, 2_000)
    outbox.close()
    (Path(outbox.path) / "events" / "position").write_bytes(b"")
    (Path(outbox.path) / "artifacts" / "position").write_bytes(b"")


def test_a_position_is_there_before_the_disk_can_be_full(tmp_path: Path) -> None:
    outbox = Outbox.create(str(tmp_path), "./data")
    assert (Path(outbox.path) / "events" / "position").stat().st_size == 20
    outbox.close()


@pytest.mark.parametrize("helped_by", ["reserve", ".seg", "nothing"])
def test_a_full_disk_forgets_no_delivery(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, helped_by: str
) -> None:
    (tmp_path / "outbox").mkdir()
    left_by_an_older_release(tmp_path)
    sent: list[bytes] = []

    class Failing:
        """Takes a segment, and is away after that."""

        def append(self, frames: list[Frame]) -> None:
            if len(sent) >= 1_000:
                raise LogUnavailable("away")
            sent.extend(frame.payload for frame in frames)

        def close(self) -> None: ...

    monkeypatch.setattr(delivery, "open_target", lambda url, settings: Failing())
    FullDisk(monkeypatch, helped_by=helped_by)
    (first,) = sync(str(tmp_path / "outbox"))
    n = len(sent)
    assert 1_000 <= n == first.events < 2_000
    assert first.left_bytes > 0
    assert first.error is not None
    assert ("may send it again" in first.error) == (helped_by == "nothing")
    (second,) = sync(str(tmp_path / "outbox"))
    assert (second.events, len(sent)) == (0, n), "nothing is sent twice"
    before = set(sent)
    sent.clear()
    (third,) = sync(str(tmp_path / "outbox"))
    assert third.events == len(sent) > 0
    assert not before & set(sent), "whole segments at least are not sent again"


def test_an_outbox_that_cannot_be_opened_keeps_back_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    good, bad = (Outbox.create(str(tmp_path), str(tmp_path / "data")) for _ in range(2))
    for outbox in (good, bad):
        fill(outbox, 1)
        outbox.close()
    (Path(bad.path) / "lock").unlink()
    (Path(bad.path) / "lock").mkdir()
    results = {r.folder: r for r in sync(str(tmp_path))}
    assert "cannot be opened" in str(results[bad.path].error)
    assert results[bad.path].left_bytes > 0
    assert results[good.path].events + results[good.path].refused == 1
