"""The machine and the script's memory, once a second: written into the run's folder, and judged."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from backprop_core.clock import Clock
from backprop_core.events.kinds import (
    ContinueDecided,
    Event,
    PauseDecided,
    PrintedProgress,
    Sampled,
    StopDecided,
)
from backprop_core.governor import kernel
from backprop_core.resources.policy import Limits
from backprop_core.resources.running import Course, Judgement, RunningState, judge, over_gpu_limit
from backprop_core.resources.sampler import Sampler
from backprop_core.resources.samples import GpuSample, Sample
from backprop_core.runs.events import EventLog

EVERY_S = 1.0
FAMILY_EVERY = 5
"""Samples between two looks for new processes of the script: reading the process table is the dear part."""
GPU_MEMORY_EVERY = 10
DECIDED: Mapping[Course, Callable[[str], Event]] = {
    Course.PAUSE: PauseDecided,
    Course.CONTINUE: ContinueDecided,
    Course.STOP: StopDecided,
}
"""The event of each course that is taken."""
_NOTHING = Judgement(Course.GO_ON, "", RunningState())


class Monitor:
    """Samples into `governor.jsonl` and says what is to be done about the run.

    Args:
        sampler: the probes.
        limits: what must hold.
        gpu_uuids: the devices that the run was given; () watches all.
        path: governor.jsonl.
    """

    def __init__(
        self, sampler: Sampler, limits: Limits, gpu_uuids: Sequence[str], path: Path, clock: Clock
    ) -> None:
        self.peak_bytes = 0
        self.peak_gpu_bytes = 0
        self.last_bytes = 0
        self.latest: Sample | None = None
        self.log = EventLog(path, clock)
        self._sampler = sampler
        self._limits = limits
        self._uuids = gpu_uuids
        self._clock = clock
        self._state = RunningState()
        self._next_at = 0.0
        self._count = 0
        self._heard: tuple[int | None, float | None] = (None, None)
        self._pids: Collection[int] = ()
        self._complained: set[str] = set()
        self._asking: threading.Thread | None = None
        self._gpu_memory: dict[str, dict[int, int]] = {}
        self._children_bytes = kernel.largest_child_bytes()

    def due(self, now: float) -> bool:
        """Whether a second has passed since the last sample."""
        return now >= self._next_at

    def wants_family(self) -> bool:
        """Whether the next sample needs to know the script's processes anew."""
        return self._count % FAMILY_EVERY == 0

    def sample(self, now: float, family: Collection[int] | None, save_s: float) -> Judgement:
        """Look once.

        Args:
            now: the instant, monotonic.
            family: pids of the script and its children, or None for those of the time before.
            save_s: seconds that a checkpoint takes.
        """
        self._next_at = now + EVERY_S
        self._count += 1
        self._pids = self._pids if family is None else family
        self.last_bytes = sum(resident_bytes(pid) for pid in self._pids)
        self.peak_bytes = max(self.peak_bytes, self.last_bytes)
        sample = self._sampler.latest(every_s=EVERY_S)
        if sample is None:
            return _NOTHING
        self.latest = sample
        self.log.write(_sampled(sample, self.last_bytes, len(self._pids), self._uuids))
        judgement = judge(self._state, self._limits, sample, gpu_uuids=self._uuids, save_s=save_s)
        self._state = judgement.state
        return judgement

    def heard(self, step: int | None, loss: float | None) -> None:
        """Note what a script without a session has said of itself, once for each new word: its curve is drawn from this."""
        if (step, loss) != self._heard and (step is not None or loss is not None):
            self._heard = (step, loss)
            self.log.write(PrintedProgress(step=step, loss=loss))

    def own_gpus(self) -> tuple[GpuSample, ...]:
        """The GPUs that the run was given, as they were last seen."""
        gpus = () if self.latest is None else self.latest.gpus
        return tuple(gpu for gpu in gpus if gpu.uuid in self._uuids)

    def complaint(self) -> str | None:
        """A sentence, once, when the run takes more GPU memory than -g allows it."""
        if self._limits.gpu_memory is None or self.latest is None or self._count % GPU_MEMORY_EVERY:
            return None
        self._ask_gpu_memory()
        for gpu in self.latest.gpus:
            own = sum(self._gpu_memory.get(gpu.uuid, {}).get(pid, 0) for pid in self._pids)
            self.peak_gpu_bytes = max(self.peak_gpu_bytes, own)
            text = over_gpu_limit(self._limits, gpu, own)
            if text and gpu.uuid not in self._complained:
                self._complained.add(gpu.uuid)
                return text
        return None

    def _ask_gpu_memory(self) -> None:
        """Ask who uses how much, on a thread: `nvidia-smi` may take seconds, and a deadline does not wait."""
        if self._asking is not None and self._asking.is_alive():
            return

        def ask() -> None:
            self._gpu_memory = self._sampler.gpu_probe.memory_by_pid() or {}

        self._asking = threading.Thread(target=ask, name="backprop-gpu-memory", daemon=True)
        self._asking.start()

    def ended(self) -> None:
        """The script is gone: what its largest process had between two samples counts, too."""
        most = kernel.largest_child_bytes()
        if most > self._children_bytes:  # else it is an earlier attempt's
            self.peak_bytes, self.last_bytes = max(self.peak_bytes, most), max(self.last_bytes, most)

    def close(self) -> None:
        """End the sampling."""
        self.log.close()


def resident_bytes(pid: int) -> int:
    """Memory that a process has resident, shared pages included; 0 if it is gone."""
    if kernel.LINUX:
        try:
            with open(f"/proc/{pid}/statm", "rb") as file:  # noqa: PTH123 - many a second
                return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
        except (OSError, IndexError, ValueError):
            return 0
    import psutil

    try:
        return int(psutil.Process(pid).memory_info().rss)
    except psutil.Error:
        return 0


def _sampled(sample: Sample, rss_bytes: int, processes: int, own_uuids: Collection[str]) -> Sampled:
    host = sample.host
    return Sampled(
        rss_bytes=rss_bytes,
        processes=processes,
        memory_free_bytes=host.memory_free_bytes,
        load_1m=host.load_1m,
        cpu_energy_j=host.cpu_energy_j,
        gpus=tuple(_gpu_facts(gpu, gpu.uuid in own_uuids) for gpu in sample.gpus) or None,
    )


def _gpu_facts(gpu: GpuSample, own: bool) -> dict[str, Any]:
    return {
        "uuid": gpu.uuid,
        "own": own,
        "temperature_c": gpu.temperature_c,
        "memory_used_bytes": gpu.memory_used_bytes,
        "utilization_percent": gpu.utilization_percent,
        "power_w": gpu.power_w,
    }
