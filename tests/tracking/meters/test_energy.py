"""Joules from NVML's counters, by a module that counts as NVML does."""

import sys
from types import ModuleType
from typing import Any

import pytest

from tracking.meters.energy import VISIBLE, EnergyMeter


class Nvml(ModuleType):
    """NVML on a machine with two GPUs that use 100 and 50 mJ between two readings."""

    NVMLError = RuntimeError

    def __init__(self) -> None:
        super().__init__("pynvml")
        self.readings = {"0": 0, "1": 0}
        self.fails = False

    def nvmlInit(self) -> None: ...  # noqa: N802

    def nvmlDeviceGetHandleByIndex(self, index: int) -> str:  # noqa: N802
        return str(index)

    def nvmlDeviceGetHandleByUUID(self, uuid: str) -> str:  # noqa: N802
        return {"GPU-one": "1"}[uuid]

    def nvmlDeviceGetTotalEnergyConsumption(self, handle: str) -> int:  # noqa: N802
        if self.fails:
            raise RuntimeError("not supported")
        self.readings[handle] += 100 if handle == "0" else 50
        return self.readings[handle]


@pytest.fixture
def nvml(monkeypatch: pytest.MonkeyPatch) -> Nvml:
    made = Nvml()
    monkeypatch.setitem(sys.modules, "pynvml", made)
    return made


@pytest.mark.parametrize(("visible", "joules"), [("0", 0.1), ("1", 0.05), ("0,1", 0.15), ("GPU-one", 0.05)])
def test_joules_of_the_gpus_that_are_ours(
    nvml: Nvml, monkeypatch: pytest.MonkeyPatch, visible: str, joules: float
) -> None:
    monkeypatch.setenv(VISIBLE, visible)
    meter = EnergyMeter("gpu")
    assert [meter.lap(), meter.lap()] == [pytest.approx(joules), pytest.approx(joules)]


@pytest.mark.parametrize("visible", ["", "MIG-1234"])
def test_what_cannot_be_told_apart_is_not_measured(nvml: Nvml, monkeypatch: pytest.MonkeyPatch, visible: str) -> None:
    monkeypatch.setenv(VISIBLE, visible)
    assert EnergyMeter("gpu").lap() is None


def test_a_cpu_a_machine_without_nvml_and_an_old_gpu_have_none(nvml: Nvml, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VISIBLE, "0")
    assert EnergyMeter("cpu").lap() is None
    nvml.fails = True
    assert EnergyMeter("gpu").lap() is None
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert EnergyMeter("gpu").lap() is None


def test_a_pack_shares_its_energy_out_as_its_time(nvml: Nvml, monkeypatch: pytest.MonkeyPatch) -> None:
    from launchers.pack_worker import PackWorker, _Slot

    class Trial:
        busy_s = 0.0

    class Pack:
        def __init__(self) -> None:
            self.trials = [Trial(), Trial()]

        def round(self) -> bool:
            self.trials[0].busy_s += 3.0
            self.trials[1].busy_s += 1.0
            return True

    monkeypatch.setenv(VISIBLE, "0")
    worker: Any = object.__new__(PackWorker)
    pack = Pack()
    worker._meter, worker._slots = EnergyMeter("gpu"), {"a": _Slot(pack, 0), "b": _Slot(pack, 1)}
    worker._round(pack)
    worker._round(pack)
    assert [slot.energy_j for slot in worker._slots.values()] == [pytest.approx(0.15), pytest.approx(0.05)]
