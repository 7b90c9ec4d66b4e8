"""One process, or several that train together: what they tell each other, and when.

The first rank decides. All come to the same boundaries, and they talk only at those they have agreed on: a number of
batches ahead, and every one that a validation or the end of an epoch follows. There the ranks first hear of each other's
signals. In that same word the first may already have let the others go on, which holds where nobody has received a signal.
Else they wait for it; it may ask for their part of a checkpoint any number of times before it lets them go on, leave, or
train on without a box. A rank on which something of ours fails takes no further part and trains on:
a thread of it tells the others where they wait for it next. `rank_group.py` ends waits for ranks that are stopped or gone.
"""

from __future__ import annotations

import pickle
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Protocol

import torch
import torch.distributed as dist

from backprop_core.errors import UnsavableStateError
from backprop_core.outcome import Outcome
from backprop_core.ports.ranks import LastWord
from backprop_core.quick_dataclass import dataclass
from backprop_core.session.rank_talk import NOTICE
from backprop_core.session.ranks_error import RankError
from backprop_torch.agreement_interval import batches_to_next_talk
from backprop_torch.rank_board import Board
from backprop_torch.rank_group import RankGroup

_GIVE, _GO_ON, _LEAVE, _ASIDE, _COPY = 1, 2, 3, 4, 5
_OUTCOMES = tuple(Outcome)
_WORDS = 4
"""Numbers in a message: the word, boundaries, the outcome, milliseconds."""
_HEAR, _LEAST, _AGREE = 0, 1, 2
_LEAST_OF_ALL = -(1 << 62)


class TorchRanks(Protocol):
    """The processes of one training."""

    count: int
    rank: int

    def ask_for_states(self) -> None:
        """The first rank is about to save: the others take part."""
        ...

    def gather(self, own: Any) -> list[Any]:
        """What every rank gave, in the order of ranks."""
        ...

    def least(self, number: int) -> int:
        """The least of the numbers that the ranks give."""
        ...


class Alone:
    """One process."""

    count = 1
    rank = 0

    def ask_for_states(self) -> None: ...

    def gather(self, own: Any) -> list[Any]:
        return [own]

    def least(self, number: int) -> int:
        return number


class Together:
    """Several processes of one torch.distributed job. Every rank has to make one, at the same time.

    Raises:
        RankError: another one steps aside, or has not come; then none of them has made one.
    """

    _made = 0

    def __init__(self) -> None:
        Together._made += 1
        self.count = dist.get_world_size()
        self.rank = dist.get_rank()
        self._board = Board(Together._made)
        self._board.meet(self.rank, self.count)
        self._group = RankGroup()
        self.asked = 0
        self.copies = False
        self.sealed_by_all = -1
        self.settled: LastWord | None = None
        self._unheard = False  # the others give their parts, and nobody has gathered them yet
        self._apart = False  # all know that this rank takes no further part, or are about to hear it

    def wait_while(self, goes_on: Callable[[], bool]) -> None:
        """From now on this rank waits for others as long as `goes_on` says so, when it is asked."""
        if not self._apart:
            self._group.goes_on = goes_on

    # -- everybody ---------------------------------------------------------------------------------------------

    def share(self, opening: Any) -> Any:
        """What the first rank gives, on every rank."""
        return pickle.loads(self._group.first_gives(pickle.dumps(opening)))

    def hear(self, number: int, sealed: int = -1, word: LastWord | None = None) -> int:
        """The highest signal number that any rank has received, or 0. Each tells, too, which copy it has `sealed` last.

        Args:
            word: the first rank's, with which all go on if nobody has received a signal; see `settled`.
        """
        heard = self._meet(_HEAR, number, -sealed, () if word is None else _numbers_of(word))
        self.sealed_by_all = -heard.greatest
        self.settled = None
        if not heard.number and heard.said[0] == _GO_ON:
            self.settled = _word_of(heard.said)
        return heard.number

    def least(self, number: int) -> int:
        """The least of the numbers that the ranks give.

        Raises:
            RankError: one of them takes no further part.
        """
        return -self._unless_apart(self._meet(_LEAST, greatest=-number)).greatest

    def agree(self, why_not: str) -> str:
        """Each says why it cannot go on, or nothing; the first such sentence on every rank, or nothing.

        Raises:
            RankError: one of them takes no further part.
        """
        if not self._unless_apart(self._meet(_AGREE, greatest=bool(why_not))).greatest:
            return ""
        self._apart = True
        said = [text.decode() for text in self._group.all_give(why_not.encode())]
        return next((f"process {rank}: {text}" for rank, text in enumerate(said) if text), "")

    def _meet(
        self, purpose: int, number: int = 0, greatest: int = _LEAST_OF_ALL, said: Sequence[int] = ()
    ) -> _Heard:
        """All ranks come here, each with its numbers: the only word that they say together."""
        own = [purpose, number, greatest, *(said or [_LEAST_OF_ALL] * _WORDS)]
        purpose, number, greatest, *said = self._group.highest(own)
        return _Heard(purpose, number, greatest, tuple(said))

    def _unless_apart(self, heard: _Heard) -> _Heard:
        if heard.number >= NOTICE:
            self._apart = True
            raise RankError("Another process cannot continue in the box.")
        return heard

    def post(self, key: str, text: str) -> None:
        """Leave word for another rank, from any thread, without waiting for it."""
        self._board.post(key, text)

    def posted(self, key: str) -> str | None:
        """What was left under `key`; None while there is nothing. From one thread at a time."""
        return self._board.posted(key)

    # -- who takes no further part -----------------------------------------------------------------------------

    def withdraw(self, why: str) -> None:
        """This rank takes no further part. A thread says so where the others wait for it next; this one need not wait."""
        if not self._apart:
            self._apart = True
            self._group.goes_on = lambda: True
            threading.Thread(
                target=self._answer, args=(why,), name="backprop-ranks-aside", daemon=True
            ).start()

    def _answer(self, why: str) -> None:
        with suppress(RankError):  # they know it, or they are gone
            if self._meet(_HEAR, NOTICE).purpose != _HEAR:
                return  # whoever wanted to agree on something has heard it
            if self.rank == 0:
                self.step_aside(why)
                return
            self.follow(_gives_nothing)  # leaves by a RankError
            self._answer(why)

    # -- the first rank ----------------------------------------------------------------------------------------

    def ask_for_states(self) -> None:
        self._say(_COPY if self.copies else _GIVE)
        self.asked += 1
        self._unheard = True

    def gather(self, own: Any) -> list[Any]:
        """What every rank gave.

        Raises:
            UnsavableStateError: one of them could not; names it, and why.
        """
        self._unheard = False
        parts = [pickle.loads(part) for part in self._group.given(_packed(lambda: own))]
        for rank, part in enumerate(parts):
            if isinstance(part, _Failure):
                raise UnsavableStateError(f"Process {rank} cannot give its part of the state: {part.why}")
        return parts

    def release(self, word: LastWord) -> None:
        """Let the others go on, or leave."""
        self._say(*_numbers_of(word))

    def step_aside(self, why: str) -> None:
        """Let the others train on without a box, as this rank is about to."""
        self._apart = True
        self._say(_ASIDE)
        self.share(why)

    def _say(self, *words: int) -> None:
        if self._unheard:  # an error came between: the others must not wait with what they have given
            self._unheard = False
            self._group.given(b"")
        self._group.first_says([*words, *[0] * (_WORDS - len(words))])

    def boundaries_to_next_talk(self, session: Any, talk_s: float) -> int:
        """See `agreement_interval.py`; a boundary of a plain loop is an optimizer step."""
        return batches_to_next_talk(session, talk_s, 1)

    # -- the others --------------------------------------------------------------------------------------------

    def follow(self, give: Callable[[], Any], copy: Callable[[], Any] | None = None) -> LastWord:
        """Do what the first rank says until it lets go, and with which word.

        Args:
            give: gives this rank's part of a save; `copy` its part of a copy in memory.

        Raises:
            RankError: the first rank goes on without a box, so this one does.
        """
        while True:
            said = self._group.first_says([0] * _WORDS)
            word = said[0]
            if word == _ASIDE:
                self._apart = True
                raise RankError(f"The first process continues without a box: {self.share(None)}")
            if word not in (_GIVE, _COPY):
                return _word_of(said)
            self._group.given(_packed(copy or give if word == _COPY else give))


