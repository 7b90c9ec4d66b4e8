"""A stand-in for the module `pynvml`: GPUs as plain data, and every kind of trouble a driver can make."""

from __future__ import annotations

import threading
from dataclasses import field
from types import SimpleNamespace
from typing import Any

from backprop_core.quick_dataclass import dataclass
from backprop_core.resources.samples import MIB


class NVMLError(Exception):
    """The root of the library's errors, named as there: the probe tells them apart by their class names."""


class NVMLError_NotSupported(NVMLError):  # noqa: N801 - the real module's name
    def __str__(self) -> str:
        return "Not Supported"


class NVMLError_NoPermission(NVMLError):  # noqa: N801
    def __str__(self) -> str:
        return "Insufficient Permissions"


class NVMLError_GpuIsLost(NVMLError):  # noqa: N801
    def __str__(self) -> str:
        return "GPU is lost"


class NVMLError_ResetRequired(NVMLError):  # noqa: N801
    def __str__(self) -> str:
        return "GPU requires reset"


class NVMLError_LibraryNotFound(NVMLError):  # noqa: N801
    def __str__(self) -> str:
        return "NVML Shared Library Not Found"


@dataclass
class FakeGpu:
    """One GPU. A field set to an exception is raised when it is asked for.

    Attributes:
        used_mib, total_mib: memory; either may be an exception, which stands for the whole question.
        mig: instances; not None means that the GPU is cut up.
        processes: MiB by pid.
    """

    uuid: Any = "GPU-11111111-1111-1111-1111-111111111111"
    name: Any = "Fake H100"
    total_mib: Any = 81_920
    used_mib: Any = 1_024
    temperature_c: Any = 40
    utilization_percent: Any = 5
    power_w: Any = 100.0
    mig: list[FakeGpu] | None = None
    processes: Any = field(default_factory=dict)


class FakeNvml:
    """Has the functions of `pynvml` that the probe calls.

    Attributes:
        gpus: what is there; change it and its fields at will.
        trouble: raised by every call while it is set.
        hang: every call waits for it while it is set to an event.
        inits, shutdowns: how often the library was opened and closed.
    """

    NVML_TEMPERATURE_GPU = 0
    NVMLError = NVMLError

    def __init__(self, *gpus: FakeGpu) -> None:
        self.gpus = list(gpus)
        self.trouble: Exception | None = None
        self.hang: threading.Event | None = None
        self.inits = 0
        self.shutdowns = 0

    def nvmlInit(self) -> None:  # noqa: N802
        self._answer(None)
        self.inits += 1

    def nvmlShutdown(self) -> None:  # noqa: N802
        self.shutdowns += 1

    def nvmlDeviceGetCount(self) -> Any:  # noqa: N802
        return self._answer(len(self.gpus))

    def nvmlDeviceGetHandleByIndex(self, index: int) -> Any:  # noqa: N802
        return self._answer(self.gpus[index])

    def nvmlDeviceGetUUID(self, gpu: FakeGpu) -> Any:  # noqa: N802
        return self._answer(gpu.uuid)

    def nvmlDeviceGetName(self, gpu: FakeGpu) -> Any:  # noqa: N802
        return self._answer(gpu.name)

    def nvmlDeviceGetMemoryInfo(self, gpu: FakeGpu) -> Any:  # noqa: N802
        total, used = self._answer(gpu.total_mib), self._answer(gpu.used_mib)
        return SimpleNamespace(total=total * MIB, used=used * MIB, free=(total - used) * MIB)

    def nvmlDeviceGetTemperature(self, gpu: FakeGpu, sensor: int) -> Any:  # noqa: N802
        return self._answer(gpu.temperature_c)

    def nvmlDeviceGetUtilizationRates(self, gpu: FakeGpu) -> Any:  # noqa: N802
        return SimpleNamespace(gpu=self._answer(gpu.utilization_percent))

    def nvmlDeviceGetPowerUsage(self, gpu: FakeGpu) -> Any:  # noqa: N802
        return self._answer(gpu.power_w) * 1000

    def nvmlDeviceGetMigMode(self, gpu: FakeGpu) -> Any:  # noqa: N802
        mode = int(gpu.mig is not None)
        return self._answer([mode, mode])

    def nvmlDeviceGetMaxMigDeviceCount(self, gpu: FakeGpu) -> Any:  # noqa: N802
        return self._answer(7)

    def nvmlDeviceGetMigDeviceHandleByIndex(self, gpu: FakeGpu, index: int) -> Any:  # noqa: N802
        if gpu.mig is None or index >= len(gpu.mig):
            raise NVMLError("Not Found")
        return self._answer(gpu.mig[index])

    def nvmlDeviceGetComputeRunningProcesses(self, gpu: FakeGpu) -> Any:  # noqa: N802
        processes = self._answer(gpu.processes)
        return [SimpleNamespace(pid=pid, usedGpuMemory=mib * MIB) for pid, mib in processes.items()]

    def _answer(self, value: Any) -> Any:
        if self.hang is not None:
            self.hang.wait(60.0)
        for trouble in (self.trouble, value):
            if isinstance(trouble, Exception):
                raise trouble
        return value
