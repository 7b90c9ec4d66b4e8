"""What a framework package tells the core, so that the core need not know any framework.

A package announces itself by an entry point in the group `backprop.frameworks`, named after the module whose presence
in `sys.modules` wakes it. `backprop_torch` is one.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import cache
from types import FrameType
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from backprop_core.announced import Announcement, announced
from backprop_core.checkpoints.arrays import Translator
from backprop_core.checkpoints.shards import SavedShards, Shards

if TYPE_CHECKING:
    from backprop_core.ports.loaders import LoaderPasses, LoaderReading, RandomnessKeeper
    from backprop_core.ports.ranks import Ranks
    from backprop_core.ports.trained_objects import TrainedObjects
    from backprop_core.ports.unmodified_loop import LoopListener, RawLoop

GROUP = "backprop.frameworks"


class Tracked(Protocol):
    """One object whose state goes into every checkpoint."""

    def capture(self) -> object:
        """The state: plain values, arrays and tensors, without copying them."""
        ...

    def mismatch(self, state: object) -> str | None:
        """Why `state` cannot be restored into this object, as half a sentence, or None. Changes nothing."""
        ...

    def restore(self, state: object) -> None:
        """Put `state` back, in place."""
        ...


class ProcessSetting(NamedTuple):
    """One of what is set for a whole process, such as torch's default dtype.

    Attributes:
        value: what it is now, as a plain value.
        put: sets it. Raises whatever the framework raises for a value that it does not take.
    """

    value: object
    put: Callable[[Any], object]


class Groups(Protocol):
    """Which arrays an optimizer trains, as a variable that can be set: a `Namespace` of the script's state."""

    loops_counted: bool

    @property
    def name(self) -> str: ...

    def items(self) -> Iterable[tuple[str, object]]: ...

    def set(self, name: str, value: object) -> None: ...

    def delete(self, name: str) -> None: ...


class Framework(Protocol):
    """One framework's knowledge: its arrays, objects, randomness and loops."""

    @property
    def name(self) -> str: ...

    @property
    def translator(self) -> Translator: ...

    def adopt(self, value: object) -> Tracked | None:
        """A way to save `value`, if it is one of this framework's objects."""
        ...

    def companion(self, value: object, tracked: Mapping[str, object]) -> Tracked | None:
        """A further state that belongs to `value` but not into its own file, such as pending gradients.

        Args:
            value: a tracked object, or a loader.
            tracked: all tracked objects, a live view.
        """
        ...

    def script_parts(self, kind: type) -> frozenset[str] | None:
        """For a class of the framework's whose attributes are to be looked into: those that are no part of a script's state.

        None: the framework has no opinion on it.
        """
        ...

    def recipe(self, value: object) -> Mapping[str, Any] | None:
        """What `made` needs for an object like `value`, as plain JSON; None: only the script's code can make one.

        Of the attributes that it names in a list `without`, the new object has its own. If it has an entry `derived`, the
        object's class was made while the script ran, and `made` is given the one that it derives from.
        """
        ...

    def made(self, kind: type, recipe: Mapping[str, Any]) -> object:
        """An object of the class `kind` for which there was a `recipe`, still without the attributes that were stored."""
        ...

    def settle(self, value: object) -> None:
        """Something of `value` was put back past its own methods: what these would have done besides is done now."""
        ...

    def groups(self, name: str, value: object) -> Groups | None:
        """Which arrays an optimizer that is tracked as `name` trains, as names that can be set; None: it is none.

        What it trains is a part of the script's state, as it may change; all else of it is in its own file.
        """
        ...

    def stored_with(self, tracked: Mapping[str, object]) -> Callable[[object], bool]:
        """Whether a value is stored with the `tracked` objects or found again from a position, so no part of a script's."""
        ...

    def at_rest(self, tracked: Sequence[object]) -> AbstractContextManager[None]:
        """Inside, the `tracked` objects are as between two passes: what a pass has put into them for itself is put aside."""
        ...

    def randomness(self) -> Tracked:
        """The framework's global random generators."""
        ...

    def settings(self) -> Mapping[str, ProcessSetting]:
        """What a script can set in it for the whole process and bits or printed numbers depend on, by readable names."""
        ...

    def environment(self) -> Mapping[str, Any]:
        """Versions and flags that bit-exactness depends on, as plain JSON."""
        ...

    def reading(
        self, loader: object, randomness: RandomnessKeeper, *, replay: bool = False
    ) -> LoaderReading | None:
        """How to read `loader` with a position, or None if it is not one of this framework's.

        Args:
            replay: batches that are already trained are to be loaded again and thrown away.
        """
        ...

    def synchronize(self) -> None:
        """Wait until the accelerator has done what was asked, so that the clock tells the truth."""
        ...

    def watch_steps(self, stepped: Callable[[], None]) -> AbstractContextManager[None]:
        """Call `stepped` after each optimizer step inside this context."""
        ...

    def raw_loop(
        self, listener: LoopListener, randomness: RandomnessKeeper, caller: FrameType | None
    ) -> RawLoop | None:
        """Watch and steer an unchanged loop; `caller` is the frame that opened the block. None: it cannot be watched."""
        ...

    def trained_objects(self) -> TrainedObjects | None:
        """What trains in a script whose loops are counted; None: nothing is known of it beyond what the script names."""
        ...

    def loader_passes(self) -> LoaderPasses | None:
        """The passes over this framework's loaders; None: it has none."""
        ...

    def ranks(self) -> Ranks | None:
        """The processes that this one trains with, None if it is alone. All of them have to ask at the same time."""
        ...

    def knows_ranks(self) -> bool:
        """Whether this process knows of others that it trains with. Asked by one alone: nothing is exchanged."""
        ...

    def rank_stays_away(self, why: str) -> None:
        """This process will open no box with those: they hear it where they wait for it. Nothing where it has opened one."""
        ...

    def is_replicated(self, value: object) -> bool:
        """Whether all of them hold the same `value`, such as a model whose gradients are averaged, so that one saves it."""
        ...

    def refuse_nondeterminism(self) -> str:
        """From now on an operation that is not deterministic raises an error that names it.

        Returns:
            The call that does it, as it stands in a script; empty where the framework has none.
        """
        ...

    def holds_spread(self, values: Iterable[object]) -> bool:
        """Whether one of `values` trains arrays of which each of the processes holds a part."""
        ...

    def own_block(self, value: object) -> object:
        """What this process holds of an array that is spread over several; anything else as it is."""
        ...

    def divided(self, states: Mapping[str, object]) -> tuple[Mapping[str, object], Shards]:
        """`states` with marks in the place of such arrays, and what this process holds of them.

        Raises:
            UnsavableStateError: one that cannot be stored as it is.
        """
        ...

    def united(
        self,
        states: Mapping[str, Any],
        saved: SavedShards | None,
        here: Mapping[str, object],
        objects: Mapping[str, object],
        empty: Callable[[int], memoryview] | None = None,
    ) -> Mapping[str, Any]:
        """`states` of a checkpoint with arrays as this process holds them, whoever saved them.

        Args:
            saved: the parts of the processes that made it, or None.
            here: the same states as they are now.
            objects: what they are states of.
            empty: gives so many writable bytes for the arrays; None: memory.

        Raises:
            StateMismatchError: a part of an array is missing.
        """
        ...

    def is_tracing(self) -> bool:
        """Whether a function of the script runs to be traced: once, on stand-ins for arrays, and not to train."""
        ...

    def is_stop_debris(self, error: BaseException) -> bool:
        """Whether `error` is what a stop signal to a whole process group leaves behind (a killed loader worker)."""
        ...


