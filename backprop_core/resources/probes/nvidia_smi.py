"""`nvidia-smi` as CSV: for machines where only the tool is there. It may take over a second."""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence

from backprop_core.resources.probes.numbers import consistent, percent, power, size, temperature
from backprop_core.resources.probes.tool import TIMEOUT_S, Answer, ask
from backprop_core.resources.samples import GpuReading, GpuSample

_FIELDS = (
    "index",
    "uuid",
    "name",
    "memory.total",
    "memory.used",
    "memory.free",
    "temperature.gpu",
    "utilization.gpu",
    "power.draw",
)
_NAME = _FIELDS.index("name")
_BROKEN = re.compile(r"requires reset|is lost|fallen off the bus", re.IGNORECASE)
"""What stands in place of numbers where a GPU cannot be used until somebody has seen to it."""
_MIG = "mig.mode.current"  # not known to drivers before 450
_MIG_LINE = re.compile(r"\s+MIG .*\(UUID: (MIG-[^)\s]+)\)")
_GPU_LINE = re.compile(r"GPU \d+: .*\(UUID: (GPU-[^)\s]+)\)")


class NvidiaSmi:
    """Asks `nvidia-smi`."""

    name = "nvidia-smi"

    def __init__(self, *, timeout_s: float = TIMEOUT_S) -> None:
        self._timeout_s = timeout_s

    def read(self) -> GpuReading:
        fields = [*_FIELDS, _MIG]
        answer = self._query(fields)
        if "not a valid field" in answer.trouble:
            fields = [*_FIELDS]
            answer = self._query(fields)
        if answer.trouble:
            if "No devices were found" in answer.trouble:
                return GpuReading((), self.name)
            return GpuReading(None, self.name, (answer.trouble,))
        if "No devices were found" in answer.text:
            return GpuReading((), self.name)
        rows = [_with_whole_name(row, len(fields)) for row in _rows(answer.text)]
        found = [gpu for gpu in map(_gpu, rows) if gpu is not None]
        if not found:
            return GpuReading(None, self.name, ("nvidia-smi printed something other than a table of GPUs.",))
        cut_up = {row[1] for row in rows if len(row) > len(_FIELDS) and row[-1] == "Enabled"}
        if cut_up:
            found = self._with_instances(found, cut_up)
        notes = () if len(found) >= len(rows) else ("nvidia-smi printed lines that name no GPU.",)
        return GpuReading(tuple(found), self.name, notes)

    def memory_by_pid(self) -> dict[str, dict[int, int]] | None:
        argv = [
            "nvidia-smi",
            "--query-compute-apps=gpu_uuid,pid,used_memory",
            "--format=csv,noheader,nounits",
        ]
        answer = ask(argv, timeout_s=self._timeout_s)
        if answer.trouble and "printed nothing" not in answer.trouble:
            return None
        used: dict[str, dict[int, int]] = {}
        for row in _rows(answer.text):
            taken = size(row[2]) if len(row) == 3 and row[1].isdigit() else None
            if taken is not None:
                of_gpu = used.setdefault(row[0], {})
                of_gpu[int(row[1])] = of_gpu.get(int(row[1]), 0) + taken
        return used

    def close(self) -> None:
        pass

    def _query(self, fields: Sequence[str]) -> Answer:
        argv = ["nvidia-smi", f"--query-gpu={','.join(fields)}", "--format=csv,noheader,nounits"]
        return ask(argv, timeout_s=self._timeout_s)

    def _with_instances(self, gpus: Sequence[GpuSample], cut_up: set[str]) -> list[GpuSample]:
        """`gpus`, those that are cut up replaced by their MIG instances, whose memory the tool does not
        tell.
        """
        parts: dict[str, list[str]] = {}
        current = ""
        for line in ask(["nvidia-smi", "-L"], timeout_s=self._timeout_s).text.splitlines():
            if card := _GPU_LINE.match(line):
                current = card[1]
            elif part := _MIG_LINE.match(line):
                parts.setdefault(current, []).append(part[1])
        found = []
        for gpu in gpus:
            if gpu.uuid not in cut_up:
                found.append(gpu)
            found += [_instance(gpu, uuid) for uuid in parts.get(gpu.uuid, []) if gpu.uuid in cut_up]
        return found


def _instance(gpu: GpuSample, uuid: str) -> GpuSample:
    return GpuSample(
        uuid=uuid,
        visible=uuid,
        vendor="nvidia",
        index=gpu.index,
        name=gpu.name,
        temperature_c=gpu.temperature_c,
        parent_uuid=gpu.uuid,
    )


def _rows(text: str) -> list[list[str]]:
    try:
        return [[cell.strip() for cell in row] for row in csv.reader(text.splitlines()) if row]
    except csv.Error:
        return []


def _with_whole_name(row: list[str], width: int) -> list[str]:
    """A row of `width` cells: the tool quotes nothing, so a comma in a name makes several cells of it."""
    surplus = len(row) - width
    if surplus <= 0:
        return row
    end = _NAME + surplus + 1
    return [*row[:_NAME], ", ".join(row[_NAME:end]), *row[end:]]


def _gpu(row: Sequence[str]) -> GpuSample | None:
    if len(row) < len(_FIELDS) or not row[0].isdigit() or not row[1].startswith("GPU-"):
        return None
    total, used, free = consistent(size(row[3]), size(row[4]), size(row[5]))
    return GpuSample(
        uuid=row[1],
        visible=row[1],
        vendor="nvidia",
        index=int(row[0]),
        name=row[2] if row[2] and not row[2].startswith("[") else None,
        memory_total_bytes=total,
        memory_used_bytes=used,
        memory_free_bytes=free,
        temperature_c=temperature(row[6]),
        utilization_percent=percent(row[7]),
        power_w=power(row[8]),
        trouble=next((cell.strip("[]") for cell in row[3:] if _BROKEN.search(cell)), ""),
        shares_host_memory=row[3] in ("[N/A]", "[Not Supported]", "N/A", "Not Supported"),
    )
