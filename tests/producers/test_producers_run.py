"""Runs into an embedded log, in this process."""

from __future__ import annotations

import logging
import math
import threading
import time
from array import array
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from modeltrail.limits import ID_CHARACTERS_MAX, TEXT_BYTES_MAX
from modeltrail.producers import active_run, process, start_run
from modeltrail.producers.buffer import POINTS_MAX
from modeltrail.producers.channel import Channel
from modeltrail.schemas import unpack


def points(events: list[Any]) -> list[tuple[str, int, float]]:
    found = []
    for type, event in events:
        if type == "MetricsLogged":
            columns = unpack(event)
            found += [
                (event["series"][i]["key"], step, value)
                for i, step, value in zip(
                    columns.series_index, columns.steps, columns.values, strict=True
                )
            ]
    return found


def test_all_kinds_of_events_arrive_in_order(home: Any) -> None:
    Path("model.bin").write_bytes(b"weights")
    Path("plots").mkdir()
    Path("plots/a.txt").write_text("a")
    with start_run("digits", "first", params={"lr": 0.1}, tags={"a": "b"}, user="ada") as run:
        assert active_run() is run
        for step in range(10):
            run.log({"loss": 1 / (step + 1), "acc": step}, step)
        run.log_params({"depth": 5})
        run.set_tags({"stage": "x"})
        run.delete_tag("a")
        run.log_dataset("train", array("d", [1.0, 2.0]))
        run.log_artifact("model.bin", "model")
        run.log_artifacts("plots", "plots")
        run.register_model("digits", "model", aliases=["champion"])
        assert run.finish()
    assert active_run() is None
    events = home.events()
    main = [(t, e) for t, e in events if t != "ArtifactLogged"]
    assert [t for t, _ in main] == [
        "RunStarted",
        "MetricsLogged",
        "ParamsLogged",
        "TagsChanged",
        "TagsChanged",
        "DatasetsLogged",
        "ModelRegistrationRequested",
        "RunEnded",
    ]
    assert [e["envelope"]["sequence"] for _, e in main] == list(range(len(main)))
    assert {e["envelope"]["actor"] for _, e in main} == {"ada"}
    started, ended = main[0][1], main[-1][1]
    assert (started["experiment_name"], started["name"]) == ("digits", "first")
    assert (started["params"], started["tags"]) == ({"lr": "0.1"}, {"a": "b"})
    assert "fastavro" in started["source"]["packages"]
    assert (ended["status"], ended["points_logged"], ended["points_dropped"]) == ("FINISHED", 20, 0)
    assert points(events)[:2] == [("loss", 0, 1.0), ("acc", 0, 0.0)]
    stored = {e["path"]: e for t, e in events if t == "ArtifactLogged"}
    assert set(stored) == {"model/model.bin", "plots/a.txt"}
    kept = home.data / "artifacts" / run.run_id / "model" / "model.bin"
    assert kept.read_bytes() == b"weights"
    assert stored["model/model.bin"]["location"] == kept.as_uri()


class Failing:
    def __float__(self) -> float:
        raise RuntimeError("no")

    def __str__(self) -> str:
        raise RuntimeError("no")


class Scalar:
    """A tensor's way of being a number."""

    def item(self) -> float:
        return 2.5


def test_bad_values_are_dropped_counted_and_warned_about_once(
    home: Any, caplog: pytest.LogCaptureFixture
) -> None:
    bad: list[Any] = ["1.0", None, 10**400, Failing(), [1], b"1", 1j]
    good: list[Any] = [math.nan, math.inf, True, 3, Decimal("0.5"), Scalar()]
    with caplog.at_level(logging.WARNING, "modeltrail"), start_run() as run:
        for i, value in enumerate(bad + good):
            run.log({f"m{i}": value}, 0)
        run.log({"": 1.0, "k" * 250: 1.0, "k" * 251: 1.0, "k" * 2000: 1.0}, 0)
        run.log({"x": 1.0}, 2**63)
        run.log({"x": 1.0}, "step")  # type: ignore[arg-type]
        run.log(None)  # type: ignore[arg-type]
        run.log({5: 1.0})  # type: ignore[dict-item]
        run.log({"é\ud800": 1.0, "🙂\0": 2.0}, 7)
        run.log_params({"ok": 1, "bad": Failing(), "long": "x" * 70_000, "🙂\0": "\ud800"})
        run.log_params(7)  # type: ignore[arg-type]
        run.set_tags({"k" * 251: "x"})
        run.log_artifact("missing.bin")
        run.log_artifact(__file__, "../../etc")
        run.log_artifacts("missing")
        run.log_dataset("d", object())
        run.log_series("s", [1, 2], [1.0])
        run.log_series("s", [1], ["x"])
        run.log_series("s", 1, 2)  # type: ignore[arg-type]
        run.register_model("m", Failing())  # type: ignore[arg-type]
        assert run.finish("nonsense")
    events = home.events()
    arrived = {key: value for key, _, value in points(events)}
    assert len(arrived) == len(good) + 2
    assert math.isnan(arrived["m7"])
    assert (arrived["m8"], arrived["m9"], arrived["m11"], arrived["m12"]) == (math.inf, 1, 0.5, 2.5)
    assert (arrived["k" * 250], arrived["🙂\0"]) == (1.0, 2.0)
    params = next(e for t, e in events if t == "ParamsLogged")["params"]
    assert params == {"ok": "1", "🙂\0": "\\ud800"}
    ended = events[-1][1]
    assert ended["status"] == "FINISHED"
    assert ended["points_dropped"] == run.points_dropped
    assert ended["points_dropped"] >= len(bad) + 3 + 2 + 1 + 1 + 1
    assert ended["points_logged"] == ended["points_dropped"] + len(arrived)
    said = [r.message for r in caplog.records if run.run_id in r.message]
    assert len(said) == len({"value", "key", "step", "text"})


