"""Which GPUs a user has allowed: `CUDA_VISIBLE_DEVICES` and AMD's own, read as their drivers read them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from backprop_core.quick_dataclass import dataclass
from backprop_core.resources.samples import GpuSample

_VARIABLES = {
    "nvidia": ("CUDA_VISIBLE_DEVICES",),
    "amd": ("HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES", "CUDA_VISIBLE_DEVICES"),
}
_MIN_PREFIX = 8  # "GPU-1234": shorter beginnings are more likely a mistake


@dataclass(frozen=True, slots=True)
class Allowed:
    """The devices a run may use.

    Attributes:
        gpus: the devices that the mask names, or all without one.
        fixed: the user has set a mask, so it stays as it is, and all of its devices count.
        note: a sentence if the mask could not be understood; then `gpus` is everything it may mean.
    """

    gpus: tuple[GpuSample, ...]
    fixed: bool = False
    note: str = ""


def allowed(gpus: Sequence[GpuSample], environ: Mapping[str, str]) -> Allowed:
    """What the environment's mask leaves of `gpus`."""
    vendor = gpus[0].vendor if gpus else "nvidia"
    name = next((name for name in _VARIABLES[vendor] if name in environ), None)
    if name is None:
        return Allowed(tuple(gpus))
    words = [word.strip() for word in environ[name].split(",")]
    if any(word.lstrip("-").isdigit() for word in words) and not _indices_are_pci(gpus, vendor, environ):
        return Allowed(
            tuple(gpus),
            fixed=True,
            note=f"{name}={environ[name]} counts GPUs in an order that is unknown from outside; "
            "set CUDA_DEVICE_ORDER=PCI_BUS_ID or name them by UUID.",
        )
    chosen: list[GpuSample] = []
    for word in words:
        found = _find(word, gpus)
        if found is None:  # the driver, too, stops at the first word that names nothing
            break
        if found not in chosen:
            chosen.append(found)
    return Allowed(tuple(chosen), fixed=True)


def mask_for(gpu: GpuSample) -> dict[str, str]:
    """The variables that give a process `gpu` and nothing else."""
    if gpu.vendor == "amd":
        return {"HIP_VISIBLE_DEVICES": gpu.visible}
    return {"CUDA_VISIBLE_DEVICES": gpu.visible, "CUDA_DEVICE_ORDER": "PCI_BUS_ID"}


def _indices_are_pci(gpus: Sequence[GpuSample], vendor: str, environ: Mapping[str, str]) -> bool:
    """Whether a number in the mask is an index in PCI order: CUDA's own default puts the fastest first."""
    if vendor == "amd" or environ.get("CUDA_DEVICE_ORDER") == "PCI_BUS_ID":
        return True
    return len({gpu.name for gpu in gpus}) <= 1


def _find(word: str, gpus: Sequence[GpuSample]) -> GpuSample | None:
    if word.isdigit():
        return next((gpu for gpu in gpus if gpu.index == int(word) and gpu.parent_uuid is None), None)
    if len(word) < _MIN_PREFIX:
        return None
    matches = [gpu for gpu in gpus if gpu.uuid.startswith(word)]
    return matches[0] if len(matches) == 1 else None
