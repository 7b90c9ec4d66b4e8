"""Whether a run may go on: too hot pauses it, memory that runs out ends it with a checkpoint. Pure, like
`policy`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from enum import StrEnum

from backprop_core.quick_dataclass import dataclass
from backprop_core.resources.policy import Limits
from backprop_core.resources.samples import GIB, MIB, GpuSample, Sample

COOLER_BY_C = 5.0
MIN_PAUSE_S = 10.0
BLIND_PAUSE_S = 60.0
_FLOOR_BYTES = 256 * MIB
_FLOOR_SHARE = 0.03
_SMALL_PART = 8
_LOW_SAMPLES = 2
_HEADROOM = 4.0  # below this many floors the speed at which memory vanishes is looked at
_OVER_SHARE = 1.05


class Course(StrEnum):
    """What is to be done about a run now."""

    GO_ON = "go on"
    PAUSE = "pause"
    CONTINUE = "continue"
    STOP = "stop"


@dataclass(frozen=True, slots=True)
class RunningState:
    """What `judge` has to remember between samples.

    Attributes:
        paused_at_s: when this policy paused the run, monotonic; None while it runs.
        seen_heat_at_s: when a temperature was last known during the pause.
        low: samples in a row with memory below the floor.
        last_free_bytes, last_at_s: the sample before.
    """

    paused_at_s: float | None = None
    seen_heat_at_s: float = 0.0
    low: int = 0
    last_free_bytes: int | None = None
    last_at_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Judgement:
    """What to do, why (one plain sentence, empty for GO_ON), and what to remember."""

    course: Course
    reason: str
    state: RunningState


def judge(
    state: RunningState,
    limits: Limits,
    sample: Sample,
    *,
    gpu_uuids: Sequence[str] = (),
    save_s: float = 10.0,
) -> Judgement:
    """The course for a run on the devices `gpu_uuids` (all of them, where none are named).

    Args:
        save_s: seconds that a checkpoint and the exit take; memory must last that long.

    A sample older than the one before changes nothing. Memory goes before heat: a paused run can still be
    the victim of the kernel.
    """
    if sample.monotonic_s <= state.last_at_s:
        return Judgement(Course.GO_ON, "", state)
    memory = _memory(state, sample, save_s)
    if memory.course is Course.STOP:
        return memory
    return _heat(memory.state, limits, sample, _watched(sample, gpu_uuids))


def over_gpu_limit(limits: Limits, gpu: GpuSample, used_bytes: int | None) -> str | None:
    """A sentence if a run's own GPU memory is more than 5% over what it was allowed, else None."""
    allowance = gpu_allowance_bytes(limits.gpu_memory, gpu.memory_total_bytes)
    if allowance is None or used_bytes is None or used_bytes <= allowance * _OVER_SHARE:
        return None
    return f"The run uses {used_bytes / GIB:.2f} GB of GPU memory; the limit is {allowance / GIB:.2f} GB."


def gpu_allowance_bytes(limit: str | None, total_bytes: int | None) -> int | None:
    """`"80%"` of `total_bytes`, or `"8"` GB; None without a limit or where the total is not known."""
    if limit is None:
        return None
    if not limit.endswith("%"):
        return round(float(limit) * GIB)
    return None if total_bytes is None else round(total_bytes * float(limit[:-1]) / 100)


def memory_floor_bytes(total_bytes: int | None) -> int:
    """Free memory below which a run is asked to save and end: 256 MB, or 3% of all where that is more, at
    most 2 GB, and in a small container no more than an eighth of it.
    """
    floor = min(2 * GIB, max(_FLOOR_BYTES, round((total_bytes or 0) * _FLOOR_SHARE)))
    return floor if total_bytes is None else min(floor, total_bytes // _SMALL_PART)


def _memory(state: RunningState, sample: Sample, save_s: float) -> Judgement:
    free, now = sample.host.memory_free_bytes, sample.monotonic_s
    if free is None:
        return Judgement(Course.GO_ON, "", replace(state, low=0, last_free_bytes=None, last_at_s=now))
    floor = memory_floor_bytes(sample.host.memory_total_bytes)
    low = state.low + 1 if free < floor else 0
    after = replace(state, low=low, last_free_bytes=free, last_at_s=now)
    left = f"{free / GIB:.2f} GB is left"
    if sample.host.memory_bound:
        left += f" ({sample.host.memory_bound})"
    if low >= _LOW_SAMPLES or free < floor / 2:
        return Judgement(Course.STOP, f"Memory is running out: {left}.", after)
    if state.last_free_bytes is not None and free < floor * _HEADROOM:
        speed = (state.last_free_bytes - free) / (now - state.last_at_s)
        if speed > 0 and free / speed < save_s:
            lasts = f"and at this rate it lasts {free / speed:.0f} s"
            return Judgement(Course.STOP, f"Memory is running out: {left}, {lasts}.", after)
    return Judgement(Course.GO_ON, "", after)


def _heat(state: RunningState, limits: Limits, sample: Sample, gpus: Sequence[GpuSample]) -> Judgement:
    now = sample.monotonic_s
    known = [gpu for gpu in gpus if gpu.temperature_c is not None]
    hottest = max(known, key=lambda gpu: gpu.temperature_c or 0.0, default=None)
    heat = None if hottest is None else hottest.temperature_c
    if state.paused_at_s is None:
        if heat is None or heat <= limits.max_gpu_temp_c:
            return Judgement(Course.GO_ON, "", state)
        reason = f"The GPU is too hot: {heat:g} °C, the limit is {limits.max_gpu_temp_c:g} °C."
        return Judgement(Course.PAUSE, reason, replace(state, paused_at_s=now, seen_heat_at_s=now))
    paused_s = now - state.paused_at_s
    if heat is None:
        if now - state.seen_heat_at_s < BLIND_PAUSE_S:
            return Judgement(Course.GO_ON, "", state)
        reason = f"The temperature has been unknown for {BLIND_PAUSE_S:g} s: continuing."
        return Judgement(Course.CONTINUE, reason, replace(state, paused_at_s=None))
    if paused_s >= MIN_PAUSE_S and heat <= limits.max_gpu_temp_c - COOLER_BY_C:
        reason = f"The GPU has cooled down to {heat:g} °C in {paused_s:.0f} s."
        return Judgement(Course.CONTINUE, reason, replace(state, paused_at_s=None))
    return Judgement(Course.GO_ON, "", replace(state, seen_heat_at_s=now))


def _watched(sample: Sample, uuids: Sequence[str]) -> Sequence[GpuSample]:
    return [gpu for gpu in sample.gpus if gpu.uuid in uuids] if uuids else sample.gpus
