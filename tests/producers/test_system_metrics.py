"""System metrics: what is recorded, what is needed, and when it ends."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from modeltrail.producers import start_run
from modeltrail.producers.run import Run
from modeltrail.schemas import unpack

MACHINE = {
    "system/cpu_utilization_percentage", "system/system_memory_usage_megabytes",
    "system/system_memory_usage_percentage", "system/disk_usage_percentage",
    "system/disk_usage_megabytes", "system/disk_available_megabytes",
    "system/network_receive_megabytes", "system/network_transmit_megabytes",
}  # fmt: skip


class NVMLError(Exception):
    """Raised by the library for what a GPU does not have."""


def gpu_library(count: int, *, power: bool = True) -> ModuleType:
    """A stand-in for nvidia-ml-py on a machine with GPUs."""

    def power_of(_: int) -> int:
        if not power:
            raise NVMLError("not supported")
        return 150_000

    library = ModuleType("pynvml")
    vars(library).update(
        NVMLError=NVMLError,
        nvmlInit=lambda: None,
        nvmlDeviceGetCount=lambda: count,
        nvmlDeviceGetHandleByIndex=lambda n: n,
        nvmlDeviceGetMemoryInfo=lambda n: SimpleNamespace(used=(n + 1) * 10**9, total=4 * 10**9),
        nvmlDeviceGetUtilizationRates=lambda n: SimpleNamespace(gpu=90 + n),
        nvmlDeviceGetPowerUsage=power_of,
        nvmlDeviceGetEnforcedPowerLimit=lambda _: 300_000,
    )
    return library


def system_points(home: Any) -> dict[str, list[tuple[int, float]]]:
    found: dict[str, list[tuple[int, float]]] = {}
    for type, event in home.events():
        if type == "MetricsLogged":
            columns = unpack(event)
            for n, step, value in zip(
                columns.series_index, columns.steps, columns.values, strict=True
            ):
                key = event["series"][n]["key"]
                if key.startswith("system/"):
                    found.setdefault(key, []).append((step, value))
    return found


def until(done: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not done():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def samplers() -> list[threading.Thread]:
    return [t for t in threading.enumerate() if t.name == "modeltrail-system"]


@pytest.fixture
def sampled(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Run a run with system metrics until it has three samples."""
    monkeypatch.setenv("MODELTRAIL_SYSTEM_METRICS_INTERVAL_S", "0.1")
    steps: list[int | None] = []
    log = Run.log

    def noted(run: Run, metrics: Any, step: int | None = None) -> None:
        log(run, metrics, step)
        steps.append(step)

    monkeypatch.setattr(Run, "log", noted)

    def run(**options: Any) -> None:
        with start_run(**options):
            until(lambda: 2 in steps)
        until(lambda: not samplers())

    return run


def test_a_machine_with_gpus(
    home: Any, sampled: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", gpu_library(2))
    sampled(system_metrics=True)
    found = system_points(home)
    gpus = {key: values for key, values in found.items() if "/gpu_" in key}
    assert found.keys() - gpus.keys() == MACHINE
    assert {key: values[0] for key, values in gpus.items()} == {
        "system/gpu_0_memory_usage_megabytes": (0, 1000.0),
        "system/gpu_0_memory_usage_percentage": (0, 25.0),
        "system/gpu_0_utilization_percentage": (0, 90.0),
        "system/gpu_0_power_usage_watts": (0, 150.0),
        "system/gpu_0_power_usage_percentage": (0, 50.0),
        "system/gpu_1_memory_usage_megabytes": (0, 2000.0),
        "system/gpu_1_memory_usage_percentage": (0, 50.0),
        "system/gpu_1_utilization_percentage": (0, 91.0),
        "system/gpu_1_power_usage_watts": (0, 150.0),
        "system/gpu_1_power_usage_percentage": (0, 50.0),
    }
    for values in found.values():
        assert [step for step, _ in values][:3] == [0, 1, 2]
    for key, values in found.items():
        assert all(value >= 0 for _, value in values)
        assert not key.endswith("percentage") or all(value <= 100 for _, value in values)


def test_a_gpu_that_tells_less_and_a_setting_for_all_runs(
    home: Any, sampled: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", gpu_library(1, power=False))
    monkeypatch.setenv("MODELTRAIL_SYSTEM_METRICS", "true")
    sampled()
    found = system_points(home)
    assert "system/gpu_0_utilization_percentage" in found
    assert not [key for key in found if "power" in key]


def test_without_a_gpu_or_its_library(
    home: Any, sampled: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)
    sampled(system_metrics=True)
    assert system_points(home).keys() == MACHINE


def test_what_is_missing_is_named(
    home: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "psutil", None)
    with pytest.raises(ImportError, match=r"pip install 'modeltrail\[system\]'"):
        start_run(system_metrics=True)
    assert not home.outboxes()
    monkeypatch.setenv("MODELTRAIL_SYSTEM_METRICS", "1")
    with start_run():
        pass
    assert "need psutil" in caplog.text
    with start_run(system_metrics=False):
        assert not samplers()


def test_the_child_of_a_fork_leaves_it_to_its_parent(home: Any) -> None:
    done = home.script(
        """
        import os, sys, threading, time
        sys.modules["pynvml"] = None
        from modeltrail.producers import start_run

        run = start_run(system_metrics=True)
        time.sleep(0.5)
        child = os.fork()
        if child == 0:
            run.log({"child": 1.0})
            time.sleep(0.5)
            assert [t.name for t in threading.enumerate()].count("modeltrail-system") == 0
            run.finish()
            os._exit(0)
        _, status = os.waitpid(child, 0)
        time.sleep(0.5)
        run.finish()
        sys.exit(status != 0)
        """,
        MODELTRAIL_SYSTEM_METRICS_INTERVAL_S="0.1",
    )
    assert done.returncode == 0, done.stderr
    of_child = {
        event["envelope"]["producer_id"]
        for type, event in home.events()
        if type == "MetricsLogged" and event["series"][0]["key"] == "child"
    }
    of_system = {
        event["envelope"]["producer_id"]
        for type, event in home.events()
        if type == "MetricsLogged" and any(s["key"] in MACHINE for s in event["series"])
    }
    assert len(of_child) == len(of_system) == 1
    assert of_child != of_system
