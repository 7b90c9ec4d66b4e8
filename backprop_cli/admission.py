"""Waiting for the right to start, told to the user, and what the run is given with it."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from backprop_core.clock import Clock
from backprop_core.config.sources import Settings
from backprop_core.deadline.budget import duration_text
from backprop_core.governor.monitor import Monitor
from backprop_core.governor.order import Observer
from backprop_core.governor.signals import STOP_SIGNALS, warning_signals
from backprop_core.quick_dataclass import dataclass
from backprop_core.resources.admission import Admission, Waiting, enter
from backprop_core.resources.gpu_limit import unheld
from backprop_core.resources.policy import GPU_MEMORY, Limits
from backprop_core.resources.probes import make_sampler
from backprop_core.resources.sampler import Sampler
from backprop_core.resources.samples import GpuSample
from backprop_core.resources.slots import QueuePlace, Slots
from backprop_core.runs.record import RunRecord

SAY_AGAIN_S = 30.0


@dataclass(frozen=True, slots=True)
class Grant:
    """What a run that may start has been given: its place, its view of the GPUs, and who watches."""

    place: QueuePlace
    environ: Mapping[str, str]
    waited_s: float
    gpus: tuple[GpuSample, ...]
    _sampler: Sampler
    _limits: Limits

    def monitor(self, path: Path, clock: Clock) -> Monitor:
        """A watch over the run that writes to `path`."""
        return Monitor(self._sampler, self._limits, [gpu.uuid for gpu in self.gpus], path, clock)


def limits_of(settings: Settings, gpu_name: str | None = None) -> Limits:
    """The limits that the settings name. A run without a framework is not given a GPU."""
    return Limits.of(settings.plain(), gpu_name=gpu_name, use_gpu=settings["framework"] != "none")


@contextmanager
def admitted(
    settings: Settings, record: RunRecord, clock: Clock, observer: Observer, wait_s: float
) -> Iterator[Grant]:
    """The right to start, as long as the context lasts; on a GPU of the kind that the run began on, where one will do.

    Args:
        wait_s: seconds to wait for it at most; 0 refuses at once.

    Raises:
        NotAdmittedError: resources did not come free, or waiting was not wanted.
    """
    sampler = make_sampler(settings["gpu-probe"], clock)
    limits = limits_of(settings, record.gpu)
    try:
        with _told_to_leave(settings) as leave:
            admission = enter(
                Slots(clock),
                sampler,
                limits,
                run_id=record.id,
                clock=clock,
                wait_s=wait_s,
                environ=os.environ,
                tell=WaitMessages(observer, wait_s),
                stop=leave.is_set,
            )
        with admission.place:
            yield _grant(admission, sampler, limits, observer)
    finally:
        sampler.close()


@contextmanager
def _told_to_leave(settings: Settings) -> Iterator[threading.Event]:
    """Set when a scheduler or a closing terminal ends the wait, so that the place in the queue is given up in order."""
    told = threading.Event()
    asks = (STOP_SIGNALS - {signal.SIGINT}) | warning_signals(settings["warning-signals"])
    before = {number: signal.getsignal(number) for number in asks}
    for number, handler in before.items():
        if handler is not signal.SIG_IGN:
            signal.signal(number, lambda *_: told.set())
    try:
        yield told
    finally:
        for number, handler in before.items():
            signal.signal(number, handler if handler is not None else signal.SIG_DFL)


def _grant(admission: Admission, sampler: Sampler, limits: Limits, observer: Observer) -> Grant:
    verdict = admission.verdict
    if admission.waited_s >= 1.0:
        observer.say(f"starting after {duration_text(admission.waited_s)} of waiting.")
    for note in verdict.notes:
        observer.say(note)
    if verdict.gpus:
        named = ", ".join(f"GPU {gpu.index if gpu.index is not None else gpu.uuid}" for gpu in verdict.gpus)
        observer.say(f"runs on {named}.")
    others = [gpu.name for gpu in verdict.gpus if gpu.name and gpu.name != limits.gpu_name]
    if limits.gpu_name is not None and others:
        observer.say(
            f"this run started on {limits.gpu_name}, but now there is only {others[0]}: results may not be bit-identical."
        )
    missing = unheld(limits.gpu_memory, verdict.gpus)
    if missing and any(check.name == GPU_MEMORY for check in verdict.checks):  # else there is no GPU
        observer.say(missing)
    return Grant(admission.place, verdict.environ or {}, admission.waited_s, verdict.gpus, sampler, limits)


class WaitMessages:
    """Says what a run waits for: at first, when it changes, and again every half a minute."""

    def __init__(self, observer: Observer, wait_s: float) -> None:
        self._observer = observer
        self._wait_s = wait_s
        self._kind: object = None
        self._said_at_s = 0.0

    def __call__(self, waiting: Waiting) -> None:
        kind = waiting.ahead if waiting.verdict is None else [check.name for check in waiting.verdict.failed]
        if kind == self._kind and waiting.for_s - self._said_at_s < SAY_AGAIN_S:
            return
        self._kind, self._said_at_s = kind, waiting.for_s
        self._observer.say(
            f"waiting since {duration_text(waiting.for_s)} (at most {duration_text(self._wait_s)}): "
            f"{waiting.sentence}."
        )
