"""Signals to the governor, turned into entries that its loop reads between two waits."""

from __future__ import annotations

import os
import signal
import socket
from collections import deque
from contextlib import suppress
from types import FrameType, TracebackType
from typing import Any, Self

STOP_SIGNALS = frozenset({signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGHUP})
"""Those that ask to end."""
_HEARD = ("SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT", "SIGTSTP", "SIGCONT", "SIGWINCH", "SIGCHLD")


class SignalInbox:
    """Collects signals while the context lasts; `fd` becomes readable when one has come.

    An ignored SIGHUP stays ignored: that is what nohup asked for.
    """

    def __init__(self) -> None:
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
        for name in _HEARD:
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

    def told_to_leave(self) -> bool:
        """Whether one has come that asks to end; takes all of them."""
        return bool(STOP_SIGNALS.intersection(self.take()))

    def stop_oneself(self) -> None:
        """Do what Ctrl-Z does to a program that does not listen; returns when it is continued."""
        signal.signal(signal.SIGTSTP, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGTSTP)
        signal.signal(signal.SIGTSTP, self._hear)

    def _hear(self, number: int, frame: FrameType | None) -> None:
        self._arrived.append(signal.Signals(number))
