"""System metrics of a run: CPU, memory, disk, network and GPUs, sampled in a thread.

The keys are those of MLflow, such as ``system/cpu_utilization_percentage``. The step is the number
of the sample.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from modeltrail.producers.forks import fork_gate
from modeltrail.producers.notices import warn

if TYPE_CHECKING:
    from modeltrail.producers.run import Run

PREFIX = "system/"
_FIRST_S = 1.0
_MEGABYTE = 1e6
_NVIDIA_DEVICE = "/dev/nvidia0"

Reader = Callable[[], dict[str, float]]


def check_installed() -> None:
    """Import what system metrics need. Raises ``ImportError`` with what to install.

    Next to a busy training thread an import takes seconds, so it is done before there is one.
    """
    try:
        with fork_gate:
            import psutil  # noqa: F401
    except ImportError:
        raise ImportError(
            "system metrics need psutil, and for NVIDIA GPUs nvidia-ml-py: "
            "pip install 'modeltrail[system]'"
        ) from None


class SystemMetrics:
    """Samples the machine and logs to a run until it is stopped."""

    def __init__(self, run: Run, interval_s: float) -> None:
        """Start to sample, every so many seconds."""
        self._run = run
        self._interval_s = interval_s
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._sample, name="modeltrail-system", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop; a sample that is being taken may still be logged."""
        self._stopping.set()

    def _sample(self) -> None:
        readers = [reader for make in (_cpu, _memory, _disk, _network) if (reader := _tried(make))]
        gpus = _tried(_gpus)
        step, wait_s = 0, min(_FIRST_S, self._interval_s)
        while not self._stopping.wait(wait_s):
            metrics: dict[str, float] = {}
            with fork_gate:  # psutil has locks that a child must not inherit
                for reader in list(readers):
                    _read(reader, readers, metrics)
            if gpus is not None:  # a driver may hang, and a fork must not wait for it
                still: list[Reader] = [gpus]
                _read(gpus, still, metrics)
                gpus = still[0] if still else None
            if self._stopping.is_set() or not (readers or gpus):
                return
            self._run.log({f"{PREFIX}{key}": value for key, value in metrics.items()}, step)
            step, wait_s = step + 1, self._interval_s


def _tried(make: Callable[[], Reader | None]) -> Reader | None:
    try:
        return make()
    except Exception as error:
        warn(f"system metrics: {make.__name__.strip('_')} cannot be read: {error!r:.200}")
        return None


def _read(reader: Reader, readers: list[Reader], metrics: dict[str, float]) -> None:
    """Add what a reader reads. One that fails is left out from then on."""
    try:
        metrics.update(reader())
    except Exception as error:
        readers.remove(reader)
        warn(f"system metrics: some can no longer be read: {error!r:.200}")


def _cpu() -> Reader:
    import psutil

    psutil.cpu_percent()  # the first call has nothing to compare with
    return lambda: {"cpu_utilization_percentage": psutil.cpu_percent()}


def _memory() -> Reader:
    import psutil

    def read() -> dict[str, float]:
        memory = psutil.virtual_memory()
        return {
            "system_memory_usage_megabytes": memory.used / _MEGABYTE,
            "system_memory_usage_percentage": memory.used / memory.total * 100,
        }

    return read


def _disk() -> Reader:
    import psutil

    def read() -> dict[str, float]:
        disk = psutil.disk_usage(os.sep)
        return {
            "disk_usage_percentage": disk.percent,
            "disk_usage_megabytes": disk.used / _MEGABYTE,
            "disk_available_megabytes": disk.free / _MEGABYTE,
        }

    return read


def _network() -> Reader:
    import psutil

    began = psutil.net_io_counters()

    def read() -> dict[str, float]:
        now = psutil.net_io_counters()
        return {
            "network_receive_megabytes": (now.bytes_recv - began.bytes_recv) / _MEGABYTE,
            "network_transmit_megabytes": (now.bytes_sent - began.bytes_sent) / _MEGABYTE,
        }

    return read


def _gpus() -> Reader | None:
    try:
        with fork_gate:
            import pynvml
    except ImportError:
        if os.path.exists(_NVIDIA_DEVICE):
            warn("metrics of the GPU need nvidia-ml-py: pip install 'modeltrail[system]'")
        return None
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return None  # there is no GPU, or no driver
    handles = [pynvml.nvmlDeviceGetHandleByIndex(n) for n in range(pynvml.nvmlDeviceGetCount())]

    def read() -> dict[str, float]:
        metrics: dict[str, float] = {}
        for n, handle in enumerate(handles):
            for values in (_gpu_memory, _gpu_utilization, _gpu_power):
                with suppress(pynvml.NVMLError):  # not every GPU has each of them
                    found = dict(values(pynvml, handle))
                    metrics.update({f"gpu_{n}_{key}": value for key, value in found.items()})
        return metrics

    return read if handles else None


def _gpu_memory(nvml: Any, handle: Any) -> Iterator[tuple[str, float]]:
    memory = nvml.nvmlDeviceGetMemoryInfo(handle)
    yield "memory_usage_percentage", memory.used / memory.total * 100
    yield "memory_usage_megabytes", memory.used / _MEGABYTE


def _gpu_utilization(nvml: Any, handle: Any) -> Iterator[tuple[str, float]]:
    yield "utilization_percentage", nvml.nvmlDeviceGetUtilizationRates(handle).gpu


def _gpu_power(nvml: Any, handle: Any) -> Iterator[tuple[str, float]]:
    milliwatts = nvml.nvmlDeviceGetPowerUsage(handle)
    yield "power_usage_watts", milliwatts / 1000
    yield (
        "power_usage_percentage",
        milliwatts / nvml.nvmlDeviceGetEnforcedPowerLimit(handle) * 100,
    )
