"""Objects that need no framework: anything with `state_dict`, containers, numpy arrays, random generators."""

from __future__ import annotations

import copy
import random
import struct
import sys
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from backprop_core import unseeded
from backprop_core.errors import StateMismatchError, UsageError
from backprop_core.ports.framework import Framework, Tracked
from backprop_core.quick_dataclass import dataclass


@dataclass(frozen=True, slots=True)
class StateDictTracked:
    """Anything that offers `state_dict()` and `load_state_dict(state)`.

    It gets a copy of its own: it may keep what it is given, change it, and be restored once more.
    """

    value: Any

    def capture(self) -> object:
        return self.value.state_dict()

    def mismatch(self, state: object) -> str | None:
        return None

    def restore(self, state: object) -> None:
        self.value.load_state_dict(copied(state))


@dataclass(frozen=True, slots=True)
class ContainerTracked:
    """A list or dict of plain values, restored in place so that the script's own name still points to it."""

    value: list[Any] | dict[Any, Any]

    def capture(self) -> object:
        return copy.copy(self.value)

    def mismatch(self, state: object) -> str | None:
        if type(state) is not type(self.value):
            return f"holds a {type(state).__name__}, not a {type(self.value).__name__}"
        return None

    def restore(self, state: Any) -> None:
        fresh = copy.deepcopy(state)
        if isinstance(self.value, list):
            self.value[:] = fresh
        else:
            self.value.clear()
            self.value.update(fresh)


@dataclass(frozen=True, slots=True)
class NumpyArrayTracked:
    """A numpy array, restored in place."""

    value: Any

    def capture(self) -> object:
        return self.value

    def mismatch(self, state: Any) -> str | None:
        have, want = (self.value.shape, self.value.dtype), (state.shape, state.dtype)
        return None if have == want else f"is {want[1]}{list(want[0])}, not {have[1]}{list(have[0])}"

    def restore(self, state: Any) -> None:
        self.value[...] = state


@dataclass(frozen=True, slots=True)
class PythonRandomTracked:
    """A `random.Random`, or the module `random` itself. Its words are kept as bytes, since many boundaries copy them."""

    value: Any

    def capture(self) -> object:
        version, words, gauss = self.value.getstate()
        return {"version": version, "words": struct.pack(f"<{len(words)}I", *words), "gauss": gauss}

    def mismatch(self, state: object) -> str | None:
        known = isinstance(state, dict) and {"version", "words", "gauss"} <= state.keys()
        return None if known else "is not the state of random.Random"

    def restore(self, state: Any) -> None:
        words = struct.unpack(f"<{len(state['words']) // 4}I", state["words"])
        self.value.setstate((state["version"], words, state["gauss"]))


@dataclass(frozen=True, slots=True)
class NumpyGeneratorTracked:
    """A `numpy.random.Generator`."""

    value: Any

    def capture(self) -> object:
        return NumpyBitsTracked(self.value.bit_generator).capture()

    def mismatch(self, state: Any) -> str | None:
        return NumpyBitsTracked(self.value.bit_generator).mismatch(state)

    def restore(self, state: Any) -> None:
        NumpyBitsTracked(self.value.bit_generator).restore(state)


@dataclass(frozen=True, slots=True)
class NumpyBitsTracked:
    """A `numpy.random.BitGenerator`, and how many children it has had (`Generator.spawn`)."""

    value: Any

    def capture(self) -> object:
        state = copy.deepcopy(self.value.state)
        spawned = getattr(self._seeds(), "n_children_spawned", 0)
        return {**state, "spawned": spawned} if spawned else state

    def _seeds(self) -> Any:
        return getattr(self.value, "seed_seq", getattr(self.value, "_seed_seq", None))

    def mismatch(self, state: Any) -> str | None:
        want, have = state.get("bit_generator"), self.value.state["bit_generator"]
        return None if want == have else f"is a {want}, not a {have}"

    def restore(self, state: Any) -> None:
        self.value.state = copy.deepcopy({key: one for key, one in state.items() if key != "spawned"})
        if "spawned" in state:
            NumpySeedsTracked(self._seeds()).restore(state)


@dataclass(frozen=True, slots=True)
class NumpySeedsTracked:
    """A `numpy.random.SeedSequence`: which child comes next."""

    value: Any

    def capture(self) -> object:
        return {"spawned": self.value.n_children_spawned}

    def mismatch(self, state: Any) -> str | None:
        return (
            None if isinstance(state, dict) and "spawned" in state else "is not the state of a SeedSequence"
        )

    def restore(self, state: Any) -> None:
        missing = state["spawned"] - self.value.n_children_spawned
        if missing > 0:
            self.value.spawn(missing)