@dataclass(frozen=True, slots=True)
class _Heard:
    """What the ranks said together: the highest of each.

    Attributes:
        purpose: what they came together for; a rank that takes no part says the lowest.
        number: of a signal; NOTICE where one takes no further part.
        greatest: of the numbers that were given for the purpose.
        said: by the first rank at once, as in `first_says`; the lowest numbers where it says nothing yet.
    """

    purpose: int
    number: int
    greatest: int
    said: tuple[int, ...]


def _numbers_of(word: LastWord) -> tuple[int, int, int, int]:
    leaves = _LEAVE if word.leave else _GO_ON
    return leaves, word.boundaries, _OUTCOMES.index(word.outcome), int(1000 * word.remaining_s)


def _word_of(numbers: Sequence[int]) -> LastWord:
    leaves, boundaries, outcome, remaining_ms = numbers
    return LastWord(leaves == _LEAVE, boundaries, _OUTCOMES[outcome], remaining_ms / 1000)


@dataclass(frozen=True, slots=True)
class _Failure:
    """In place of a part that a rank could not give."""

    why: str


def _packed(give: Callable[[], Any]) -> bytes:
    """What `give` returns, as bytes. Its error is told to the first rank: it must not keep this one from the collective."""
    try:
        return pickle.dumps(_on_processor(give()), protocol=pickle.HIGHEST_PROTOCOL)
    except Exception as error:
        return pickle.dumps(_Failure(f"{type(error).__name__}: {error}"))


def _gives_nothing() -> Any:
    raise RuntimeError("it continues without the box")


def _on_processor(value: Any) -> Any:
    """`value` with its tensors on the processor: unpickled, they would come to life on the giver's accelerator."""
    if isinstance(value, torch.Tensor):
        return value.detach().cpu()
    if isinstance(value, dict):
        return {key: _on_processor(one) for key, one in value.items()}
    return [_on_processor(one) for one in value] if type(value) is list else value


def ranks_of_process() -> Together | None:
    """How the processes of this training talk; None if there is one only. All have to ask at the same time."""
    return Together() if knows_ranks() else None


def knows_ranks() -> bool:
    """Whether torch.distributed knows of other processes of this training."""
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def stays_away(why: str) -> None:
    """This process has not come to its first box, and will not: the others hear it, and do not wait for it there."""
    if knows_ranks() and not Together._made:
        Together._made = 1
        Board(1).stays_away(f"process {dist.get_rank()}: {why}")