@cache
def _entries() -> tuple[Announcement, ...]:
    return tuple(announced(GROUP))


_loaded: dict[str, Framework] = {}


def frameworks_in_use() -> list[Framework]:
    """The frameworks whose module the process has imported, in the order of their names: that is how they are asked.

    A Keras model on PyTorch is an `nn.Module` too; `keras` comes first.
    """
    found = []
    for entry in _entries():
        if entry.name in sys.modules:
            if entry.name not in _loaded:
                _loaded[entry.name] = entry.load()()
            found.append(_loaded[entry.name])
    return found


def is_tracing() -> bool:
    """Whether some framework is tracing just now."""
    return any(framework.is_tracing() for framework in frameworks_in_use())


def ranks_among(frameworks: Iterable[Framework]) -> Ranks | None:
    """The processes that this one trains with, as one of `frameworks` knows; None if it is alone."""
    return next((ranks for framework in frameworks if (ranks := framework.ranks()) is not None), None)


def stored_by(
    frameworks: Sequence[Framework], tracked: Mapping[str, object]
) -> list[Callable[[object], bool]]:
    """What each framework says is stored with the `tracked` objects.

    An object that a framework looks into is told to those alone that do. Any other would call it stored as a whole, and what
    the script keeps on it would be lost: an attribute of a Keras model on JAX, where torch is loaded, too.
    """
    found = []
    for framework in frameworks:
        others = [one for one in frameworks if one is not framework]
        told = {
            name: value
            for name, value in tracked.items()
            if framework.script_parts(type(value)) is not None
            or all(one.script_parts(type(value)) is None for one in others)
        }
        found.append(framework.stored_with(told))
    return found


def groups_in(frameworks: Iterable[Framework], tracked: Mapping[str, object]) -> list[Groups]:
    """Which arrays the optimizers among `tracked` train."""
    frameworks = list(frameworks)
    told = (framework.groups(name, value) for name, value in tracked.items() for framework in frameworks)
    return [one for one in told if one is not None]


def ranks_stay_away(frameworks: Iterable[Framework], why: str) -> None:
    """This process will open no box with others that it trains with, so that none of them waits for it."""
    for framework in frameworks:
        framework.rank_stays_away(why)
