"""A framework package that knows a few things, and has no opinion on all else: the base of a small adapter."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from types import FrameType
from typing import Any

from backprop_core.checkpoints.arrays import Translator
from backprop_core.checkpoints.shards import SavedShards, Shards
from backprop_core.ports.framework import Groups, ProcessSetting, Tracked
from backprop_core.ports.loaders import LoaderPasses, LoaderReading, RandomnessKeeper
from backprop_core.ports.ranks import Ranks
from backprop_core.ports.trained_objects import TrainedObjects
from backprop_core.ports.unmodified_loop import LoopListener, RawLoop


class PartialFramework:
    """Implements `Framework` without any knowledge. Each method may be overridden; see there what it is asked for.

    Attributes:
        name: of the entry point: the module whose presence in `sys.modules` wakes the package.
        translator: of its arrays; that of the framework below where it has none of its own.
    """

    name: str
    translator: Translator

    def adopt(self, value: object) -> Tracked | None:
        return None

    def companion(self, value: object, tracked: Mapping[str, object]) -> Tracked | None:
        return None

    def script_parts(self, kind: type) -> frozenset[str] | None:
        return None

    def recipe(self, value: object) -> Mapping[str, Any] | None:
        return None

    def made(self, kind: type, recipe: Mapping[str, Any]) -> object:
        raise NotImplementedError(f"{self.name} has no recipes")

    def settle(self, value: object) -> None:
        """Its objects do nothing besides."""

    def groups(self, name: str, value: object) -> Groups | None:
        return None

    def stored_with(self, tracked: Mapping[str, object]) -> Callable[[object], bool]:
        return lambda value: False

    def at_rest(self, tracked: Sequence[object]) -> AbstractContextManager[None]:
        return nullcontext()

    def randomness(self) -> Tracked:
        return _NoState()

    def settings(self) -> Mapping[str, ProcessSetting]:
        return {}

    def environment(self) -> Mapping[str, Any]:
        return {}

    def reading(
        self, loader: object, randomness: RandomnessKeeper, *, replay: bool = False
    ) -> LoaderReading | None:
        return None

    def synchronize(self) -> None:
        """There is no accelerator of its own."""

    def watch_steps(self, stepped: Callable[[], None]) -> AbstractContextManager[None]:
        return nullcontext()

    def raw_loop(
        self, listener: LoopListener, randomness: RandomnessKeeper, caller: FrameType | None
    ) -> RawLoop | None:
        return None

    def trained_objects(self) -> TrainedObjects | None:
        return None

    def loader_passes(self) -> LoaderPasses | None:
        return None

    def ranks(self) -> Ranks | None:
        return None

    def knows_ranks(self) -> bool:
        return False

    def rank_stays_away(self, why: str) -> None: ...

    def is_replicated(self, value: object) -> bool:
        return False

    def refuse_nondeterminism(self) -> str:
        return ""

    def holds_spread(self, values: Iterable[object]) -> bool:
        return False

    def own_block(self, value: object) -> object:
        return value

    def divided(self, states: Mapping[str, object]) -> tuple[Mapping[str, object], Shards]:
        return states, {}

    def united(
        self,
        states: Mapping[str, Any],
        saved: SavedShards | None,
        here: Mapping[str, object],
        objects: Mapping[str, object],
        empty: Callable[[int], memoryview] | None = None,
    ) -> Mapping[str, Any]:
        return states

    def is_tracing(self) -> bool:
        return False

    def is_stop_debris(self, error: BaseException) -> bool:
        return False


class _NoState:
    """There are no random generators."""

    def capture(self) -> object:
        return None

    def mismatch(self, state: object) -> str | None:
        return None

    def restore(self, state: object) -> None: ...
