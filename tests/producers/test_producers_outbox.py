"""The outbox's files."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from modeltrail.producers.outbox import Outbox, SegmentQueue, create_outbox, pack_frame
from modeltrail.producers.settings import absolute_url, without_secrets


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
