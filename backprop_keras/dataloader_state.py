"""Where training stands in its data, and how a fresh process gets there again.

Keras makes an iterator at the beginning of an epoch, or keeps one over many epochs when `steps_per_epoch` is given. Its
order depends on the generators at three instants: when the epoch began, when the iterator was made, and when its first
batch was asked for (torch draws at the second and the third, JAX at the third). Each is noted as it passes, without moving
any of them, and set again on a resume; then the batches that are trained already are passed over.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import islice
from typing import Any

import keras

from backprop_core.errors import StateMismatchError
from backprop_core.ports import pass_position
from backprop_core.ports.pass_position import Draws, PassPosition
from backprop_keras import rng_state
from backprop_keras.batch_iterators import TellsFirst, seen
from backprop_keras.data_source import DataSource
from backprop_keras.loader_reading import LoaderWithWorkers, lost_in_workers
from backprop_keras.pipelines import UNSEEDED, is_pipeline, shuffles_without_seed
from backprop_keras.skip_batches import PassingOver, loader_behind
from backprop_keras.sources import (
    order_of,
    own_generator_states,
    ready_batches,
    set_order,
    set_own_generators,
    set_ready_batches,
)

_REPLAY = (
    "The data comes from a Python generator: a resume draws and discards the batches that were trained, which is exact if "
    "each process gives the same batches. A keras.utils.PyDataset skips them for free."
)

_TRAINING, _VALIDATION = 0, 1


class DataPlace:
    """The training data of one `fit`.

    Args:
        epoch_iterator: Keras' own.
        validation: the validation data, which may come from the same pipeline.

    Attributes:
        epoch_iterator: Keras' own, which is watched and on a resume led.
        to_pass: executions that are still to be passed over in this epoch.
        exhausted: there is nothing behind the batches that are passed over, and Keras had found that out already. To ask
            again would move SeedGenerators once more: TensorFlow runs what does not depend on the missing batch.
        caveat: one sentence on what this data needs to come back exactly, or empty.
        lost_order: one sentence where no process gives the order of another, or empty.
        source: what the script's own code gives, and how far it is ahead of training.
        pass_begins: called before the first batch of a pass is asked for, when the data has heard of the epoch.
        say: tells the user something once; nothing if it is empty.
    """

    def __init__(self, epoch_iterator: Any, validation: Any = None) -> None:
        self._validation = validation
        self._validating: Any = None
        self.epoch_iterator = epoch_iterator
        self.to_pass = 0
        self.exhausted = False
        self._adapter = epoch_iterator.data_adapter
        self._kind = type(self._adapter).__name__
        self.caveat = _REPLAY if self._kind == "GeneratorDataAdapter" else ""
        pipeline = getattr(self._adapter, "_dataset", None)
        self.lost_order = UNSEEDED if is_pipeline(pipeline) and shuffles_without_seed(pipeline) else ""
        self._made: list[list[int]] = []
        self._running: int | None = None
        self._epoch_start: Any = None
        self._ready: list[Any] = []
        self._order: dict[str, Any] = {}
        self._pass: PassPosition | None = None
        self._saved: Any = None
        self._boundary: Any = None
        self._prefix = self._to_correct = self._passed = 0
        self._passing: PassingOver | None = None
        self.pass_begins: Callable[[], None] = lambda: None
        self._loader_start: Any = None
        self.source = DataSource(self._adapter, self._trained_at_least)
        self.say: Callable[[str], None] = lambda text: None
        self._loader = LoaderWithWorkers.of(self._adapter)
        self._make = type(epoch_iterator)._get_iterator
        vars(epoch_iterator)["_get_iterator"] = self._get_iterator

    def _trained_at_least(self) -> int:
        return int(self.epoch_iterator._steps_seen) - self.executions

    @property
    def executions(self) -> int:
        """Batches that one call of the train function takes."""
        return int(self.epoch_iterator.steps_per_execution)

    @property
    def length(self) -> int | None:
        """Batches in an epoch, where Keras knows."""
        number = self.epoch_iterator.num_batches
        return None if number is None else int(number)

    # -- noting ------------------------------------------------------------------------------------------------

    def epoch_begins(self) -> None:
        """All callbacks have seen the beginning of the epoch; nothing of its data has been asked for."""
        if self._saved is None:
            self._epoch_start = self.randomness()
            self._ready = ready_batches(self._adapter)
            self._order = order_of(self._adapter)

    def validation_begins(self, epoch_iterator: Any) -> None:
        """Keras is about to read validation data. Its iterators count among those that were made, see `_replay`."""
        self._validating = epoch_iterator
        if epoch_iterator is None or "_get_iterator" in vars(epoch_iterator):
            return
        make = type(epoch_iterator)._get_iterator
        last: list[int] = [_VALIDATION, 0]

        def get_iterator() -> Any:
            nonlocal last
            last[1] = int(epoch_iterator._steps_seen)
            last = [_VALIDATION, 0]
            self._made.append(last)
            return make(epoch_iterator)

        vars(epoch_iterator)["_get_iterator"] = get_iterator

    def validation_ended(self) -> None:
        """The last iterator has no successor yet that says how much was taken from it."""
        if self._validating is not None and self._made and self._made[-1][0] == _VALIDATION:
            self._made[-1][1] = int(self._validating._steps_seen)

    def position(self, batch: int, *, exhausted: bool = False) -> dict[str, Any]:
        """What `resume` needs, as plain values and arrays.

        Args:
            batch: batches of this epoch that are trained.
            exhausted: Keras has found out that there are no more by asking for one.
        """
        kept = (
            self.epoch_iterator.steps_per_epoch is not None
            and self.epoch_iterator._current_iterator is not None
        )
        is_open = batch > 0 or kept
        self._count_taken()
        at = self._running if is_open else None
        seen = int(self.epoch_iterator._steps_seen)
        return {
            "kind": self._kind,
            "length": self.length,
            "made": [list(one) for index, one in enumerate(self._made) if index != at],
            "open": is_open,
            "exhausted": exhausted,
            "epoch_start": self._epoch_start if is_open else None,
            **pass_position.keras_to_state(self._running_pass() if is_open else None),
            "ready": self._ready if is_open else ready_batches(self._adapter),
            "order": self._order if is_open else order_of(self._adapter),
            "source": self.source.held.position(seen if kept else batch) if is_open else None,
            "loader_start": self._loader_start if is_open else None,
            "workers": None if self._loader is None else self._loader.position(is_open=is_open, given=seen),
        }

    def _running_pass(self) -> PassPosition | None:
        seen = int(self.epoch_iterator._steps_seen)
        return None if self._pass is None else replace(self._pass, given=seen)

    def _draws(self) -> Draws:
        return Draws(rng_state.capture(), own_generator_states(self._adapter))

    def _set_draws(self, draws: Draws) -> None:
        rng_state.restore(draws.everybodys)
        set_own_generators(self._adapter, draws.own)

    def randomness(self) -> dict[str, Any]:
        """Every generator that training draws from, those that a torch DataLoader owns included."""
        own = own_generator_states(self._adapter)
        return {**rng_state.capture(), "loader": own, "loader_rest": self.source.rest()}

    def set_randomness(self, state: Any) -> None:
        """Put back what `randomness` returned."""
        if state is None:
            return
        rng_state.restore(state)
        set_own_generators(self._adapter, state["loader"])
        self.source.set_rest(state.get("loader_rest"))

    # -- finding back ------------------------------------------------------------------------------------------

    def mismatch(self, saved: Any, batch: int) -> str | None:
        """Why training cannot go on behind `batch` batches of this data, as half a sentence, or None."""
        if batch and saved["length"] != self.length and None not in (saved["length"], self.length):
            return f"stopped in an epoch of {saved['length']} batches, but here an epoch has {self.length}"
        if batch % self.executions and batch != self.length:
            return f"stopped after batch {batch}, which steps_per_execution={self.executions} cannot find"
        return None

    def resume(self, saved: Any, batch: int, boundary: Any) -> None:
        """The next pass is to stand behind `batch` batches; then the generators stand where they stood at the boundary.

        Raises:
            StateMismatchError: the data ends before.
        """
        self._saved, self._boundary = saved, boundary
        self.caveat = self.caveat or lost_in_workers(self._adapter, midway=bool(saved["open"]))
        is_torch = keras.backend.backend() == "torch"
        self.exhausted = saved["exhausted"] and not is_torch  # there no train function is asked
        self._made = [list(one) for one in saved["made"]]
        self._replay(self._made)
        self.to_pass = -(-batch // self.executions)
        kept = self.epoch_iterator.steps_per_epoch is not None  # else the iterator was made in this epoch
        self._prefix = max(0, saved["seen"] - self.to_pass * self.executions) if kept else 0
        set_ready_batches(self._adapter, saved["ready"])
        if self.source.dataset is None or "source" not in saved:
            set_order(self._adapter, saved["order"])
        # else it comes back with the script's state, as the object that others of the script's know, too
        self._ready, self._order = saved["ready"], saved["order"]
        if not saved["open"]:
            self._saved = None
            if self._loader is not None:
                self.say(self._loader.begin_unread(saved.get("workers")))
            self.set_randomness(boundary)
            self._epoch_start = self.randomness()
            return
        self._epoch_start = saved["epoch_start"]
        self.set_randomness(self._epoch_start)
        self._passed = self._prefix + batch
        to_compute = 0 if self._prefix else max(0, batch - len(self._ready))
        self._passing = PassingOver.of(self._adapter, to_compute, self._epoch_start, saved["first"])

    def replay_source(self, saved: Any, batch: int) -> None:
        """A Python generator gives what it had given, under the random numbers with which its pass began."""
        if (
            self._kind != "GeneratorDataAdapter" or "source" not in saved
        ):  # a checkpoint from before sources were watched
            return
        kept = self.epoch_iterator.steps_per_epoch is not None
        running = pass_position.keras_from_state(saved) if saved["open"] else None
        if running is not None:
            rng_state.restore(running.begun.everybodys)
        passes = [taken for which, taken in saved["made"] if which == _TRAINING]
        self._adapter.generator.replay(passes, saved["source"], saved["seen"] if kept else batch)

    def _replay(self, made: list[list[int]]) -> None:
        """Iterators of earlier epochs leave traces in what they were made from: tf.data counts its reshufflings.

        On TensorFlow the iterator of a tf.data pipeline exists as soon as Keras makes one, elsewhere with its first batch.
        """
        at_once = keras.backend.backend() == "tensorflow"
        for which, taken in made:
            if (
                which == _TRAINING
                and self._kind == "GeneratorDataAdapter"
                and not self._adapter.generator.is_replayed
            ):
                next(islice(self._adapter.generator.behind(), taken, taken), None)
            dataset: Any = (
                self._validation if which == _VALIDATION else getattr(self._adapter, "_dataset", None)
            )
            if (taken or at_once) and is_pipeline(dataset):
                iterator = iter(dataset)
                next(iterator, None) if taken else None

    def _count_taken(self) -> None:
        if self._running is not None:
            self._made[self._running][1] = int(self.epoch_iterator._steps_seen)

    def _get_iterator(self) -> Any:
        """In place of the epoch iterator's own method."""
        self._count_taken()
        self.source.held.begin_pass()
        self.pass_begins()
        self._made.append([_TRAINING, 0])
        self._running = len(self._made) - 1
        saved, self._saved = self._saved, None
        if saved is None:
            self._loader_start = self.source.rest()
            self._pass = PassPosition(self._draws())
            return self._watched(self._make(self.epoch_iterator))
        self._pass = pass_position.keras_from_state(saved)
        self.source.resume(saved.get("source"), self._passed, midway=bool(self.to_pass))
        self._loader_start = saved.get("loader_start")
        self.source.set_rest(self._loader_start)
        if self._pass is not None and (self._passing is None or not self._passing.shuffles_in_a_thread):
            self._set_draws(self._pass.begun)
        return self._found(self._make(self.epoch_iterator), saved.get("workers"))

    def _watched(self, inner: Any) -> Any:
        if keras.backend.backend() == "tensorflow":  # its train function wants the real iterator
            return seen(inner)
        iterator = iter(inner) if self._loader is None else self._loader.begin()
        return seen(TellsFirst(iterator, self._asked_first))

    def _asked_first(self) -> None:
        if self._pass is not None:
            self._pass = replace(self._pass, first=self._draws())

    def _found(self, inner: Any, workers: Any) -> Any:
        """An iterator behind the batches of earlier epochs that were taken from it; those of this epoch follow."""
        ahead = self.to_pass * self.executions
        backend = keras.backend.backend()
        if self._loader is not None:
            iterator = seen(self._loader.resume(workers, self._prefix, ahead, self._set_first))
            self.say(self._loader.caveat)
        elif backend == "torch" and self._prefix + ahead:
            iterator = seen(
                loader_behind(inner, self._prefix + ahead, placeholders=ahead, before=self._set_first)
            )
        elif backend == "tensorflow":
            iterator = iter(seen(inner))
        else:
            iterator = seen(TellsFirst(iter(inner), self._set_first))
        if self._prefix and backend != "torch":
            taken = sum(1 for _ in islice(iterator, self._prefix))
            if taken < self._prefix:
                raise StateMismatchError(
                    f"The data ended after {taken} batches, but {self._prefix} had been trained.",
                    "Give the data that the run started with.",
                )
        self._to_correct = self._prefix
        if not self.to_pass:
            self.set_randomness(self._boundary)
        return iterator

    def _set_first(self) -> None:
        first = None if self._pass is None else self._pass.first
        if first is None:
            self._asked_first()
        elif self._passing is None or not self._passing.shuffles_in_a_thread:
            self._set_draws(first)

    def batch_begins(self) -> None:
        """Keras counts the batches of an iterator; those of earlier epochs are added now that it has begun to."""
        if self._to_correct:
            self.epoch_iterator._steps_seen += self._to_correct
            self._to_correct = 0

    def passed_one(self) -> bool:
        """One execution has been passed over. True: it was the last, and everything stands as at the boundary."""
        self.to_pass -= 1
        if self.to_pass:
            return False
        if self._passing is not None:
            self._passing.end()
            self._passing = None
        self.set_randomness(self._boundary)
        return True
