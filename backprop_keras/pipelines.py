"""A `tf.data` pipeline in a loop of the user's own, without importing TensorFlow.

A pipeline that shuffles anew in every pass counts the iterators that were made of it, and a fresh process begins to count
at none. So the passes over each pipeline are counted here and made again, by an iterator that is asked for one item.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from itertools import islice
from typing import Any
from weakref import ref

from backprop_core.loop.replay import begun
from backprop_core.ports.loaders import LoaderReading, RandomnessKeeper
from backprop_core.quick_dataclass import dataclass
from backprop_core.weak_identity import WeakIdentityMap

UNSEEDED = (
    "The tf.data pipeline shuffles without a seed, so a resume cannot restore its order. Give it a seed, "
    "shuffle(n, seed=1), or start the script with keras.utils.set_random_seed(1)."
)


def is_pipeline(data: Any) -> bool:
    """Whether it is a `tf.data.Dataset`."""
    return any(
        kind.__name__ == "DatasetV2" and kind.__module__.startswith("tensorflow.")
        for kind in type(data).__mro__
    )


def shuffles_without_seed(dataset: Any) -> bool:
    """Whether a shuffle anywhere in the pipeline draws its order from nothing that another process could know."""
    ahead, seen = [dataset], 0
    with suppress(Exception):  # what TensorFlow does not show is no reason to stop a training
        while ahead and seen < 1_000:
            one, seen = ahead.pop(), seen + 1
            seeds: list[Any] = [getattr(one, name, None) for name in ("_seed", "_seed2")]
            if "Shuffle" in type(one).__name__ and None not in seeds and not any(int(seed) for seed in seeds):
                return True
            ahead += one._inputs()
    return False


def runs_python() -> bool:
    """Whether any pipeline of this process calls functions in Python, such as a generator's."""
    module = sys.modules.get("tensorflow.python.ops.script_ops")
    functions = getattr(getattr(module, "_py_funcs", None), "_funcs", None)
    return functions is None or bool(len(functions))


def _nothing() -> None:
    """No iterator."""


@dataclass(slots=True)
class PassCount:
    """Of one pipeline in this process.

    Attributes:
        begun: iterators made of it.
        due: iterators that had been made of it when the checkpoint was made.
        made: the newest iterator that the script has made itself, as `enumerate` does: of its pass there is no other.
    """

    begun: int = 0
    due: int = 0
    made: Callable[[], Any] = _nothing

    def made_for(self, number: int) -> Any:
        """The script's own iterator for the pass of this number, once; None where it has made none."""
        made, self.made = self.made(), _nothing
        return made if self.begun == number + 1 else None


class PassLedger:
    """The passes over every pipeline of the process."""

    def __init__(self) -> None:
        self._known: WeakIdentityMap[PassCount] = WeakIdentityMap()

    def of(self, dataset: Any) -> PassCount:
        known = self._known.get(dataset)
        if known is None:
            known = self._known[dataset] = PassCount()
        return known


@dataclass(frozen=True, slots=True)
class PassesTracked:
    """The number of passes over one pipeline, in every checkpoint."""

    passes: PassCount

    def capture(self) -> object:
        return {"begun": self.passes.begun}

    def mismatch(self, state: Any) -> str | None:
        fits = isinstance(state, dict) and isinstance(state.get("begun"), int)
        return None if fits else "is not the number of passes over a tf.data pipeline"

    def restore(self, state: Any) -> None:
        self.passes.due = state["begun"]


class PipelineReading:
    """One pass over a pipeline: what is trained is read again inside tf.data and dropped."""

    def __init__(self, dataset: Any, passes: PassCount, randomness: RandomnessKeeper) -> None:
        self._dataset, self._passes, self._randomness = dataset, passes, randomness
        self._before: Any = None
        self.batch_size: int | None = None
        self.caveat = UNSEEDED if shuffles_without_seed(dataset) else ""
        length = int(dataset.cardinality())
        self.length = None if length < 0 else length

    def begin(
        self, saved: Any | None, skip: int, resume_randomness: Callable[[], None] | None
    ) -> Iterator[Any]:
        passes = self._passes
        if saved is not None and "passes" not in saved:  # a checkpoint from before passes were counted
            saved = {"randomness": saved, "passes": passes.due}
        if saved is not None:
            self._randomness.set_randomness(saved["randomness"])
        iterator: Iterator[Any] | None = None if saved is None else passes.made_for(saved["passes"])
        if iterator is not None:
            self._before = saved
        else:
            for _ in range(passes.begun, passes.due if saved is None else saved["passes"]):
                next(iter(self._dataset), None)
                passes.begun += 1
            self.note_start()
            iterator = iter(self._dataset)
        if skip:
            next(islice(iterator, skip - 1, skip), None)
        if saved is not None and resume_randomness is not None:
            iterator = iterator if skip else begun(iterator)
            resume_randomness()
        return iterator

    def note_start(self) -> None:
        """A pass begins now, whoever begins it."""
        self._before = {"randomness": self._randomness.randomness(), "passes": self._passes.begun}
        self._passes.begun += 1

    def has_begun(self, iterator: Any) -> None:
        """The script has made the iterator of the pass that began."""
        self._passes.made = ref(iterator)

    def position(self, *, midway: bool) -> Any:
        return self._before


class PipelinePasses:
    """Passes over `tf.data` pipelines that a script begins by itself. Implements the port `LoaderPasses`.

    Args:
        reading: how a pipeline is read with a position.
    """

    threads = None

    def __init__(self, reading: Callable[[object, RandomnessKeeper], LoaderReading | None]) -> None:
        self._reading = reading
        self._begun: WeakIdentityMap[tuple[Any, LoaderReading]] = WeakIdentityMap()
        self._inside = False

    @contextmanager
    def watch(self, randomness: RandomnessKeeper) -> Iterator[None]:
        """Inside, every pass that begins is remembered."""
        module = sys.modules.get("tensorflow.python.data.ops.dataset_ops")
        kind = getattr(module, "DatasetV2", None)
        if kind is None:
            yield
            return
        original = kind.__iter__

        def begin_pass(dataset: Any) -> Any:
            if self._inside:
                return original(dataset)
            self._inside = True
            try:
                reading = self._reading(dataset, randomness)
                if reading is not None:
                    reading.note_start()
                iterator = original(dataset)
            finally:
                self._inside = False
            if reading is not None:
                if isinstance(reading, PipelineReading):
                    reading.has_begun(iterator)
                self._begun[iterator] = (dataset, reading)
            return iterator

        kind.__iter__ = begin_pass
        try:
            yield
        finally:
            if kind.__iter__ is begin_pass:
                kind.__iter__ = original

    def made_by(self, iterator: object) -> tuple[Any, LoaderReading] | None:
        """The pipeline that made `iterator`, and the reading that knows how its pass began."""
        return self._begun.get(iterator)

    def waits(self, iterator: object) -> None:
        """None: an iterator of this framework's has begun its pass when it is there."""

    def given_by(self, iterator: object) -> int | None:
        """Nobody counts the batches of a pipeline's iterator."""
        return None

    def remember(self, iterator: object, loader: object, reading: LoaderReading) -> None:
        """Nothing to do: see `given_by`."""

    def is_loader(self, source: object) -> bool:
        """Whether it is a pipeline of tf.data."""
        return is_pipeline(source)
