"""Signals that mean "be gone soon", heard without doing anything in the handler.

Python runs signal handlers between bytecodes of the main thread, so a handler here notes the signal and wakes the next
boundary; it never saves. A forked loader worker inherits the handler: there it acts as if it had never been set.

A signal to a whole process group ends loader workers, too, and torch's handler for that raises in the middle of whatever
runs: a step would be torn. So once a signal has been heard, that error is let through only where a batch is waited for.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any

_ASKS_TO_LEAVE = ("SIGTERM", "SIGINT", "SIGUSR1")
_REQUEUING = ("submitit",)
"""Libraries whose handlers save, requeue the job and end the process wherever it is: their turn is behind our save."""
_SETS_ITS_OWN = ("pytorch_lightning", "lightning")
"""Libraries with a handler in every training, which calls those that were there before: the user need not hear of theirs."""
_LET_PASS = "bypass"
"""What submitit calls the handler of a signal that it ignores on purpose."""
_LOADERS = ("torch.utils.data.", "torchdata.")
"""Modules that wait for workers."""


class SignalWatch:
    """Listens between `start` and `stop`, then puts back what was there.

    Attributes:
        received: the first signal that asked to leave, or None.
        received_at: when it came, on the monotonic clock.
        notes: sentences about signals that are not listened to, and why.
        requeues: the signal belongs to a library that requeues the job once everything is saved.
        workers_died: loader workers have ended behind the signal, so there may be no next batch.
    """

    def __init__(self, monotonic: Callable[[], float], wake: Callable[[], None]) -> None:
        self._monotonic = monotonic
        self._wake = wake
        self._owner = os.getpid()
        self._before: dict[int, Any] = {}
        self._behind: dict[int, Any] = {}
        self.received: signal.Signals | None = None
        self.received_at = 0.0
        self.notes: list[str] = []
        self.workers_died = False

    def start(self) -> None:
        """Install the handlers; outside the main thread Python allows none, and that is noted."""
        if threading.current_thread() is not threading.main_thread():
            self.notes.append("The box runs outside the main thread, so it does not receive signals.")
            return
        self._take_over_requeuing()
        for name in _ASKS_TO_LEAVE:
            number = getattr(signal, name, None)
            if number is None:
                continue
            before = signal.getsignal(number)
            if before == self._heard or _library_of(before) in _REQUEUING:
                continue
            if before is None or (name == "SIGUSR1" and before is not signal.SIG_DFL):
                self.notes.append(f"{name} has a handler in the script, which stays.")
                continue
            if name == "SIGTERM" and _is_users(before):
                self.notes.append("Your own SIGTERM handler is inactive until the box ends.")
            if name == "SIGINT" and before is signal.SIG_IGN:
                continue
            self._before[number] = before
            signal.signal(number, self._heard)

    def _take_over_requeuing(self) -> None:
        """Listen in place of a handler that would save and end the process in the middle of a step."""
        for name in ("SIGUSR1", "SIGUSR2"):
            number = getattr(signal, name, None)
            before = None if number is None else signal.getsignal(number)
            library = _library_of(before)
            if number is None or library not in _REQUEUING or getattr(before, "__name__", "") == _LET_PASS:
                continue
            self._before[number] = self._behind[number] = before
            signal.signal(number, self._heard)
            self.notes.append(
                f"{name} is {library}'s: a checkpoint is saved first, then {library} requeues the job."
            )

    @property
    def requeues(self) -> bool:
        return self.received is not None and self.received in self._behind

    def pass_on(self) -> None:
        """Everything is saved: the signal goes to the handler that it was for, which may end the process."""
        behind = None if self.received is None else self._behind.pop(self.received, None)
        if behind is not None and os.getpid() == self._owner and self.received is not None:
            behind(int(self.received), None)

    def stop(self) -> None:
        """Put the former handlers back, unless somebody else has replaced ours meanwhile."""
        if os.getpid() != self._owner or threading.current_thread() is not threading.main_thread():
            return
        for number, before in self._before.items():
            if signal.getsignal(number) in (self._heard, self._child_ended):
                signal.signal(number, before)
        self._before.clear()

    def hear_of(self, number: int) -> None:
        """A signal that came to another process counts as if it had come here, now."""
        if self.received is None:
            self.received = signal.Signals(number)
            self.received_at = self._monotonic()

    def _heard(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() != self._owner:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
            return
        if number == signal.SIGINT and self.received is not None:
            signal.signal(number, signal.SIG_DFL)
            raise KeyboardInterrupt
        if self.received is None:
            self.received = signal.Signals(number)
            self.received_at = self._monotonic()
            self._spare_the_step()
        self._wake()

    def _spare_the_step(self) -> None:
        number = getattr(signal, "SIGCHLD", None)
        if number is not None and callable(before := signal.getsignal(number)):
            self._before[number] = before
            signal.signal(number, self._child_ended)

    def _child_ended(self, number: int, frame: FrameType | None) -> None:
        before = self._before.get(number)
        if os.getpid() != self._owner or before is None:
            return
        try:
            before(number, frame)
        except RuntimeError:
            if _waits_for_batch(frame):
                raise
            self.workers_died = True
            self._wake()


def _library_of(handler: Any) -> str:
    return str(getattr(handler, "__module__", None) or "").partition(".")[0]


def _is_users(handler: Any) -> bool:
    """Whether a handler is the script's, or calls one that is."""
    if _library_of(handler) in _SETS_ITS_OWN:
        return any(_is_users(one) for one in getattr(handler, "signal_handlers", ()))
    return callable(handler)


def _waits_for_batch(frame: FrameType | None) -> bool:
    while frame is not None:
        if str(frame.f_globals.get("__name__", "")).startswith(_LOADERS):
            return True
        frame = frame.f_back
    return False
