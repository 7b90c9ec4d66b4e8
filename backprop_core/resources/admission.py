"""Waits for a slot and for resources, first come first served, or refuses; the one way in for `backprop
run`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace

from backprop_core.clock import Clock
from backprop_core.errors import BackpropError, LockTimeoutError
from backprop_core.quick_dataclass import dataclass
from backprop_core.resources.policy import Limits, StartVerdict, admit
from backprop_core.resources.running import gpu_allowance_bytes
from backprop_core.resources.sampler import Sampler
from backprop_core.resources.samples import GpuSample, Sample
from backprop_core.resources.slots import LOCK_TIMEOUT_S, WARM_UP_S, Queue, QueuePlace, Slots
from backprop_core.resources.tickets import Ticket

POLL_S = 0.25
SAMPLE_EVERY_S = 1.0
LEAST_LOCK_WAIT_S = 2.0


class NotAdmittedError(BackpropError):
    """Resources did not come free in time, or waiting was not wanted: exit status 75."""

    def __init__(self, what: str, hint: str, verdict: StartVerdict | None) -> None:
        super().__init__(what, hint)
        self.verdict = verdict


@dataclass(frozen=True, slots=True)
class Waiting:
    """What a waiting process can tell.

    Attributes:
        for_s: seconds since it came.
        ahead: how many came before it.
        verdict: what stands in the way; None while others are ahead.
    """

    for_s: float
    ahead: int
    verdict: StartVerdict | None

    @property
    def sentence(self) -> str:
        """What it waits for, without the time."""
        if self.verdict is None:
            return f"{self.ahead} {'run is' if self.ahead == 1 else 'runs are'} ahead in the queue"
        return self.verdict.sentence


@dataclass(frozen=True, slots=True)
class Admission:
    """The right to start: keep `place` until the run is over, and give `verdict.environ` to the script."""

    place: QueuePlace
    verdict: StartVerdict
    sample: Sample
    waited_s: float


def enter(
    slots: Slots,
    sampler: Sampler,
    limits: Limits,
    *,
    run_id: str,
    clock: Clock,
    wait_s: float,
    environ: Mapping[str, str] = os.environ,
    tell: Callable[[Waiting], None] = lambda waiting: None,
    stop: Callable[[], bool] = lambda: False,
) -> Admission:
    """Start as soon as the limits allow.

    Args:
        wait_s: seconds to wait at most; 0 refuses at once.
        environ: the environment the script will get, for its GPU mask.
        tell: called after every look, four times a second, while it waits.
        stop: True when the user has lost patience: the wait ends.

    Raises:
        NotAdmittedError: with every failed limit, its value and what was needed.
        StoreError: the runtime folder cannot be used.
    """
    began_s = clock.monotonic()
    with _queue_that_moves():
        place = slots.enter(run_id, min(LOCK_TIMEOUT_S, max(LEAST_LOCK_WAIT_S, wait_s)))
    try:
        while True:
            with _queue_that_moves():
                admission, waiting = _look(place, sampler, limits, clock, environ, began_s)
            if admission is not None:
                return admission
            if stop() or waiting.for_s >= wait_s:
                raise _refusal(waiting, stopped=wait_s > 0 and waiting.for_s < wait_s)
            tell(waiting)
            clock.sleep(min(POLL_S, max(0.0, wait_s - waiting.for_s)))
    except BaseException:
        place.release()
        raise


@contextmanager
def _queue_that_moves() -> Iterator[None]:
    """A process that holds the queue up is a resource that does not come free."""
    try:
        yield
    except LockTimeoutError as error:
        raise NotAdmittedError(
            f"Not started: the queue of runs is stuck. {error.what}", error.hint, None
        ) from error


def _look(
    place: QueuePlace,
    sampler: Sampler,
    limits: Limits,
    clock: Clock,
    environ: Mapping[str, str],
    began_s: float,
) -> tuple[Admission | None, Waiting]:
    ahead = len(place.step_up(lambda queue: None).ahead)
    if ahead:  # only the head of the queue needs to know how the machine is: asking GPUs can be dear
        return None, Waiting(clock.monotonic() - began_s, ahead, None)
    sample = _recent(sampler, clock)
    verdicts: list[StartVerdict] = []

    def decide(queue: Queue) -> Ticket | None:
        if queue.ahead:
            return None
        now_s = clock.monotonic()
        reservations = queue.reservations(now_s)
        verdict = admit(limits, sample, reservations, running=len(queue.holders), environ=environ)
        verdicts.append(verdict)
        return _promised(place.ticket, limits, verdict, now_s) if verdict.admitted else None

    queue = place.step_up(decide)
    waited_s = clock.monotonic() - began_s
    if place.running:
        return Admission(place, verdicts[0], sample, waited_s), Waiting(waited_s, 0, None)
    return None, Waiting(waited_s, len(queue.ahead), verdicts[0] if verdicts else None)


def _recent(sampler: Sampler, clock: Clock) -> Sample:
    """A sample of the last second: the last one before a slot was taken by somebody else would be a lie."""
    latest = sampler.latest(every_s=SAMPLE_EVERY_S)
    if latest is not None and clock.monotonic() - latest.monotonic_s < SAMPLE_EVERY_S:
        return latest
    return sampler.now()


def _promised(ticket: Ticket, limits: Limits, verdict: StartVerdict, now_s: float) -> Ticket:
    """The ticket with what the run is promised until it has warmed up: as much as it had to find free."""
    return replace(
        ticket,
        ram_bytes=limits.min_free_ram_bytes,
        vram_bytes=max((_vram_bytes(limits, gpu) for gpu in verdict.gpus), default=0),
        gpu_uuids=tuple(gpu.uuid for gpu in verdict.gpus),
        warm_until_s=now_s + WARM_UP_S,
    )


def _vram_bytes(limits: Limits, gpu: GpuSample) -> int:
    allowance = gpu_allowance_bytes(limits.gpu_memory, gpu.memory_total_bytes)
    return limits.min_free_vram_bytes if allowance is None else allowance


def _refusal(waiting: Waiting, *, stopped: bool) -> NotAdmittedError:
    how = "The wait was ended" if stopped else f"Not started after {waiting.for_s:.0f} s of waiting"
    if waiting.for_s < 1 and not stopped:
        how = "Not started"
    return NotAdmittedError(
        f"{how}: {waiting.sentence}.",
        "Free the resource, wait longer with --wait-minutes, or change the limit.",
        waiting.verdict,
    )
