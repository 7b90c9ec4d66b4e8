"""One process, or several that train together: what they tell each other, and when.

The first rank decides. All come to the same boundaries, and they talk only at those they have agreed on: a number of
batches ahead, and every one that a validation or the end of an epoch follows. There the ranks first hear of each other's
signals; then the others wait for the first, which may ask for their part of a checkpoint any number of times before it lets
them go on, leave, or train on without a box. What fails on one rank is told to the others before it is raised, so that none
of them waits for one that is gone. The talk goes over a group of its own on the processor, so no accelerator waits for it.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any, Protocol

import torch
import torch.distributed as dist

from backprop_core.errors import UnsavableStateError
from backprop_core.outcome import Outcome
from backprop_core.ports.ranks import LastWord
from backprop_core.quick_dataclass import dataclass
from backprop_core.session.ranks_error import RankError
from backprop_torch.agreement_interval import batches_to_next_talk

_GIVE, _GO_ON, _LEAVE, _ASIDE = 1, 2, 3, 4
_OUTCOMES = tuple(Outcome)
_WORDS = 4
"""Numbers in a message: the word, boundaries, the outcome, milliseconds."""


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
    """Several processes of one torch.distributed job. Every rank has to make one, at the same time."""

    def __init__(self) -> None:
        self.count = dist.get_world_size()
        self.rank = dist.get_rank()
        self._group = dist.new_group(backend="gloo")
        self.asked = 0
        self._unheard = False  # the others give their parts, and nobody has gathered them yet

    # -- everybody ---------------------------------------------------------------------------------------------

    def share(self, opening: Any) -> Any:
        """What the first rank gives, on every rank."""
        box = [opening]
        dist.broadcast_object_list(box, src=0, group=self._group)
        return box[0]

    def hear(self, number: int) -> int:
        """The highest signal number that any rank has received, or 0."""
        heard = torch.tensor([number], dtype=torch.int64)
        dist.all_reduce(heard, op=dist.ReduceOp.MAX, group=self._group)
        return int(heard.item())

    def least(self, number: int) -> int:
        """The least of the numbers that the ranks give."""
        given = torch.tensor([number], dtype=torch.int64)
        dist.all_reduce(given, op=dist.ReduceOp.MIN, group=self._group)
        return int(given.item())

    def agree(self, why_not: str) -> str:
        """Each says why it cannot go on, or nothing; the first such sentence on every rank, or nothing."""
        said: list[Any] = [""] * self.count
        dist.all_gather_object(said, why_not, group=self._group)
        return next((f"process {rank}: {text}" for rank, text in enumerate(said) if text), "")

    def post(self, key: str, text: str) -> None:
        """Leave word for another rank, from any thread, without waiting for it."""
        _board().set(key, text)

    def posted(self, key: str) -> str | None:
        """What was left under `key`; None while there is nothing. From any thread."""
        board = _board()
        return board.get(key).decode() if board.check([key]) else None

    # -- the first rank ----------------------------------------------------------------------------------------

    def ask_for_states(self) -> None:
        self._say(_GIVE)
        self.asked += 1
        self._unheard = True

    def gather(self, own: Any) -> list[Any]:
        """What every rank gave.

        Raises:
            UnsavableStateError: one of them could not; names it, and why.
        """
        self._unheard = False
        packed: list[Any] = [None] * self.count
        dist.gather_object(_packed(lambda: own), packed, dst=0, group=self._group)
        for rank, part in enumerate(packed):
            if isinstance(part, _Failure):
                raise UnsavableStateError(f"Process {rank} cannot give its part of the state: {part.why}")
        return [pickle.loads(part) for part in packed]

    def release(self, word: LastWord) -> None:
        """Let the others go on, or leave."""
        remaining_ms = int(1000 * word.remaining_s)
        self._say(
            _LEAVE if word.leave else _GO_ON, word.boundaries, _OUTCOMES.index(word.outcome), remaining_ms
        )

    def step_aside(self, why: str) -> None:
        """Let the others train on without a box, as this rank is about to."""
        self._say(_ASIDE)
        self.share(why)

    def _say(self, *words: int) -> None:
        if self._unheard:  # an error came between: the others must not wait with what they have given
            self._unheard = False
            dist.gather_object(b"", [None] * self.count, dst=0, group=self._group)
        message = torch.zeros(_WORDS, dtype=torch.int64)
        message[: len(words)] = torch.tensor(words)
        dist.broadcast(message, src=0, group=self._group)

    def boundaries_to_next_talk(self, session: Any, talked_s: float) -> int:
        """See `agreement_interval.py`; a boundary of a plain loop is an optimizer step."""
        return batches_to_next_talk(session, talked_s, 1)

    # -- the others --------------------------------------------------------------------------------------------

    def follow(self, give: Callable[[], Any]) -> LastWord:
        """Do what the first rank says until it lets go, and with which word.

        Raises:
            RankError: the first rank goes on without a box, so this one does.
        """
        while True:
            message = torch.zeros(_WORDS, dtype=torch.int64)
            dist.broadcast(message, src=0, group=self._group)
            word, boundaries, outcome, remaining_ms = (int(number) for number in message)
            if word == _ASIDE:
                raise RankError(f"The first process continues without a box: {self.share(None)}")
            if word != _GIVE:
                return LastWord(word == _LEAVE, boundaries, _OUTCOMES[outcome], remaining_ms / 1000)
            dist.gather_object(_packed(give), None, dst=0, group=self._group)


@dataclass(frozen=True, slots=True)
class _Failure:
    """In place of a part that a rank could not give."""

    why: str


def _packed(give: Callable[[], Any]) -> bytes | _Failure:
    """What `give` returns, as bytes. Its error is told to the first rank: it must not keep this one from the collective."""
    try:
        return pickle.dumps(_on_processor(give()), protocol=pickle.HIGHEST_PROTOCOL)
    except Exception as error:
        return _Failure(f"{type(error).__name__}: {error}")


def _on_processor(value: Any) -> Any:
    """`value` with its tensors on the processor: unpickled, they would come to life on the giver's accelerator."""
    if isinstance(value, torch.Tensor):
        return value.detach().cpu()
    if isinstance(value, dict):
        return {key: _on_processor(one) for key, one in value.items()}
    return [_on_processor(one) for one in value] if type(value) is list else value


def _board() -> Any:
    """The store through which the ranks found each other. It needs no rank to wait, and may be used from any thread."""
    from torch.distributed import distributed_c10d

    return distributed_c10d.PrefixStore("backprop", distributed_c10d._get_default_store())


def ranks_of_process() -> Together | None:
    """How the processes of this training talk; None if there is one only. All have to ask at the same time."""
    return Together() if knows_ranks() else None


def knows_ranks() -> bool:
    """Whether torch.distributed knows of other processes of this training."""
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1
