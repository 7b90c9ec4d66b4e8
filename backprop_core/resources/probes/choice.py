"""Which GPU probe is used."""

from __future__ import annotations

import os

from backprop_core.errors import UsageError
from backprop_core.resources.probes.none import NoGpus
from backprop_core.resources.probes.nvidia_smi import NvidiaSmi
from backprop_core.resources.probes.nvml import Nvml
from backprop_core.resources.probes.rocm import Rocm
from backprop_core.resources.probes.tool import on_path
from backprop_core.resources.sampler import GpuProbe
from backprop_core.resources.samples import GpuReading

_NVIDIA_SIGNS = ("/dev/nvidiactl", "/proc/driver/nvidia", "/dev/dxg", "/dev/nvhost-ctrl-gpu")
"""What a driver for NVIDIA GPUs leaves on Linux, WSL and Jetson."""

NAMES = ("auto", "nvml", "nvidia-smi", "rocm", "none")


def gpu_probe(name: str) -> GpuProbe:
    """The probe of that name. UsageError for another word."""
    if name == "auto":
        return Auto()
    makers = {"nvml": Nvml, "nvidia-smi": NvidiaSmi, "rocm": Rocm, "none": NoGpus}
    if name not in makers:
        raise UsageError(f"{name!r} is not a GPU probe.", f"Choose one of {', '.join(NAMES)}.")
    probe: GpuProbe = makers[name]()
    return probe


class Auto:
    """The first of NVML, nvidia-smi and ROCm that answers, kept from then on."""

    def __init__(self) -> None:
        self._chosen: GpuProbe | None = None

    @property
    def name(self) -> str:
        return "auto" if self._chosen is None else self._chosen.name

    def read(self) -> GpuReading:
        if self._chosen is not None:
            return self._chosen.read()
        troubles: list[str] = []
        for probe in _candidates():
            reading = probe.read()
            if reading.gpus:
                self._chosen = probe
                return reading
            probe.close()
            if reading.gpus is None and not (isinstance(probe, Nvml) and probe.absent):
                troubles += reading.notes
        if troubles:  # somebody who should know did not answer: then it is not known whether there are GPUs
            return GpuReading(None, self.name, tuple(troubles))
        self._chosen = NoGpus()  # nobody to ask: not every second anew
        return self._chosen.read()

    def memory_by_pid(self) -> dict[str, dict[int, int]] | None:
        return None if self._chosen is None else self._chosen.memory_by_pid()

    def close(self) -> None:
        if self._chosen is not None:
            self._chosen.close()


def _candidates() -> list[GpuProbe]:
    """The probes that may have something to ask on this machine."""
    # Importing the library's module takes 30 ms: not where no driver could answer it.
    found: list[GpuProbe] = [Nvml()] if any(map(os.path.exists, _NVIDIA_SIGNS)) else []
    if on_path("nvidia-smi"):
        found.append(NvidiaSmi())
    if on_path("amd-smi") or on_path("rocm-smi"):
        found.append(Rocm())
    return found
