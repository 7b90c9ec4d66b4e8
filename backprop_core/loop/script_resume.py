"""How a rewritten script is led back to the place of its checkpoint: loop by loop, until it stands where it stood."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from itertools import islice
from types import FrameType
from typing import Any

from backprop_core.errors import StateMismatchError
from backprop_core.loop.counted_loops import CountedLoops
from backprop_core.loop.loop_readings import LoopReadings
from backprop_core.loop.running_loop import RunningLoop, SavedLoop
from backprop_core.loop.script_loop_state import ScriptLoopState
from backprop_core.loop.sources import counting_from, counts_of, items_behind, length_of
from backprop_core.session.session import Session


def restored_states(session: Session | None) -> Mapping[str, Any]:
    """What the checkpoint holds that the script goes on from; empty where there is none."""
    return {} if session is None or session.restored is None else session.restored.states


def items_of(
    loop: RunningLoop, source: Any, loop_state: ScriptLoopState, session: Session | None, loops: CountedLoops
) -> Iterable[Any]:
    """The items of `loop`, from where it is to begin.

    Raises:
        StateMismatchError: it cannot begin there.
    """
    try:
        return _begun_where_it_was(loop, source, loop_state, session, loops)
    except StateMismatchError:
        raise
    except Exception as error:
        if not loop.index:
            raise
        raise StateMismatchError(
            f"The loop at {loop.site.where} cannot start where it stopped: {type(error).__name__}: {error}.",
            "Run the script as it was, or start a new run.",
        ) from error


def _begun_where_it_was(
    loop: RunningLoop, source: Any, loop_state: ScriptLoopState, session: Session | None, loops: CountedLoops
) -> Iterable[Any]:
    def say(missing: str) -> None:
        if session is not None:
            session.messages.say_once(missing, "warning")

    source = _counting_as_before(loop, source, say)
    loop.length = length_of(source)
    late = bool(loop.innermost and loop.saved and loop.index) and _must_make(loop_state, session, loops)
    readings = LoopReadings(loop, loop_state, loop_state.passes, say, late=late)
    if late:
        loop.late = iter(items_behind(source, 0, readings))
        loop.index = 0
        return loop.late
    return items_behind(source, loop.index, readings)


def _counting_as_before(loop: RunningLoop, source: Any, say: Callable[[str], None]) -> Any:
    """A script that has restored itself, from a checkpoint of its own, begins to count elsewhere: `range(start, epochs)`."""
    loop.counts = now = counts_of(source)
    before = None if loop.saved is None else loop.saved.counts
    if now is None or before is None or now == before or now[1] != before[1]:
        return source
    say(
        f"The loop at {loop.site.where} counts from {now[0]} here, and counted from {before[0]} when the run began. Perhaps "
        "the script has restored itself from a checkpoint of its own. It continues where this run stopped."
    )
    loop.counts = before
    return counting_from(source, before[0])


def _must_make(loop_state: ScriptLoopState, session: Session | None, loops: CountedLoops) -> bool:
    """Whether objects that are to be restored are not there yet: the first iteration of the loop has made them."""
    if session is None or session.restored is None:
        return False
    loop_state.at(None, loops.opening_frame())
    return loop_state.lacks(session.restored.states)


def catch_up(loop: RunningLoop) -> SavedLoop | None:
    """Bring a loop that is `late` behind its first iteration to its place; None where it is not on its way back."""
    items, saved = loop.late, loop.saved
    loop.late = loop.saved = None
    if items is None or saved is None:
        return None
    next(islice(items, saved.index - 2, saved.index - 1), None) if saved.index > 1 else None
    loop.index = saved.index
    return saved


def put_back(
    session: Session, loop_state: ScriptLoopState, loop: RunningLoop | None, frame: FrameType
) -> None:
    """The innermost loop that was running has begun again, or the interrupted step: everything is as it was.

    Raises:
        StateMismatchError: an object is missing, or does not fit; nothing was restored.
    """
    assert session.restored is not None
    states = session.restored.states
    loop_state.at(loop, frame)
    for missing in loop_state.arrive(states, f"Checkpoint {session.resumed_from}", frame):
        session.messages.say(f"Not restored: {missing}.", "warning")
    loop_state.ahead.release()
    for sentence in loop_state.rewind_files(states):
        session.messages.say(sentence)


def not_found_again(key: str, session: Session | None, loops: CountedLoops) -> StateMismatchError:
    """The loop `key` was running when the checkpoint was made, and does not begin; an empty key stands for a step."""
    where = loops.sites[key].where if key in loops.sites else key.rpartition(":")[2]
    place = f"the loop at {where}, which no longer starts"
    if not key:
        place = "an optimizer step that takes many evaluations, which is no longer taken"
    return StateMismatchError(
        f"Checkpoint {None if session is None else session.resumed_from} was made inside {place}.",
        "Run the script as it was, or start a new run.",
    )
