"""What is remembered of how loops begin, and what that may cost."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from backprop_core.loop.iteration_starts import IterationStarts
from backprop_core.loop.running_loop import EndedLoop, RunningLoop
from backprop_core.loop.seen_objects import SeenObjects
from backprop_core.script_state.rewrite import Site
from backprop_core.testing.clock import FakeClock

LOOK_S, ENTRY_S = 0.005, 0.003


class _Script:
    """A script at which a look takes 5 ms."""

    def __init__(self, clock: FakeClock) -> None:
        self.clock = clock
        self.found_objects = SimpleNamespace(updates=0)

    def loop_begins(self, loop: RunningLoop) -> None:
        pass

    def values(self, frame: Any) -> SeenObjects:
        self.clock.advance(LOOK_S)
        return SeenObjects()

    def entry(self, frame: Any) -> str:
        self.clock.advance(ENTRY_S)
        return "entry"


def _loop() -> RunningLoop:
    return RunningLoop(Site("loop", "here", trains=True))


def _script() -> tuple[IterationStarts, Any, FakeClock]:
    clock = FakeClock()
    return IterationStarts(clock, proves=False, among_ranks=False), _Script(clock), clock


def _iteration(starts: IterationStarts, loop: RunningLoop, script: Any) -> None:
    starts.iteration_begins(loop, starts.tick(loop), script, None, may_be_cut=False)  # type: ignore[arg-type]


def _begun(starts: IterationStarts, around: RunningLoop | None, script: Any) -> RunningLoop:
    loop = _loop()
    starts.loop_begins(loop, around, script, None)  # type: ignore[arg-type]
    return loop


def test_the_first_loop_of_an_iteration_that_is_remembered_is_looked_at() -> None:
    """A model that the round makes lies in its list by then, though the last look was a moment ago."""
    starts, script, clock = _script()
    rounds = _begun(starts, None, script)
    _iteration(starts, rounds, script)
    clock.advance(0.02)
    rounds.ended.append(EndedLoop("evaluation", again=True))
    assert _begun(starts, rounds, script).there is not None
    rounds.ended.append(EndedLoop("epochs"))
    assert _begun(starts, rounds, script).there is None


def test_both_looks_of_an_iteration_count_as_its_cost() -> None:
    """An iteration of a second has 10 ms for it, and not 13; of two seconds both fit."""
    starts, script, clock = _script()
    rounds = _begun(starts, None, script)
    _iteration(starts, rounds, script)
    assert _begun(starts, rounds, script).there is not None
    clock.advance(1.0)
    _iteration(starts, rounds, script)
    assert rounds.entry is None
    clock.advance(2.0)
    _iteration(starts, rounds, script)
    assert rounds.entry == "entry"