def test_the_callers_objects_are_not_kept(home: Any) -> None:
    metrics = {"m": 1.0}
    values = array("d", [1.0, 2.0])
    with start_run() as run:
        run.log(metrics, 0)
        metrics["m"] = 99.0
        run.log_series("s", [0, 1], values)
        values[0] = 99.0
    assert {v for _, _, v in points(home.events())} == {1.0, 2.0}


def test_steps_count_calls_where_none_are_given(home: Any) -> None:
    with start_run() as run:
        for _ in range(3):
            run.log({"a": 0.5, "b": 0.5})
    assert [s for _, s, _ in points(home.events())] == [0, 0, 1, 1, 2, 2]


def test_a_long_series_arrives_whole(home: Any) -> None:
    n = 500_000
    with start_run() as run:
        run.log_series("s", range(n), [0.5] * n, timestamps_ms=range(n))
    found = points(home.events())
    assert [step for _, step, _ in found] == list(range(n))


def test_threads_share_a_run(home: Any) -> None:
    with start_run() as run:

        def work(name: str) -> None:
            for i in range(2000):
                run.log({name: float(i)}, i)

        threads = [threading.Thread(target=work, args=(f"t{i}",)) for i in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    found = points(home.events())
    for i in range(4):
        assert [s for key, s, _ in found if key == f"t{i}"] == list(range(2000))


def test_parents_children_and_resumed_runs(home: Any) -> None:
    with start_run() as parent, start_run(parent=parent) as child:
        assert active_run() is child
    with start_run(run_id=child.run_id, params={"again": 1}) as again:
        again.log({"m": 1.0}, 5)
    events = home.events()
    children = [e for t, e in events if t == "RunStarted" and e["parent_run_id"]]
    assert [e["parent_run_id"] for e in children] == [parent.run_id]
    types = [t for t, e in events if e["run_id"] == child.run_id]
    assert types[:3] == ["RunStarted", "RunEnded", "RunUpdated"]
    assert sorted(types[3:5]) == ["MetricsLogged", "ParamsLogged"]
    assert types[5:] == ["RunEnded"]
    with pytest.raises(ValueError, match="run id"):
        start_run(run_id="../x")


@pytest.mark.parametrize(
    ("error", "status", "message"),
    [
        (ValueError("x" * 20_000), "FAILED", "ValueError: xxx"),
        (KeyboardInterrupt(), "KILLED", "KeyboardInterrupt"),
        (SystemExit(0), "FINISHED", None),
        (SystemExit(3), "FAILED", "SystemExit: 3"),
    ],
)
def test_an_exception_ends_the_run(
    home: Any, error: BaseException, status: str, message: str | None
) -> None:
    with pytest.raises(type(error)), start_run():
        raise error
    ended = home.events()[-1][1]
    assert ended["status"] == status
    assert (ended["message"] or "").startswith(message or "")
    assert len(ended["message"] or "") <= 8000


def test_what_is_logged_after_the_end_is_delivered_and_warned_about(
    home: Any, caplog: pytest.LogCaptureFixture
) -> None:
    run = start_run()
    run.log({"m": 1.0}, 0)
    assert run.finish()
    with caplog.at_level(logging.WARNING, "modeltrail"):
        run.log({"m": 2.0}, 1)
        run.log({"m": 3.0}, 2)
        assert run.finish()
        assert run.finish()
    assert [v for _, _, v in points(home.events())] == [1.0, 2.0, 3.0]
    assert sum("after finish" in r.message for r in caplog.records) == 1


def test_heartbeats_carry_the_counts(home: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODELTRAIL_HEARTBEAT_S", "0.1")
    with start_run() as run:
        run.log({"m": 1.0})
        time.sleep(0.6)
    events = home.events()
    beats = [e for t, e in events if t == "Heartbeat"]
    assert len(beats) >= 2
    assert beats[-1]["points_logged"] == 1
    assert events[0][1]["heartbeat_interval_ms"] == 100


def test_git_is_recorded_without_credentials(home: Any) -> None:
    home.script(
        """
        import subprocess, sys
        def git(*a): subprocess.run(["git", "-c", "user.name=a", "-c", "user.email=a@b", *a],
                                    check=True, stdout=subprocess.DEVNULL)
        git("init", "-b", "topic")
        open("train.py", "w").write("from modeltrail.producers import start_run\\nstart_run()\\n")
        git("add", "."); git("commit", "-m", "x")
        git("remote", "add", "origin", "https://user:secret@example.org/team/code.git?token=x")
        open("train.py", "a").write("# changed")
        subprocess.run([sys.executable, "train.py"], check=True)
        """
    )
    source = home.events()[0][1]["source"]
    assert len(source["git_commit"]) == 40
    assert (source["git_branch"], source["git_dirty"]) == ("topic", True)
    assert source["git_remote"] == "https://example.org/team/code.git"
    assert source["entry_point"].endswith("train.py")


@pytest.mark.alone
def test_a_disk_that_hangs_costs_one_short_pause_and_bounded_memory(
    home: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    hang = threading.Event()
    put_events = Channel.put_events

    def slow(self: Channel, frames: list[bytes], points: int) -> None:
        hang.wait(20)
        put_events(self, frames, points)

    monkeypatch.setattr(Channel, "put_events", slow)
    run = start_run()
    time.sleep(0.3)  # the writer hangs in its first write by now
    begin = time.monotonic()
    for i in range(200_000):
        run.log({"m": 1.0}, i)
    assert time.monotonic() - begin < 15
    assert len(process.current().buffer.points) <= POINTS_MAX
    hang.set()
    assert run.finish()
    ended = home.events()[-1][1]
    assert ended["points_logged"] == 200_000
    assert ended["points_dropped"] == 200_000 - len(points(home.events())) > 0


def test_runs_are_logged_to_as_people_type_it(home: Any) -> None:
    run = start_run("e", "first")
    run.log_metric("loss", 0.5, step=3)
    run.log_metric("loss", 0.25)
    run.log_metrics({"a": 1, "b": 2}, step=7)
    run.log_param("lr", 0.1)
    run.set_tag("k", "v")
    assert repr(run) == f"<Run 'first' RUNNING {run.run_id} at {home.data}>"
    run.log_metric("text", "no number")
    assert repr(run) == f"<Run 'first' RUNNING {run.run_id} at {home.data}, 1 points dropped>"
    assert run.finish("FAILED")
    assert "FAILED" in repr(run)
    assert repr(start_run()).startswith("<Run RUNNING ")
    events = home.events()
    logged = {(s["key"]) for t, e in events if t == "MetricsLogged" for s in e["series"]}
    assert logged == {"loss", "a", "b"}
    assert [e["params"] for t, e in events if t == "ParamsLogged"] == [{"lr": "0.1"}]
    assert [e["tags"] for t, e in events if t == "TagsChanged"] == [{"k": "v"}]


def test_keys_that_are_none_raise_nothing(home: Any) -> None:
    run = start_run()
    bad: Any = []
    run.log_metric(bad, 1.0)
    run.log_param(bad, 1)
    run.set_tag(bad, 1)
    run.log_metrics(bad)
    assert run.finish()
    assert (run.points_dropped, run.others_dropped) == (2, 2)


class Unspeakable:
    def __str__(self) -> str:
        raise ValueError("no text")


@pytest.mark.parametrize("experiment", ["", "  ", None, Unspeakable()])
def test_a_run_without_an_experiment_is_in_default_and_says_so(
    home: Any, caplog: pytest.LogCaptureFixture, experiment: Any
) -> None:
    with start_run(experiment):
        pass
    ((_, started), _) = home.events()
    assert started["experiment_name"] == "Default"
    assert caplog.text.count("no name of an experiment") == 1


def test_what_start_run_is_given_loses_no_run(home: Any, caplog: pytest.LogCaptureFixture) -> None:
    odd: Any = Unspeakable()
    with start_run("x" * 501, odd, user=odd, parent=odd, params=odd, tags=odd):
        pass
    with start_run("e", 7, user=8, parent=9, url=home.folder / "modeltrail-data"):  # type: ignore[arg-type]
        pass
    events = home.events()
    first, second = (e for t, e in events if t == "RunStarted")
    assert (first["experiment_name"], first["name"]) == ("x" * 500, None)
    assert (second["name"], second["parent_run_id"], second["user"]) == ("7", "9", "8")
    for what in ("experiment: cut", "name: cannot", "user: cannot", "parent: cannot"):
        assert what in caplog.text


def test_a_run_id_and_a_text_have_the_limits_of_every_door(home: Any) -> None:
    run_id = "r" * ID_CHARACTERS_MAX
    with pytest.raises(ValueError, match="not a run id"):
        start_run(run_id=run_id + "r")
    with start_run(run_id=run_id) as run:
        run.set_tags({"fits": "€" * (TEXT_BYTES_MAX // 3), "too long": "€" * (TEXT_BYTES_MAX // 2)})
    assert [event["tags"] for type, event in home.events() if type == "TagsChanged"] == [
        {"fits": "€" * (TEXT_BYTES_MAX // 3)}
    ]
