"""The GPUs of this machine, as NVIDIA's management library (NVML) reports them. Where it reports none, there
is none."""

from __future__ import annotations

import logging
from dataclasses import dataclass

import pynvml

log = logging.getLogger(__name__)

BYTES_PER_GB = 2**30


@dataclass(frozen=True, slots=True)
class Gpu:
    """One GPU: its name, and its memory in GiB to one decimal."""

    name: str
    memory_gb: float


@dataclass(frozen=True, slots=True)
class GpuLoad:
    """All GPUs together: mean utilisation in percent, memory in use in GiB."""

    gpu_utilisation: float
    memory_used_gb: float


def detect_gpus() -> list[Gpu]:
    """The GPUs that NVML can see; none where there is no driver."""
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return []  # no NVIDIA driver here: a machine without a GPU, not a fault
    try:
        return [_describe(index) for index in range(pynvml.nvmlDeviceGetCount())]
    except pynvml.NVMLError as error:
        log.warning("NVML is there but does not list the GPUs: %s", error)
        return []
    finally:
        pynvml.nvmlShutdown()


def read_load() -> GpuLoad | None:
    """What the GPUs are doing; None where there are none or they do not say."""
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return None
    try:
        handles = [pynvml.nvmlDeviceGetHandleByIndex(index) for index in range(pynvml.nvmlDeviceGetCount())]
        if not handles:
            return None
        busy = [pynvml.nvmlDeviceGetUtilizationRates(handle).gpu for handle in handles]
        used = sum(pynvml.nvmlDeviceGetMemoryInfo(handle).used for handle in handles)
        return GpuLoad(round(sum(busy) / len(busy), 1), round(used / BYTES_PER_GB, 1))
    except pynvml.NVMLError:
        return None  # some cards report no utilisation; a heartbeat does without
    finally:
        pynvml.nvmlShutdown()


def _describe(index: int) -> Gpu:
    handle = pynvml.nvmlDeviceGetHandleByIndex(index)
    name = pynvml.nvmlDeviceGetName(handle)
    text = name.decode("utf-8", "replace") if isinstance(name, bytes) else str(name)
    total = pynvml.nvmlDeviceGetMemoryInfo(handle).total
    return Gpu(text, round(total / BYTES_PER_GB, 1))
