"""What a time box keeps: the tracked objects, the randomness, the loops; all of it taken and given back together."""

from __future__ import annotations

import platform
import random
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from backprop_core.checkpoints.arrays import Translator
from backprop_core.checkpoints.numpy_arrays import NumpyTranslator
from backprop_core.checkpoints.shards import SHARDS, OtherParts, Shards
from backprop_core.errors import StateMismatchError, UnsavableStateError, UsageError
from backprop_core.loop.accumulation_window import AccumulationWindow
from backprop_core.loop.loop_position import Cursor, frames_from_state, frames_to_state
from backprop_core.loop.script_watch import ScriptWatch
from backprop_core.loop.spread_arrays import SpreadArrays
from backprop_core.loop.tracked_objects import TrackedObjects
from backprop_core.ports.framework import Framework, Tracked
from backprop_core.ports.unmodified_loop import RawLoop
from backprop_core.prove.witness import Witness
from backprop_core.script_state.state import Missing, Unkept, has_parts
from backprop_core.script_state.trackables import (
    NumpyGlobalRandomTracked,
    PythonRandomTracked,
    UnseededTracked,
    restore_all,
)
from backprop_core.session.learning_rate import rate_of
from backprop_core.session.rank_parts import RANKS, REST, with_part
from backprop_core.session.session import Position

_OWN = "backprop."
RANDOM, LOOPS, _RAW, SCRIPT = (_OWN + part for part in ("random", "loops", "raw", "script"))


