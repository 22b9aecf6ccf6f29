"""The energy of a process's GPUs, from the counter that each keeps: NVML's total consumption since its driver loaded.

Source: nvmlDeviceGetTotalEnergyConsumption, in millijoules, on NVIDIA GPUs from Volta on. Without NVML's Python package
(``nvidia-ml-py``), on another device or on a MIG slice nothing is measured, and the energy is None.
"""

import os
from typing import Any

VISIBLE = "CUDA_VISIBLE_DEVICES"  # Ray sets it to the GPUs that it gives to a worker: numbers, or UUIDs


class EnergyMeter:
    """Joules of the GPUs that this process may use.

    Args:
        device: "gpu" or "cpu"; on a CPU nothing is measured.
    """

    def __init__(self, device: str) -> None:
        self._nvml = _nvml() if device == "gpu" else None
        self._last = self._read()

    def lap(self) -> float | None:
        """Joules since the last lap, at first since the meter was made; None where they are not measured."""
        last, self._last = self._last, self._read()
        return None if last is None or self._last is None else self._last - last

    def _read(self) -> float | None:
        devices = [name for name in os.environ.get(VISIBLE, "").split(",") if name]
        if self._nvml is None or not devices:
            return None
        try:
            handles = [_handle(self._nvml, name) for name in devices]
            return float(sum(map(self._nvml.nvmlDeviceGetTotalEnergyConsumption, handles)) / 1000)
        except (self._nvml.NVMLError, ValueError):
            return None


def _nvml() -> Any:
    """NVML, ready to be asked; None where there is none."""
    try:
        import pynvml
    except ImportError:
        return None
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return None
    return pynvml


def _handle(nvml: Any, name: str) -> Any:
    if name.startswith("GPU-"):
        return nvml.nvmlDeviceGetHandleByUUID(name)
    return nvml.nvmlDeviceGetHandleByIndex(int(name))
