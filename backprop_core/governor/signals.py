"""Signals to the governor, turned into entries that its loop reads between two waits."""

from __future__ import annotations

import os
import signal
import socket
from collections import deque
from collections.abc import Iterable
from contextlib import suppress
from types import FrameType, TracebackType
from typing import Any, Self

STOP_SIGNALS = frozenset({signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGHUP})
"""Those that always ask to end."""
WARNINGS = frozenset({signal.SIGUSR1, signal.SIGUSR2, signal.SIGXCPU})
"""Those by which schedulers warn that a job is about to end, unless the user says otherwise."""
_FROM_OUTSIDE = ("SIGTERM", "SIGHUP", "SIGQUIT", "SIGUSR1", "SIGUSR2", "SIGXCPU")
_HEARD = (*_FROM_OUTSIDE, "SIGINT", "SIGTSTP", "SIGCONT", "SIGWINCH", "SIGCHLD")


def warning_signals(names: str) -> frozenset[signal.Signals]:
    """The signals in a checked `warning-signals` option, such as `USR1,XCPU` or `none`."""
    if names == "none":
        return frozenset()
    return frozenset(signal.Signals[f"SIG{name}"] for name in names.split(","))


class SignalInbox:
    """Collects signals while the context lasts; `fd` becomes readable when one has come.

    An ignored SIGHUP stays ignored: that is what nohup asked for.

    Args:
        warnings: signals that ask to end, beside `STOP_SIGNALS`.
        keys: also hear Ctrl-C, Ctrl-Z and what else a terminal sends.
    """

    def __init__(self, warnings: frozenset[signal.Signals] = WARNINGS, *, keys: bool = True) -> None:
        self.asks_to_end = STOP_SIGNALS | warnings
        self._names = _HEARD if keys else _FROM_OUTSIDE
        self._arrived: deque[signal.Signals] = deque()
        self._before: dict[signal.Signals, Any] = {}
        self._read, self._write = socket.socketpair()
        self._old_wakeup = -1

    @property
    def fd(self) -> int:
        return self._read.fileno()

    def __enter__(self) -> Self:
        for end in (self._read, self._write):
            end.setblocking(False)
        self._old_wakeup = signal.set_wakeup_fd(self._write.fileno(), warn_on_full_buffer=False)
        for name in self._names:
            number = signal.Signals[name]
            if number is signal.SIGHUP and signal.getsignal(number) is signal.SIG_IGN:
                continue
            self._before[number] = signal.signal(number, self._hear)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        signal.set_wakeup_fd(self._old_wakeup)
        for number, handler in self._before.items():
            signal.signal(number, handler if handler is not None else signal.SIG_DFL)
        self._read.close()
        self._write.close()

    def drain(self) -> None:
        """`fd` is readable: empty it."""
        with suppress(BlockingIOError):
            while self._read.recv(256):
                pass

    def take(self) -> list[signal.Signals]:
        """The signals that came since the last call, in order."""
        taken = []
        while self._arrived:
            taken.append(self._arrived.popleft())
        return taken

    def arrived_before(self, numbers: Iterable[signal.Signals]) -> None:
        """Signals that another inbox heard before this one was open; they count as if they came now."""
        self._arrived.extendleft(reversed([*numbers]))

    def told_to_leave(self) -> bool:
        """Whether one has come that asks to end; takes all of them."""
        return bool(self.asks_to_end.intersection(self.take()))

    def stop_oneself(self) -> None:
        """Do what Ctrl-Z does to a program that does not listen; returns when it is continued."""
        signal.signal(signal.SIGTSTP, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGTSTP)
        signal.signal(signal.SIGTSTP, self._hear)

    def _hear(self, number: int, frame: FrameType | None) -> None:
        self._arrived.append(signal.Signals(number))
