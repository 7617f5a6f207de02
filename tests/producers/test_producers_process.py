"""Forks, signals, exits, kills, full disks, and what an import brings along."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from typing import Any

import pytest

from modeltrail.producers import start_run, sync
from modeltrail.schemas import unpack


def steps(events: list[Any], key: str = "m") -> list[int]:
    return [
        step
        for type, event in events
        if type == "MetricsLogged" and event["series"][0]["key"] == key
        for step in unpack(event).steps
    ]


def test_import_is_thin_and_fast(home: Any) -> None:
    home.script(
        """
        import sys
        for name in ("duckdb", "fastapi", "uvicorn", "numpy", "pyarrow", "kafka", "rich"):
            sys.modules[name] = None
        from modeltrail.producers import start_run
        for name in ("fastavro", "sqlite3", "http.client", "logging", "modeltrail.schemas.codec"):
            assert name not in sys.modules, name
        with start_run() as run:
            run.log({"m": 1.0})
            assert run.finish()
        """
    )
    times = []
    for _ in range(3):
        shown = home.script(
            """
            import time
            begin = time.process_time()
            import modeltrail.producers
            print(time.process_time() - begin)
            """
        ).stdout
        times.append(float(shown))
    assert min(times) < 0.15


@pytest.mark.parametrize(
    ("ending", "status", "message", "code"),
    [
        ("pass", "FINISHED", None, 0),
        ("raise ValueError('boom')", "FAILED", "ValueError: boom", 1),
        ("raise KeyboardInterrupt", "KILLED", "KeyboardInterrupt", -signal.SIGINT),
        ("os.kill(os.getpid(), 15); time.sleep(5)", "KILLED", "SIGTERM", -signal.SIGTERM),
        ("os.kill(os.getpid(), 2); time.sleep(5)", "KILLED", "KeyboardInterrupt", -signal.SIGINT),
    ],
)
@pytest.mark.parametrize("block", [True, False])
def test_every_ending_ends_the_run(
    home: Any, ending: str, status: str, message: str | None, code: int, block: bool
) -> None:
    begin = "with start_run() as run:" if block else "run = start_run()\nif True:"
    done = home.script(
        "import os, signal, time\nfrom modeltrail.producers import start_run\n"
        # What a shell starts in the background is born with SIGINT ignored.
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        f"{begin}\n    run.log({{'m': 1.0}}, 0)\n    {ending}\n",
        check=False,
    )
    # CPython dies of SIGINT; or exits with 1, where a module with a named tuple is imported later.
    assert done.returncode in ({code, 1} if code == -signal.SIGINT else {code}), done.stderr
    events = home.events()
    assert [t for t, _ in events] == ["RunStarted", "MetricsLogged", "RunEnded"]
    assert (events[-1][1]["status"], events[-1][1]["message"]) == (status, message)
    assert home.outboxes() == []


def test_a_forked_child_is_a_writer_of_its_own(home: Any) -> None:
    home.script(
        """
        import multiprocessing, os, threading
        from modeltrail.producers import start_run
        def quiet(): assert threading.active_count() == 1
        def work(run, name):
            for i in range(100): run.log({name: float(i)}, i)
        with start_run() as run:
            run.log({"m": 0.0}, 0)
            fork = multiprocessing.get_context("fork")
            children = [fork.Process(target=work, args=(run, f"c{i}")) for i in range(3)]
            children.append(fork.Process(target=quiet))
            for child in children: child.start()
            run.log({"m": 1.0}, 1)
            for child in children: child.join()
            assert [c.exitcode for c in children] == [0] * 4
            pid = os.fork()
            if pid == 0:
                work(run, "raw")
                raise SystemExit(0)  # by way of the block's end, which must not end the run
            assert os.waitpid(pid, 0)[1] == 0
            run.log({"m": 2.0}, 2)
        """
    )
    events = home.events()
    assert steps(events) == [0, 1, 2]
    for name in ("c0", "c1", "c2", "raw"):
        assert steps(events, name) == list(range(100))
    assert [t for t, _ in events].count("RunStarted") == 1
    ends = [e for t, e in events if t == "RunEnded"]
    assert [e["status"] for e in ends] == ["FINISHED"]
    assert len({e["envelope"]["producer_id"] for _, e in events}) == 5
    assert home.outboxes() == []


def test_a_spawned_worker_gets_the_run_by_pickle(home: Any) -> None:
    (home.folder / "train.py").write_text(
        "import multiprocessing\n"
        "from modeltrail.producers import start_run\n"
        "def work(run):\n"
        "    for i in range(100): run.log({'w': float(i)}, i)\n"
        "if __name__ == '__main__':\n"
        "    with start_run() as run:\n"
        "        p = multiprocessing.get_context('spawn').Process(target=work, args=(run,))\n"
        "        p.start(); p.join(); assert p.exitcode == 0\n"
    )
    subprocess.run([sys.executable, "train.py"], check=True, cwd=home.folder, timeout=60)
    events = home.events()
    assert steps(events, "w") == list(range(100))
    assert [t for t, _ in events].count("RunEnded") == 1


def test_forks_while_the_threads_are_busy(home: Any) -> None:
    home.script(
        """
        import os
        from modeltrail.producers import start_run
        run = start_run()
        for n in range(20):
            for i in range(500): run.log({"m": 1.0}, i)
            pid = os.fork()
            if pid == 0:
                run.log({"c": 1.0}, n)
                ok = run.finish(timeout_s=20)
                os._exit(0 if ok else 1)
            assert os.waitpid(pid, 0)[1] == 0
        assert run.finish()
        """
    )
    events = home.events()
    assert len(steps(events)) == 10_000
    assert sorted(steps(events, "c")) == list(range(20))


def test_kill_9_then_sync_delivers_all_that_was_written_once_and_in_order(home: Any) -> None:
    seed = int(os.environ.get("MODELTRAIL_TEST_SEED", "7"))
    print(f"seed {seed}")  # noqa: T201
    chance = random.Random(seed)
    program = (
        "from modeltrail.producers import start_run\n"
        "import time\n"
        "run = start_run(); run.log({'m': 0.0}, 0); print('ready', flush=True)\n"
        "i = 1\n"
        "while True:\n"
        "    run.log({'m': float(i)}, i); i += 1\n"
        "    if i % 100 == 0: time.sleep(0.001)\n"
    )
    # Half of them log to a folder that no log can be made in, so all of it stays in the outbox.
    (home.folder / "file").write_text("")
    for round in range(8):
        url = str(home.data) if round % 2 else str(home.folder / "file" / "x")
        child = subprocess.Popen(
            [sys.executable, "-c", program],
            cwd=home.folder,
            env={**os.environ, "MODELTRAIL_URL": url},
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        assert child.stdout is not None
        child.stdout.readline()
        time.sleep(chance.uniform(0.0, 0.8))
        child.kill()
        child.wait()
        child.stdout.close()
    for result in sync(url=str(home.data)):
        assert result.error is None
    by_run: dict[str, list[Any]] = {}
    for type, event in home.events():
        by_run.setdefault(event["run_id"], []).append((type, event))
    for events in by_run.values():
        assert [e["envelope"]["sequence"] for _, e in events] == list(range(len(events)))
        assert events[0][0] == "RunStarted"
        found = steps(events)
        assert found == list(range(len(found)))
    assert len(by_run) >= 4
    # Killed while it makes its outbox, a job leaves an empty hidden one, which goes after an hour.
    assert [name for name in home.outboxes() if not name.startswith(".")] == []


def test_a_living_process_keeps_its_outbox(home: Any) -> None:
    (home.folder / "file").write_text("")
    run = start_run(url=str(home.folder / "file" / "x"))
    run.log({"m": 1.0})
    assert not run.finish(timeout_s=0.3)
    assert len(home.outboxes()) == 1
    assert sync() == []


def test_the_cap_drops_points_counts_them_and_lets_the_end_through(
    home: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("MODELTRAIL_OUTBOX_BYTES_MAX", "300000")
    target = home.folder / "target"
    target.write_text("")  # no folder yet: nothing can be delivered
    run = start_run(url=str(target))
    for part in range(20):
        run.log_series("m", range(part * 4000, part * 4000 + 4000), [0.5] * 4000)
    (home.folder / "large").write_bytes(b"x" * 400_000)
    run.log_artifact("large")
    assert not run.finish(timeout_s=1)
    assert caplog.text.count("the outbox takes nothing more") == 1
    target.unlink()
    assert run.finish(timeout_s=20)
    events = home.events(target)
    ended = events[-1][1]
    assert events[-1][0] == "RunEnded"
    found = steps(events)
    assert ended["points_logged"] == 80_000
    assert ended["points_dropped"] == 80_000 - len(found) > 0
    assert found == sorted(found)
    assert ended["envelope"]["sequence"] > len(events) - 1, "no hole shows what is missing"


def test_a_full_disk_is_survived(home: Any) -> None:
    """The limit of a file's size stands for the disk's: the write fails in the same place."""
    done = home.script(
        """
        import os, resource, signal, time
        from modeltrail.producers import start_run
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        open("file", "w").close()
        run = start_run(url=os.path.abspath("file/x"))
        run.log({"m": 0.0}, 0)
        time.sleep(0.5)
        resource.setrlimit(resource.RLIMIT_FSIZE, (70_000, resource.RLIM_INFINITY))
        for i in range(1, 400_000): run.log({"m": float(i)}, i)
        time.sleep(1)
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
        assert not run.finish(timeout_s=2)
        print(run.points_dropped)
        """,
        MODELTRAIL_FINISH_TIMEOUT_S="0.5",
    )
    assert done.stderr.count("the outbox takes nothing more") == 1
    (home.folder / "file").unlink()
    assert [r.error for r in sync()] == [None]
    events = home.events(home.folder / "file" / "x")
    ended = events[-1][1]
    found = steps(events)
    assert events[-1][0] == "RunEnded"
    assert found == sorted(set(found))
    assert ended["points_dropped"] == 400_000 - len(found) > 0


AWAY = ("http://127.0.0.1:9", "kafka://127.0.0.1:9/x", "/proc/modeltrail")


@pytest.mark.alone
@pytest.mark.parametrize("url", AWAY)
@pytest.mark.parametrize(
    "ending",
    ["for run in runs: run.finish()", "pass", "raise ValueError", "os.kill(os.getpid(), 15)"],
)
def test_a_target_that_is_away_holds_up_a_process_once(home: Any, url: str, ending: str) -> None:
    """Whatever it does at its end: all waits together take the time of one."""
    done = home.script(
        f"""
        import os, time
        from modeltrail.producers import start_run
        runs = [start_run() for _ in range(20)]
        for run in runs: run.log({{"m": 1.0}}, 0)
        open("ending", "w").write(str(time.time()))
        {ending}
        """,
        check=False,
        MODELTRAIL_URL=url,
        MODELTRAIL_FINISH_TIMEOUT_S="1",
    )
    seconds = time.time() - float((home.folder / "ending").read_text())
    assert 0.9 < seconds < 3, f"{seconds:.1f} s from the script's end to the process's: {done}"
    assert "modeltrail sync" in done.stderr
    assert [(r.error, r.events) for r in sync(url=str(home.data))] == [(None, 60)]
    assert steps(home.events()) == [0] * 20


def test_no_time_to_wait_loses_nothing(home: Any) -> None:
    home.script(
        """
        from modeltrail.producers import start_run
        run = start_run()
        for i in range(5000): run.log({"m": 1.0}, i)
        """,
        MODELTRAIL_URL="http://127.0.0.1:9",
        MODELTRAIL_FINISH_TIMEOUT_S="0",
    )
    assert [r.error for r in sync(url=str(home.data))] == [None]
    assert steps(home.events()) == list(range(5000))


@pytest.mark.alone
def test_a_target_that_came_back_is_waited_for_again(
    home: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MODELTRAIL_FINISH_TIMEOUT_S", "3")
    target = home.folder / "target"
    target.write_text("")  # no folder yet: nothing can be delivered
    first = start_run(url=str(target))
    assert not first.finish()
    second = start_run(url=str(target))
    began = time.monotonic()
    assert not second.finish()
    assert time.monotonic() - began < 2.5, "the time for waiting is used up"
    target.unlink()
    assert second.finish(timeout_s=20)
    third = start_run(url=str(target))
    assert third.finish(), "it is not waited for, though it is back"


def test_what_a_full_disk_took_is_said_at_the_end(home: Any) -> None:
    """A run that can neither write its points nor its end says so; its counts are true."""
    done = home.script(
        """
        import os, random, resource, signal
        from modeltrail.producers import start_run
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        open("file", "w").close()
        run = start_run(url=os.path.abspath("file/x"))
        run.log({"m": 0.0}, 0)
        assert not run.flush(timeout_s=0.5)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1, resource.RLIM_INFINITY))
        for i in range(1, 10_001): run.log({"m": random.random()}, i)
        run.set_tags({"a": "b"})
        assert not run.finish(timeout_s=1)
        print(run.points_dropped, run.others_dropped)
        """,
        MODELTRAIL_FINISH_TIMEOUT_S="0.5",
    )
    assert done.stdout.split() == ["10000", "0"]
    # The tag and the end were in memory, in the hope for space.
    assert "lost 10,000 metric points and 2 of its other events" in done.stderr


def test_what_the_target_refused_after_the_end_is_counted(
    home: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from modeltrail.producers import delivery, targets

    class Picky:
        def append(self, frames: list[Any]) -> None:
            if any(frame.points for frame in frames):
                raise targets.EventRefused("no points")

        def close(self) -> None: ...

    monkeypatch.setattr(delivery, "open_target", lambda url, settings: Picky())
    run = start_run()
    for i in range(10):
        run.log({"m": 1.0}, i)
    assert not run.finish()
    assert run.points_dropped == 10
