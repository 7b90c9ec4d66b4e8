"""The processes of one training, as a framework lets them talk."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from backprop_core.outcome import Outcome
from backprop_core.quick_dataclass import dataclass


@dataclass(frozen=True, slots=True)
class LastWord:
    """What the first rank says when it lets the others go.

    Attributes:
        leave: all leave the loop.
        boundaries: to the next talk.
        outcome: what the training is called that is left.
        remaining_s: seconds to the deadline, pauses and extensions included, on no clock in particular.
    """

    leave: bool
    boundaries: int
    outcome: Outcome
    remaining_s: float = 0.0


class Ranks(Protocol):
    """The processes of one training, and how they talk; all come to the same boundaries.

    Whatever waits for another one raises LostRankError where that one is gone, and LateRankError where it is waited for no
    longer.

    Attributes:
        asked: how often the first rank has asked the others for their states; known to the first alone.
        copies: what the first rank asks for is to be copied into memory that outlives its process, and is no save.
        sealed_by_all: after `hear`, the newest such copy that all have whole; 0: none is, -1: one of them cannot make any.
        settled: after `hear`, the word with which the first rank has let all go on in it; None: the others wait for another.
    """

    count: int
    rank: int
    asked: int
    copies: bool
    sealed_by_all: int
    settled: LastWord | None

    def wait_while(self, goes_on: Callable[[], bool]) -> None:
        """From now on this process waits for others as long as `goes_on` says so, when it is asked four times a second."""
        ...

    def withdraw(self, why: str) -> None:
        """This process takes no further part, and waits for nobody: the others hear so when they next wait for it."""
        ...

    def share(self, opening: Any) -> Any:
        """What the first rank gives, on every rank."""
        ...

    def hear(self, number: int, sealed: int = -1, word: LastWord | None = None) -> int:
        """The highest signal number that any rank has received, or 0. Each tells, too, which copy it has `sealed` last.

        Args:
            word: the first rank's, with which all go on if nobody has received a signal; see `settled`.
        """
        ...

    def agree(self, why_not: str) -> str:
        """Each says why it cannot go on, or nothing; the first such sentence on every rank, or nothing."""
        ...

    def ask_for_states(self) -> None:
        """The first rank is about to save: the others take part."""
        ...

    def post(self, key: str, text: str) -> None:
        """Leave word for another rank, from any thread, without waiting for it."""
        ...

    def posted(self, key: str) -> str | None:
        """What was left under `key`; None while there is nothing. From any thread."""
        ...

    def gather(self, own: Any) -> list[Any]:
        """What every rank gave, in the order of ranks, on the first."""
        ...

    def release(self, word: LastWord) -> None:
        """The first rank lets the others go on, or leave."""
        ...

    def step_aside(self, why: str) -> None:
        """The first rank cannot go on in the box: the others step aside as well."""
        ...

    def follow(self, give: Callable[[], Any], copy: Callable[[], Any] | None = None) -> LastWord:
        """The others do what the first rank says until it lets go, and with which word.

        Args:
            give: gives this rank's part of a save; `copy` its part of a copy in memory.

        Raises:
            RankError: it steps aside.
        """
        ...

    def boundaries_to_next_talk(self, session: Any, talk_s: float) -> int:
        """How many boundaries may pass without a word."""
        ...
