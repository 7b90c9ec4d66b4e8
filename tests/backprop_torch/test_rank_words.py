"""What ranks say to each other, in threads of one process: all speak the same words, and stop at the same step."""

from __future__ import annotations

import random
import threading
import weakref
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from backprop_core.outcome import Outcome
from backprop_core.session.first_rank import LeadingSession
from backprop_core.session.other_ranks import FollowingSession
from backprop_core.session.rank_parts import RANKS
from backprop_core.session.settings import make_settings
from backprop_core.testing.clock import FakeClock
from backprop_core.testing.counting_state import CountingState
from backprop_torch import rank_group
from backprop_torch.ranks import Together


class Room:
    """Where the threads of a group meet; whoever says another word than the first to come breaks the group."""

    def __init__(self, count: int) -> None:
        self._lock = threading.Condition()
        self._count = count
        self._turn = 0
        self._given: dict[int, Any] = {}
        self.words: list[str] = []

    def meet(self, rank: int, word: str, given: Any) -> list[Any]:
        """What all have given, in the order of ranks."""
        with self._lock:
            if not self._given:
                self.words.append(word)
            assert word == self.words[-1], f"rank {rank} says {word} where another says {self.words[-1]}"
            self._given[rank] = given
            turn = self._turn
            if len(self._given) == self._count:
                self._all = [self._given[rank] for rank in range(self._count)]
                self._given, self._turn = {}, turn + 1
                self._lock.notify_all()
            assert self._lock.wait_for(lambda: self._turn > turn, 20), f"nobody else says {word}"
            return self._all


class Group:
    """Of one rank, in the place of `RankGroup`."""

    def __init__(self, room: Room, rank: int) -> None:
        self.goes_on: Callable[[], bool] = lambda: True
        self._say = lambda word, given: room.meet(rank, word, given)

    def highest(self, numbers: list[int]) -> list[int]:
        return [max(each) for each in zip(*self._say("highest", numbers), strict=True)]

    def first_says(self, numbers: list[int]) -> list[int]:
        return list(self._say("first says", numbers)[0])

    def first_gives(self, data: bytes) -> bytes:
        return bytes(self._say("first gives", data)[0])

    def given(self, data: bytes) -> list[bytes]:
        return self._say("given", data)


class InThreads(Together):
    """`Together` without torch.distributed."""

    def __init__(self, room: Room, rank: int, count: int) -> None:
        self.count, self.rank, self.asked = count, rank, 0
        self.copies, self.sealed_by_all, self.settled = False, -1, None
        self._unheard = self._apart = False
        self._group: Any = Group(room, rank)

    def post(self, key: str, text: str) -> None: ...

    def posted(self, key: str) -> str | None:
        return None


class SharedCount(CountingState):
    """A counter in each rank."""

    processes = 1
    other_ranks: Callable[[Mapping[str, object]], list[Any]] | None = None
    other_shards: Any = None

    def states(self) -> Mapping[str, object]:
        parts = {} if self.other_ranks is None else {RANKS: self.other_ranks(self.own_part())}
        return {**super().states(), **parts}

    def own_part(self) -> dict[str, object]:
        return {"own": self.step}

    def is_spread(self) -> bool:
        return False

    def shards(self) -> Any:
        return {}