class LoopState:
    """All state of one box, by name. It is the session's `TrainingState`.

    Attributes:
        kept: what the script named, and what was found.
        cursor: where the script is in its loops.
        step: steps of the run so far.
        raw: the unchanged loop that is watched, or None.
        found: whether objects are to be found rather than named.
        optimizer_steps: steps that any optimizer took in this box.
        processes: how many train together; each has a state of its own.
        other_ranks: asks the others for their part of the state; None where there is none, or they are not listening.
        other_shards: how to wait for what the others write, where arrays are spread over all of them.
        count_steps: brings `step` up to date, for a loop that does not count each one.
    """

    def __init__(self, frameworks: Sequence[Framework]) -> None:
        self.frameworks = list(frameworks)
        self.translators: Sequence[Translator] = [*(f.translator for f in self.frameworks), NumpyTranslator()]
        self.kept = TrackedObjects(self.frameworks)
        self._spread = SpreadArrays(self.frameworks)
        self.cursor = Cursor()
        self.step = 0
        self.raw: RawLoop | None = None
        self.found = False
        self.steps_planned: int | None = None
        self.batches_over = 0
        self.optimizer_steps = 0
        self.processes = 1
        self.other_ranks: Callable[[Mapping[str, object]], list[Any]] | None = None
        self.other_shards: Callable[[], OtherParts] | None = None
        self.count_steps: Callable[[], None] = lambda: None
        self.script = ScriptWatch(
            self.frameworks,
            self.translators,
            lambda: self.kept.objects,
            lambda: None if self.found else self.kept.met_loaders(),
        )
        self._window = AccumulationWindow()
        self._randomness: dict[str, Tracked] = {
            "python": PythonRandomTracked(random),
            "numpy": NumpyGlobalRandomTracked(),
            "entropy": UnseededTracked(),
            **{framework.name: framework.randomness() for framework in self.frameworks},
        }

    # -- tracking ----------------------------------------------------------------------------------------------

    def track(self, objects: Mapping[str, object], *, found: bool = False) -> None:
        """Keep these objects from now on.

        Args:
            objects: by name.
            found: the script has not named them, and may drop them.

        Raises:
            UsageError: a name that is taken or not allowed, or an object nothing is known about.
        """
        for name, value in objects.items():
            if name.startswith(_OWN) or not name.isprintable() or not name or "/" in name:
                raise UsageError(
                    f"{name!r} cannot name a tracked object.", "Use an ordinary word, such as 'ema'."
                )
            known = self.objects
            if name in known and known[name] is not value:
                raise UsageError(f"Something else is already tracked as {name!r}.", "Give it another name.")
            (self.kept.find if found else self.kept.name)(name, value)

    @property
    def objects(self) -> dict[str, object]:
        """All objects that are kept now, by name."""
        return self.kept.objects

    def meet_loader(self, loader: object, states: Mapping[str, object] | None) -> None:
        """A loader is read from: its own generators are kept under its number, and restored when first met."""
        self.kept.meet_loader(loader, None if states is None else states.get(REST))

    def restore_loader(self, loader: object, states: Mapping[str, object]) -> None:
        """Set the generators of a loader that was met to where they were when the checkpoint was made."""
        self.kept.restore_loader(loader, states.get(REST))

    def optimizer_stepped(self) -> None:
        """Called after each optimizer step."""
        self.optimizer_steps += 1
        self.script.settled = True
        self.count_steps()
        self._window.stepped_at(self.step)

    def has_optimizer(self) -> bool:
        """Whether a named object is an optimizer, so that nothing needs to be found."""
        return any(
            (hasattr(value, "param_groups") and hasattr(value, "step")) or hasattr(value, "apply_gradients")
            for value in self.objects.values()
        )

    def find(self) -> list[str]:
        """Track what the watched loop uses; the names that are new."""
        if not self.found or self.raw is None:
            return []
        self.kept.release_dropped()
        present = self.raw.objects()
        self.kept.replace_found(present)
        objects = self.objects
        known = {id(value) for value in objects.values()}
        fresh = {
            name: value for name, value in present.items() if id(value) not in known and name not in objects
        }
        self.track(fresh, found=True)
        return list(fresh)

    def forget_found(self) -> None:
        """Another training begins: what was found for the one before is not kept any more."""
        self.kept.forget_found()

    # -- TrainingState -----------------------------------------------------------------------------------------------

    def states(self) -> Mapping[str, object]:
        if self.kept.all_dropped:
            raise UnsavableStateError("The script has dropped the model and the optimizer of its training.")
        self.script.let_go()
        own = self.own_part()
        states: dict[str, object] = {
            name: own[name] if name in own else tracked.capture()
            for name, tracked in self.kept.tracked().items()
        }
        rest = {name: one.capture() for name, one in self.kept.companions().items()}
        states |= with_part({REST: rest}, own)
        if self.other_ranks is not None:
            states[RANKS] = self.other_ranks(own)
        if self.is_spread():
            states = self._spread.to_save(states, self._other_parts())
        return states

    def is_spread(self) -> bool:
        """Whether arrays are trained of which each process holds a part."""
        return self._spread.are_in(self.objects.values())

    def shards(self) -> Shards:
        """What this process holds of such arrays."""
        if not self.is_spread():
            return {}
        return self._spread.divided(self._shared_states())[1]

    def _shared_states(self) -> dict[str, object]:
        states: dict[str, object] = {name: one.capture() for name, one in self.kept.tracked().items()}
        states[REST] = {name: one.capture() for name, one in self.kept.companions().items()}
        return states

    def _other_parts(self) -> OtherParts | None:
        if self.processes == 1:
            return lambda: ()
        return None if self.other_shards is None else self.other_shards()

    def own_part(self) -> dict[str, object]:
        """What is another in each process of one training: random generators, the place in the data, and objects that
        are neither model nor optimizer.
        """
        self.count_steps()
        objects = self.objects
        part: dict[str, object] = {
            name: tracked.capture()
            for name, tracked in self.kept.tracked().items()
            if not any(framework.is_replicated(objects[name]) for framework in self.frameworks)
        }
        if self.is_spread():  # what holds spread arrays is one state of all
            part = {name: state for name, state in part.items() if not self._spread.divided({name: state})[1]}
        frames = [
            replace(
                frame,
                opening=frame.opening.position(midway=frame.midway or frame.again) if frame.opening else None,
            )
            for frame in self.cursor.saved_frames()
        ]
        part[REST] = {name: one.capture() for name, one in self.kept.loader_companions().items()}
        part[LOOPS] = {
            "frames": frames_to_state(frames),
            "step": self.step,
            "processes": self.processes,
        }
        part[SCRIPT] = self.script.capture()
        part[RANDOM] = self.randomness()
        if self.raw is not None:
            part[_RAW] = self.raw.position()
        return part

    def processes_then(self, states: Mapping[str, Any]) -> int:
        """How many trained together when a checkpoint was made."""
        loops = states.get(LOOPS)
        return int(loops.get("processes", 1)) if isinstance(loops, Mapping) else 1

    def witness(self) -> Witness:
        stored = [framework.stored_with({}) for framework in self.frameworks]
        return Witness(
            self.script.state,
            tuple(self.objects.items()),
            belongs_to_attempt=lambda value: any(one(value) for one in stored),
        )

    def of_other_ranks(self, states: Mapping[str, Any], source: str) -> str:
        """A sentence where a checkpoint was made by another number of processes."""
        then = self.processes_then(states)
        if then == self.processes:
            return ""
        return (
            f"{source} was made by {then} processes and now there are {self.processes}: the random numbers and the "
            "place in the data of each process differ from those of the uninterrupted training."
        )

    def unkept(self) -> Sequence[Unkept]:
        return self.script.unkept

    def position(self) -> Position:
        self.count_steps()
        frames = self.cursor.saved_frames()[1:]
        epoch = next((f.index for f in frames if f.kind == "epochs"), None)
        batch = next((f.index for f in reversed(frames) if f.kind == "batches"), self.batches_over)
        return Position(self.step, epoch, batch, [[f.kind, f.ordinal, f.index] for f in frames])

    def environment(self) -> Mapping[str, Any]:
        facts: dict[str, Any] = {"python": platform.python_version(), "machine": platform.machine()}
        numpy = sys.modules.get("numpy")
        if numpy is not None:
            facts["numpy"] = numpy.__version__
        for framework in self.frameworks:
            facts.update(framework.environment())
        return facts

    def window_rest_s(self, step_s: float) -> float:
        return self._window.rest(self.step) * step_s

    def total_steps(self) -> int | None:
        return self.steps_planned

    def learning_rate(self) -> float | None:
        return rate_of(self.objects.values())

    def synchronize(self) -> None:
        for framework in self.frameworks:
            framework.synchronize()

    def release(self) -> None:
        """The box is closed: hold on to nothing of the script's."""
        self.raw = None
        self.kept.clear()
        for frame in self.cursor.frames:
            frame.opening = None
        del self.cursor.frames[1:]
        self.cursor.boundary = None

    # -- giving back -------------------------------------------------------------------------------------------

    def randomness(self) -> dict[str, object]:
        """The state of every global random generator now."""
        return {name: tracked.capture() for name, tracked in self._randomness.items()}

    def set_randomness(self, states: Mapping[str, object]) -> None:
        """Put every global random generator where it was."""
        for name, tracked in self._randomness.items():
            if states.get(name) is not None:
                tracked.restore(states[name])

    def saved_names(self, states: Mapping[str, object]) -> list[str]:
        """The names of tracked objects in a checkpoint."""
        return [name for name in states if not name.startswith(_OWN)]

    def restore_place(self, states: Mapping[str, object], source: str) -> None:
        """Set the step and the way back through the loops.

        Raises:
            StateMismatchError: the positions in the checkpoint make no sense.
        """
        loops = states.get(LOOPS)
        try:
            if not isinstance(loops, Mapping):
                raise ValueError("it holds no positions")
            self.cursor = Cursor.resumed(frames_from_state(loops["frames"]))
            self.step = int(loops["step"])
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise StateMismatchError(
                f"{source} was not made by a time box: {error}.",
                "Give a checkpoint that a time box made.",
            ) from error

    def restore_objects(self, states: Mapping[str, object], source: str) -> list[str]:
        """Restore all objects that are tracked now, or none; the names that had no state.

        Raises:
            StateMismatchError: a state does not fit; nothing was restored.
        """
        tracked = self.kept.tracked()
        if SHARDS in states or self.is_spread():
            states = self._spread.united(states, self._shared_states(), self.objects)
        restore_all(tracked, states, source)
        rest = states.get(REST)
        if isinstance(rest, Mapping):
            companions = {**self.kept.companions(), **self.kept.loader_companions()}
            restore_all(companions, {name: rest[name] for name in rest}, source)
        return [name for name in tracked if name not in states]

    def is_rearranged(self, states: Mapping[str, object]) -> bool:
        """Whether training had exchanged, added or removed arrays, so that the script's state has to come back before the
        objects that hold them.
        """
        if has_parts(states.get(SCRIPT)):
            return True
        if SHARDS in states or self.is_spread():
            return False
        tracked = self.kept.tracked()
        return any(name in states and one.mismatch(states[name]) is not None for name, one in tracked.items())

    def restore_randomness(self, states: Mapping[str, object]) -> None:
        """Set every random generator to where it was when the checkpoint was made."""
        saved = states.get(RANDOM)
        if isinstance(saved, Mapping):
            self.set_randomness(saved)

    def restore_script(self, states: Mapping[str, object]) -> list[Missing]:
        """Put back what the script itself had changed; what could not be. Earlier versions stored nothing of it."""
        saved = states.get(SCRIPT)
        return self.script.restore(saved) if isinstance(saved, Mapping) else []

    def raw_position(self, states: Mapping[str, object]) -> Any:
        """Where an unchanged loop stood, or None."""
        return states.get(_RAW)
