"""A question that is asked again and again in a thread of its own, so that a slow answer holds nobody up."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

from backprop_core.background import in_background
from backprop_core.clock import Clock

T = TypeVar("T")


class AskedAgain(Generic[T]):
    """Asks until it is closed, or until there is nothing more to ask.

    Args:
        question: an answer, or None where there is none yet. It must not raise.
        every_s: seconds from one answer to the next question.
        name: of the thread.
        at_once: ask when the thread starts, and not only after the first wait.
    """

    def __init__(
        self,
        question: Callable[[], T | None],
        every_s: Callable[[], float],
        clock: Clock,
        name: str,
        *,
        at_once: bool = True,
    ) -> None:
        self._question = question
        self._every_s = every_s
        self._clock = clock
        self._over = threading.Event()
        self._lock = threading.Lock()
        self._answer: T | None = None
        in_background(self._ask, name, at_once)

    def take(self) -> T | None:
        """The newest answer that nobody has taken yet."""
        with self._lock:
            answer, self._answer = self._answer, None
        return answer

    def close(self) -> None:
        """Ask no more. A question that is being asked is not waited for."""
        self._over.set()

    def _ask(self, at_once: bool) -> None:
        if not at_once:
            self._clock.wait(self._over, self._every_s())
        while not self._over.is_set():
            answer = self._question()
            with self._lock:
                self._answer = self._answer if answer is None else answer
            self._clock.wait(self._over, self._every_s())