@dataclass(frozen=True, slots=True)
class NumpyRandomStateTracked:
    """A `numpy.random.RandomState`."""

    value: Any

    def capture(self) -> object:
        return self.value.get_state()

    def mismatch(self, state: object) -> str | None:
        return None if isinstance(state, tuple) else "is not the state of a RandomState"

    def restore(self, state: Any) -> None:
        self.value.set_state(state)


@dataclass(frozen=True, slots=True)
class NumpyGlobalRandomTracked:
    """numpy's global `RandomState` (`numpy.random.seed` and friends), if numpy is loaded."""

    def capture(self) -> object:
        numpy = sys.modules.get("numpy")
        return None if numpy is None else numpy.random.get_state()

    def mismatch(self, state: object) -> str | None:
        return None

    def restore(self, state: Any) -> None:
        numpy = sys.modules.get("numpy")
        if state is not None and numpy is not None:
            numpy.random.set_state(state)


@dataclass(frozen=True, slots=True)
class UnseededTracked:
    """What generators that the script makes without a seed begin with, where that is the run's."""

    def capture(self) -> object:
        source = unseeded.entropy()
        return None if source is None else PythonRandomTracked(source).capture()

    def mismatch(self, state: object) -> str | None:
        return None

    def restore(self, state: Any) -> None:
        source = unseeded.entropy()
        if state is not None and source is not None:
            PythonRandomTracked(source).restore(state)


def track(name: str, value: object, frameworks: Iterable[Framework]) -> Tracked:
    """The way to save `value`.

    Raises:
        UsageError: nothing is known about objects of this kind.
    """
    for framework in frameworks:
        adopted = framework.adopt(value)
        if adopted is not None:
            return adopted
    of_numpy = _track_numpy(value)
    if of_numpy is not None:
        return of_numpy
    if isinstance(value, random.Random):
        return PythonRandomTracked(value)
    if callable(getattr(value, "state_dict", None)) and callable(getattr(value, "load_state_dict", None)):
        return StateDictTracked(value)
    if type(value) in (list, dict):
        return ContainerTracked(value)  # type: ignore[arg-type]
    raise UsageError(
        f"backprop cannot track {name}={type(value).__name__}(...): it has no state_dict() and load_state_dict().",
        "Give it these two methods, or track a list, dict, array, tensor or random generator instead.",
    )


def _track_numpy(value: object) -> Tracked | None:
    numpy = sys.modules.get("numpy")
    if numpy is None:
        return None
    if isinstance(value, numpy.ndarray):
        return NumpyArrayTracked(value)
    if isinstance(value, numpy.random.Generator):
        return NumpyGeneratorTracked(value)
    if isinstance(value, numpy.random.BitGenerator):
        return NumpyBitsTracked(value)
    if isinstance(value, numpy.random.SeedSequence):
        return NumpySeedsTracked(value)
    return NumpyRandomStateTracked(value) if isinstance(value, numpy.random.RandomState) else None


def copied(value: Any, memo: dict[int, Any] | None = None) -> Any:
    """A deep copy. torch does not copy a tensor that is spread over processes and begins inside its memory, or is no leaf of
    a graph: such a one makes its copy itself.
    """
    memo = {} if memo is None else memo
    if type(value) is dict:
        return {key: copied(one, memo) for key, one in value.items()}
    if type(value) in (list, tuple):
        return type(value)(copied(one, memo) for one in value)
    try:
        return copy.deepcopy(value, memo)
    except RuntimeError:
        if not (hasattr(value, "detach") and hasattr(value, "clone")):
            raise
        return value.detach().clone()


def restore_all(tracked: Mapping[str, Tracked], states: Mapping[str, object], source: str) -> None:
    """Restore every object, or none.

    Args:
        tracked: objects by name.
        states: their saved states by the same names; names without a state are left alone.
        source: where the states come from, for the message.

    Raises:
        StateMismatchError: a state does not fit its object; all objects are as they were before.
    """
    for name, holder in tracked.items():
        if name in states:
            why = holder.mismatch(states[name])
            if why is not None:
                raise StateMismatchError(
                    f"{source} does not fit this script: what was saved as {name!r} {why}. Nothing was restored.",
                    "Run the script as it was, or start from scratch with resume=False (a new run).",
                )
    undo: list[Callable[[], None]] = []
    for name, holder in tracked.items():
        if name not in states:
            continue
        try:
            before = copied(holder.capture())
            undo.append(lambda holder=holder, before=before: holder.restore(before))  # type: ignore[misc]
            holder.restore(states[name])
        except Exception as error:
            for step_back in reversed(undo):
                step_back()
            raise StateMismatchError(
                f"{source} does not fit this script: restoring {name!r} failed with "
                f"{type(error).__name__}: {error}. Nothing was restored.",
                "Run the script as it was, or start from scratch with resume=False (a new run).",
            ) from error
