"""What a checkpoint of a rewritten script holds: objects, randomness, loop positions and the script's own variables."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from types import FrameType
from typing import Any

from backprop_core.checkpoints.copied import copied
from backprop_core.errors import StateMismatchError
from backprop_core.loop.asked_state import AskedState
from backprop_core.loop.counted_loops import CountedLoops
from backprop_core.loop.found_objects import FoundObjects
from backprop_core.loop.held_iterators import HeldIterators
from backprop_core.loop.loop_state import SCRIPT, LoopState
from backprop_core.loop.made_in_loops import MadeInLoops
from backprop_core.loop.planned_steps import steps_at_end
from backprop_core.loop.rank_places import check_places
from backprop_core.loop.read_ahead import ReadAhead
from backprop_core.loop.running_loop import RunningLoop, epoch_and_batch
from backprop_core.loop.saved_loops import ended_from_state, ended_to_state, loop_from_state, loop_to_state
from backprop_core.loop.script_frames import ScriptFrames
from backprop_core.loop.script_steps import COUNTED, StepBegun, step_from_state
from backprop_core.loop.script_watch import CountedScriptWatch
from backprop_core.loop.seen_objects import SeenObjects
from backprop_core.ports.framework import Framework, groups_in, stored_by
from backprop_core.ports.loaders import LoaderPasses
from backprop_core.prove.witness import Witness
from backprop_core.script_files import start as script_files
from backprop_core.script_state.large_arrays import without_large
from backprop_core.script_state.namespace import Namespace
from backprop_core.script_state.process_settings import ProcessSettings
from backprop_core.script_state.state import ScriptState, has_parts
from backprop_core.script_state.unkept import Unkept
from backprop_core.script_state.unseen_models import unseen_models
from backprop_core.session.rank_parts import RANKS
from backprop_core.session.session import Position

FILES = "backprop.files"
_CURSOR = "counted"


def is_of_counted_loops(cursor: object) -> bool:
    """Whether a checkpoint's cursor was written by loops that are counted, and not by a Trainer or a box of the script's."""
    return isinstance(cursor, Mapping) and _CURSOR in cursor


class ScriptLoopState(LoopState):
    """All state of a rewritten script. It is the session's `TrainingState`.

    Attributes:
        found_objects: the objects that train.
        passes: what they remember of passes over loaders.
        ahead: the script's threads that read loaders.
        hidden_files: what was hidden from the script until its first loop that trains.
        inside: the optimizer step that the script is in, while a checkpoint is made inside it.
    """

    def __init__(self, frameworks: Sequence[Framework], loops: CountedLoops) -> None:
        super().__init__(frameworks)
        self.found = True
        self.found_objects = FoundObjects(self)
        self.passes: list[LoaderPasses] = []
        self.ahead = ReadAhead(self.passes)
        self.inside: StepBegun | None = None
        self._loops = loops
        self._frames = ScriptFrames(sorted({site.key.partition(":")[0] for site in loops.sites.values()}))
        self._at: tuple[RunningLoop | None, FrameType | None] = (None, None)
        self._steps_before = 0
        self._enters = False
        self._left: RunningLoop | None = None
        self._made = MadeInLoops(
            self._running, lambda: self._at[0] is not None or self._enters, lambda: self._left
        )
        settings = ProcessSettings(self.frameworks)
        self._state = ScriptState(
            lambda: [*self.namespaces(), *groups_in(self.frameworks, self.objects), settings],
            tracked_elsewhere=self._is_tracked,
            frameworks=self.frameworks,
            translators=self.translators,
            made_again=True,
            made_lately=self._made.has,
            put_again=self._made.put_again,
            iterators=False,
            tracked=lambda: self.kept.found,
        )
        self.script = CountedScriptWatch(self._state)
        self._stored: list[Callable[[object], bool]] = []
        self._asked = AskedState(self.passes, self.translators)
        self.files = script_files.current()
        self.hidden_files: list[str] = []
        if self.files is not None:
            self.files.counted = True
            self.hidden_files = self.files.training_begins()
        self._graphs: list[Unkept] = []

    def label(self) -> str:
        """What a session is attached to."""
        names = [framework.name for framework in self.frameworks]
        return "pytorch loop" if "torch" in names else "keras loop" if "keras" in names else "loop"

    # -- where the script is -----------------------------------------------------------------------------------

    def at(self, loop: RunningLoop | None, frame: FrameType | None) -> None:
        """The boundary that is taken now: between two iterations of `loop`, whose function is `frame`."""
        self._at = (loop, frame)
        self.step = self._steps_before + self._loops.steps

    def values(self, frame: FrameType) -> SeenObjects:
        """What the script's variables hold."""
        return self._frames.values(frame)

    def loop_begins(self, loop: RunningLoop) -> None:
        """`loop` is about to begin."""
        loop.steps_before = (
            self._steps_before + self._loops.steps if loop.saved is None else loop.saved.steps_before
        )
        if loop.saved is not None and loop.saved.opening is not None:
            self.set_randomness(loop.saved.opening["random"])
        loop.random = self.randomness()  # of an evaluation, too: its loader may be shuffled

    def can_be_found_again(self) -> bool:
        """Whether the loops around remember how their iterations began; else only they themselves are boundaries."""
        return all(loop.entry is not None for loop in self._running()[:-1] if loop.site.trains)

    def _running(self) -> list[RunningLoop]:
        if self.inside is not None:
            return self.inside.running
        loop, stack = self._at[0], self._loops.stack
        return stack if loop is None else stack[: stack.index(loop) + 1]

    def namespaces(self) -> list[Namespace]:
        """Where the script's variables are now."""
        return self._frames.namespaces(self._at[1])

    def _is_tracked(self, value: object) -> bool:
        return any(stored(value) for stored in self._stored) or self.ahead.holds(value)

    @contextmanager
    def _held(self, *, restores: bool = False) -> Iterator[None]:
        """Inside, it is known which objects the checkpoint has as files of their own."""
        if self._at[1] is not None:  # at the end the last state is saved, though its function has returned
            self.kept.release_dropped()
            if not restores:
                self.found_objects.leave_behind(self._made, self._state.can_make)
            self.kept.all_dropped = False  # the next model of a fold may not have trained yet
        objects = self.objects
        before, self._stored = self._stored, stored_by(self.frameworks, objects)
        try:
            with self.ahead.still(), ExitStack() as resting:
                for framework in self.frameworks:
                    resting.enter_context(framework.at_rest(list(objects.values())))
                yield
        finally:
            self._stored = before

    def baseline(self, frame: FrameType, *, resumes: bool) -> None:
        """What differs from how things are now is what a checkpoint holds."""
        self._at = (None, frame)
        # What may train is kept as an object; the rest of the script is walked through.
        self.found_objects.may_train(frame)
        with self._held():
            self._state.baseline(hold=resumes)
        self._asked.baseline(self.namespaces())

    def grew(self) -> bool:
        """Whether an object trains that was not known at the last boundary."""
        return self.found_objects.grew()

    def find(self, frame: FrameType | None = None) -> str:  # type: ignore[override]
        """Track what trains now; a sentence about what is new."""
        return self.found_objects.find(self._at[1])

    # -- TrainingState -----------------------------------------------------------------------------------------------

    def states(self) -> Mapping[str, object]:
        with self._held():
            states = super().states()
        check_places(states.get(RANKS))
        return states

    def may_be_left(self, loop: RunningLoop) -> bool:
        """Whether a checkpoint can hold all that the script holds between two iterations of `loop`.

        No graph that gradients are still to be taken through; and nothing that the iteration behind it has made and no
        process can make again: inside an iteration, the code at its beginning makes it.
        """
        with self._held():
            awaited = bool(self.found_objects.graphs_in(self._state, self._state.changed(most_bytes=0)))
        made = loop.site.holds_loops and any(one.is_new_instance for one in self._state.unkept())
        return not (awaited or made)

    def own_part(self) -> dict[str, object]:
        with self._held():
            return self._own_part()

    def _own_part(self) -> dict[str, object]:
        part = super().own_part() | self.ahead.part()
        self._graphs = self.found_objects.graphs_in(self._state, part[SCRIPT]) if SCRIPT in part else []
        part[COUNTED] = {
            "ended": [ended_to_state(one) for one in self._loops.root.ended],
            "loops": self._loops_to_state(),
            "iterators": self._held_iterators().capture(self.namespaces()),
            "asked": self._asked.capture(self.namespaces()),
            "iterations_are_steps": self._loops.iterations_are_steps,
        }
        if self.files is not None:
            part[FILES] = self.files.capture()
        return part if self.inside is None else self.inside.instead(part)

    def _loops_to_state(self) -> list[dict[str, Any]]:
        last = None if self.inside is not None else next(reversed(self._running()), None)
        asked, passes = self._asked.state_of, self.passes
        return [loop_to_state(one, asked, passes, innermost=one is last) for one in self._running()]

    def _held_iterators(self) -> HeldIterators:
        return HeldIterators(self.passes, self.frameworks, self._running(), self)

    def witness(self) -> Witness:
        witness, holds = super().witness(), self.ahead.holds
        own = witness.belongs_to_attempt
        return replace(witness, belongs_to_attempt=lambda value: own(value) or holds(value))

    def unkept(self) -> Sequence[Unkept]:
        more = [*self._asked.unkept, *self._graphs, *self.ahead.unkept()]
        return [*super().unkept(), *more, *unseen_models(self.namespaces())]

    def position(self) -> Position:
        running = self._running()
        epoch, batch = epoch_and_batch(running)
        cursor = [{"loop": loop.site.key, "at": loop.site.where, "index": loop.index} for loop in running]
        return Position(self.step, epoch, batch, {_CURSOR: cursor})

    def total_steps(self) -> int | None:
        """The step at which the outermost running loop ends, if its other iterations take as many as those so far."""
        return steps_at_end(self._running(), self.step)

    def release(self) -> None:
        super().release()
        self._at = (None, None)
        self._loops.root.ended.clear()

    # -- giving back -------------------------------------------------------------------------------------------

    def go_back(self, states: Mapping[str, Any]) -> bool:
        """Match the loops that begin from now on with those of a checkpoint; False: it was made in another way."""
        saved = states.get(COUNTED)
        if not isinstance(saved, Mapping):
            return False
        self.restore_place(states, "The checkpoint")
        self._steps_before = self.step
        self._loops.iterations_are_steps |= saved.get("iterations_are_steps") is True
        self._loops.go_back_to(
            [ended_from_state(one) for one in saved["ended"]],
            [loop_from_state(one) for one in saved["loops"]],
            step_from_state(saved.get("step")),
        )
        return True

    def arrive(self, states: Mapping[str, Any], source: str, frame: FrameType) -> list[str]:
        """Everything as it was at the boundary.

        Returns:
            What of the script's variables could not be put back, and why.

        Raises:
            StateMismatchError: an object is missing, or does not fit; nothing was restored.
        """
        self.restore_place(states, source)
        self._steps_before = self.step
        self._loops.steps = 0
        missing = self._restore_objects(states, source)
        self.restore_randomness(states)
        self.found_objects.were_trained(self.saved_names(states))
        self._state.let_go()
        return missing

    def rewind_files(self, states: Mapping[str, Any]) -> list[str]:
        """The script's files as they were at the boundary; sentences about what was done to them."""
        saved = states.get(FILES)
        return [] if self.files is None else self.files.restore(saved if isinstance(saved, Mapping) else None)

    def _restore_objects(self, states: Mapping[str, Any], source: str) -> list[str]:
        missing = self.missing(states)
        script_first = self.is_rearranged(states)
        if script_first:  # another optimizer may go by the name of one by now
            self.found_objects.may_train(self._at[1])
            self._find_again(states, states.get(SCRIPT))
        if missing and not script_first:
            raise _not_here(missing, source)
        self._check_places(states, source)  # the script would go on with what it has made there itself
        # Asking them runs code of the script's, so it comes before everything else is put in its place.
        gone = self._asked.restore(states[COUNTED].get("asked", []), self.namespaces())
        gone += self.ahead.restore(states, self)
        held = self._held_iterators()
        with self._held(restores=True):
            begun = held.begin(states[COUNTED]["iterators"], self.namespaces())
            if script_first:
                gone += [str(one) for one in self.restore_script(states)]
        if script_first:
            self.found_objects.may_train(self._at[1])
            if missing := self.missing(states):
                raise _not_here(missing, source)
            self._state.let_go()
            gc.collect()  # what was exchanged would still be taken for what trains
        with self._held(restores=True):
            self.restore_objects(states, source)
            if not script_first:
                gone += [str(one) for one in self.restore_script(states)]
            self._check_places(states, source)
            return gone + held.put(begun, self.namespaces())

    def _check_places(self, states: Mapping[str, Any], source: str) -> None:
        """Where the script has another object than the one that was restored, it would train on with that, silently."""
        lies, objects = self._state.objects_at(states.get(SCRIPT) or {}), self.objects
        others = sorted(name for name, value in lies.items() if objects.get(name, value) is not value)
        if others:
            raise StateMismatchError(
                f"{source} does not fit this script: where {', '.join(others)} was, another object is now.",
                "Run the script as it was. If it is, let it keep models and optimizers where it has put them until the "
                "round that makes them is over, and start a new run.",
            )

    def missing(self, states: Mapping[str, Any]) -> set[str]:
        """Names of objects in a checkpoint that do not exist now."""
        self._find_again(states, states.get(SCRIPT))
        return set(self.saved_names(states)) - set(self.objects)

    def _find_again(self, states: Mapping[str, Any], variables: Any) -> None:
        """Track the objects that `states` has, as they were called and lay when `variables` were stored with them."""
        saved = self.saved_names(states)
        self.found_objects.find_again(saved, self._at[1])
        if isinstance(variables, Mapping):
            lie = self._state.objects_in(variables)
            self.kept.place({name: lie[name] for name in saved if name in lie})

    def lacks(self, states: Mapping[str, Any]) -> bool:
        """Whether something is to be restored that is not there yet, such as what the first step makes."""
        missing = bool(self.missing(states))
        with self._held(restores=True):
            return missing or (SCRIPT in states and self._state.lacks(states[SCRIPT]))

    def entry(self, frame: FrameType) -> Any:
        """What the code at the beginning of an iteration needs to do again what it did: small, and a copy."""
        self._at, self._enters = (None, frame), True
        with self._held():
            variables = without_large(self._state.changed(most_bytes=0), self.translators)
            entry: dict[str, Any] = copied(
                {"random": self.randomness(), "variables": variables}, self.translators
            )
        self._enters = False
        return {**entry, "asked": self._asked.capture(self.namespaces())}

    def restore_entry(self, entry: Any, states: Mapping[str, Any], frame: FrameType) -> None:
        """An iteration that was interrupted begins again; the objects are as at the boundary, which is in `states`."""
        self._at = (None, frame)
        self._restore_so_far(entry, states)
        self.set_randomness(entry["random"])

    def _restore_so_far(self, earlier: Any, states: Mapping[str, Any]) -> None:
        """The variables as they were earlier, and the objects as they are in `states`, as far as they are there."""
        variables_first = has_parts(earlier["variables"])
        stored_with = earlier["variables"] if "states" in earlier else states.get(SCRIPT)
        if not variables_first:
            self._objects_so_far(states, stored_with)
        self._asked.restore(earlier.get("asked", []), self.namespaces(), partly=True)
        with self._held(restores=True):
            self._state.restore(earlier["variables"])
        if variables_first:
            self.found_objects.may_train(self._at[1])
            self._objects_so_far(states, stored_with)

    def _objects_so_far(self, states: Mapping[str, Any], variables: Any) -> None:
        """Those of a checkpoint's objects that are there on the way back: code between the loops may look at them."""
        self._find_again(states, variables)
        # One that is still to be changed fits when all have begun.
        with self._held(restores=True), suppress(StateMismatchError):
            there = {n: states[n] for n in self.saved_names(states) if n in self.objects}
            self.restore_objects(there, "The checkpoint")

    def step_begins(self, frame: FrameType, number: int) -> StepBegun | None:
        """How things are just before a step that may be saved inside; None where the loops around cannot be found again."""
        running = list(self._loops.stack)
        if any(loop.site.trains and loop.entry is None for loop in running):
            return None
        self._at = (None, frame)
        with self._held():
            variables = copied(self._state.changed(), self.translators)
            iterators = copied(self._held_iterators().capture(self.namespaces()), self.translators)
        return StepBegun(running, number, variables, self.randomness(), iterators)

    def effect(self, frame: FrameType | None, loop: RunningLoop) -> Any:
        """A copy of all state, just behind `loop`, after which more training comes."""
        self._at = (None, frame)
        with self._held():
            states = {name: tracked.capture() for name, tracked in self.kept.tracked().items()}
            effect: dict[str, Any] = copied(
                {"states": states, "variables": self._changed_behind(loop), "random": self.randomness()},
                self.translators,
            )
        return {**effect, "asked": self._asked.capture(self.namespaces())}

    def _changed_behind(self, loop: RunningLoop) -> dict[str, Any]:
        self._left = loop
        try:
            return self._state.changed()
        finally:
            self._left = None

    def restore_effect(self, effect: Any, states: Mapping[str, Any], frame: FrameType) -> None:
        """A loop that was over is passed over: what it had changed is put back.

        Args:
            states: those of the checkpoint. A loop after which no training came left the objects so.
        """
        self._at = (None, frame)
        there = states if effect is None else effect.get("states", states)
        if effect is None:
            self._objects_so_far(there, states.get(SCRIPT))
            return
        self._restore_so_far(effect, there)
        self.set_randomness(effect["random"])


def _not_here(missing: set[str], source: str) -> StateMismatchError:
    return StateMismatchError(
        f"{source} does not fit this script: it holds {', '.join(sorted(missing))}, which does not exist when the "
        "interrupted loop begins. Nothing was restored.",
        "Run the script as it was, or start a new run.",
    )