class Training:
    """Two or more ranks that train in step, until they are told to leave.

    Attributes:
        stopped_at: the step of each rank when it left.
        words: that were said.
    """

    def __init__(self, home: Path, count: int, budget_s: float, chance: random.Random) -> None:
        self._home, self._count, self._budget_s, self._chance = home, count, budget_s, chance
        self.room, self._barrier = Room(count), threading.Barrier(count, timeout=20)
        self.words = self.room.words
        self.stopped_at: dict[int, int] = {}
        self.sessions: dict[int, Any] = {}
        self.errors: list[BaseException] = []

    def run(self, steps: int, at: Mapping[tuple[int, int], Callable[[Any], object]] | None = None) -> None:
        """Train at most so many steps; `at` says what happens to the session of a rank before a step's boundary."""
        threads = [
            threading.Thread(target=self._rank, args=(rank, steps, at or {}), daemon=True)
            for rank in range(self._count)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert not self.errors, self.errors

    def _rank(self, rank: int, steps: int, at: Mapping[tuple[int, int], Callable[[Any], object]]) -> None:
        try:
            self._train(rank, steps, at)
        except BaseException as error:
            self.errors.append(error)
            self._barrier.abort()

    def _train(self, rank: int, steps: int, at: Mapping[tuple[int, int], Callable[[Any], object]]) -> None:
        clock, state = FakeClock(), SharedCount()
        ranks, chance = InThreads(self.room, rank, self._count), random.Random(self._chance.random())
        settings = make_settings(
            environ={"BACKPROP_HOME": str(self._home)}, run="words", budget=self._budget_s
        )
        made: Any = LeadingSession if rank == 0 else FollowingSession
        session = self.sessions[rank] = made(settings, state, ranks, clock)
        session.open()
        for step in range(steps):
            self._barrier.wait()  # the gradients
            clock.advance(0.05 * chance.choice((0.9, 1.0, 1.1)))
            state.step += 1
            at.get((rank, step), lambda session: None)(session)
            if session.boundary(1):
                break
            if rank == 0:
                session.saver.wait()
        self.stopped_at[rank] = state.step
        session.close(Outcome.STOPPED if session.leaving is None else session.leaving.outcome)


def talks(words: Sequence[str]) -> int:
    return sum(word == "highest" for word in words)


def test_a_talk_in_which_nothing_is_due_is_one_word(tmp_path: Path) -> None:
    """Ranks that neither save nor stop come together once, and all count on to the same next talk."""
    training = Training(tmp_path, 3, 3600.0, random.Random(1))
    said: list[int] = []
    training.run(401, {(0, 100): lambda _: said.append(len(training.words))})
    later = training.words[said[0] :]
    assert 4 <= talks(later) <= 10
    assert later.count("first says") <= 3  # one early save
    assert len(set(training.stopped_at.values())) == 1


@pytest.mark.parametrize("turn", range(20))
def test_all_stop_at_the_same_step_whoever_hears_of_it(tmp_path: Path, turn: int) -> None:
    """Signals to any rank, saves that are asked for, and the deadline: the same words and the same last step on all."""
    chance = random.Random(turn)
    count = chance.choice((2, 3))
    training = Training(tmp_path, count, chance.choice((6.0, 3600.0)), chance)

    def signal(session: Any) -> None:
        watch = session.requests if isinstance(session, LeadingSession) else session.signals
        watch.hear_of(chance.choice((2, 15)))

    def save(session: Any) -> None:
        session.requests.save_asked = True

    at: dict[tuple[int, int], Any] = {(0, chance.randrange(300)): save for _ in range(3)}
    at[chance.randrange(count), chance.randrange(300)] = signal
    training.run(2000, at)
    steps = set(training.stopped_at.values())
    assert len(training.stopped_at) == count
    assert len(steps) == 1
    [step] = steps
    assert step < 2000
    assert training.sessions[0].checkpoint.step == step


def test_the_last_words_are_not_left_to_gloos_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """A word freed by a thread of gloo while the interpreter ended aborted the process: each is held by this one as well."""

    class Word:
        def wait(self, timeout: object) -> None: ...

    said: list[weakref.ref[Word]] = []

    def all_reduce(*arguments: object, **named: object) -> Word:
        word = Word()
        said.append(weakref.ref(word))
        return word

    monkeypatch.setattr(rank_group.dist, "new_group", lambda **named: None)
    monkeypatch.setattr(rank_group.dist, "all_reduce", all_reduce)
    for _ in range(3):  # in three boxes
        rank_group.RankGroup().highest([1, 2])
    assert all(word() is not None for word in said)
