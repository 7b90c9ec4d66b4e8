"""What a session says: one line at a time on standard error for people, the same as events for programs."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Any

from backprop_core.events.kinds import Event, Message
from backprop_core.own_line import print_line
from backprop_core.runs.events import EventLog


class Messages:
    """Says things to the user and writes events; a rank other than the first is given `silent=True`.

    Lines that are said before the events file is there are kept and written as soon as it is.
    """

    def __init__(self, *, silent: bool = False) -> None:
        self.silent = silent
        self._events: EventLog | None = None
        self._said: set[str] = set()

    def attach(self, events: EventLog) -> None:
        self._events = events

    def say(self, text: str, level: str = "info") -> None:
        """One line for the user, also kept as an event."""
        if self.silent:
            return
        print_line(text)
        self.event(Message(text, level))

    def say_once(self, text: str, level: str = "info") -> None:
        """Like `say`, but the same line only once in a session."""
        if text not in self._said:
            self._said.add(text)
            self.say(text, level)

    def event(self, event: Event) -> None:
        """One event for programs."""
        if self._events is not None and not self.silent:
            self._events.write(event)


class LogValues:
    """What the script logged last. Zero-dimensional tensors are kept as they are and read only when they are shown.

    Reading a tensor of an accelerator waits for the device, so it happens at most once for each progress event.
    """

    def __init__(self) -> None:
        self._latest: dict[str, Any] = {}

    def update(self, values: Mapping[str, Any]) -> None:
        for key, value in values.items():
            detach = getattr(value, "detach", None)  # a logged loss must not keep its graph alive
            self._latest[key] = value if detach is None else detach()

    def numbers(self) -> dict[str, float | int | str]:
        """The latest values as plain numbers; what cannot be read as one is left out."""
        numbers: dict[str, float | int | str] = {}
        for key, value in self._latest.items():
            if isinstance(value, bool | int | float | str):
                numbers[key] = value
                continue
            with contextlib.suppress(TypeError, ValueError, RuntimeError):
                numbers[key] = float(value.item() if hasattr(value, "item") else value)
        return numbers
