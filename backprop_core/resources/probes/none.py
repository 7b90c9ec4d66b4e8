"""No GPUs: for `--gpu-probe none`, and where nothing on the machine could know of any."""

from __future__ import annotations

from backprop_core.resources.samples import GpuReading


class NoGpus:
    """Says that there are none."""

    name = "none"

    def read(self) -> GpuReading:
        return GpuReading((), self.name)

    def memory_by_pid(self) -> dict[str, dict[int, int]] | None:
        return {}

    def close(self) -> None:
        pass
