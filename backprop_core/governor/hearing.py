"""What a governor hears of its script: what it prints, and what the session in it says."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from backprop_core import contract
from backprop_core.governor.observed import SessionView
from backprop_core.governor.order import Observer, Order
from backprop_core.governor.stdout_messages import Heard, Listener
from backprop_core.runs.attempt import EVENTS_FILE
from backprop_core.runs.events import EventTail

_TAIL_BYTES = 65_536
"""Of what the script printed, looked at for the reason of its failure."""


class Hearing:
    """Listens to one script.

    Args:
        announce: called with the path of each checkpoint that the session or the script announces.

    Attributes:
        session: what the session has said.
    """

    def __init__(self, order: Order, observer: Observer, announce: Callable[[str], None]) -> None:
        self.session = SessionView()
        self.announce = announce
        self._observer = observer
        self._from_training = contract.BUDGET_FROM_TRAINING in order.env
        self._events = EventTail((order.session_dir or order.attempt_dir) / EVENTS_FILE)
        self._listener = Listener(Path(order.cwd))
        self._tail = bytearray()

    @property
    def heard(self) -> Heard:
        """What the script has said on stdout so far."""
        return self._listener.heard

    @property
    def tail(self) -> bytes:
        """The last of what it has printed."""
        return bytes(self._tail)

    def trains(self) -> bool:
        """Whether it has made steps."""
        return self.session.progress is not None or self.heard.step is not None

    def starts_up(self) -> bool:
        """Whether its box counts from the first step, and that has not come: nobody knows yet when the box ends."""
        told = self.session.trains_since is not None or self.heard.step is not None
        return self._from_training and not told

    def read_events(self) -> None:
        """Take in what the session has written since the last time."""
        known = len(self.session.checkpoints)
        for event in self._events.poll():
            self.session.take(event)
            self._observer.event(event)
        for path in self.session.checkpoints[known:]:
            self.announce(path)

    def keep(self, data: bytes) -> None:
        """The script has printed `data`, on whatever stream."""
        self._tail += data
        if len(self._tail) > 2 * _TAIL_BYTES:
            del self._tail[:-_TAIL_BYTES]

    def listen(self, data: bytes) -> None:
        """It has printed `data` on the stream that is listened to."""
        self.keep(data)
        for path in self._listener.feed(data):
            self.announce(path)
