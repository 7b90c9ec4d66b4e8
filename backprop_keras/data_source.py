"""What of a `fit`'s data is code of the script's, and what that changes."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from typing import Any

import keras

from backprop_core.ports.framework import Tracked, frameworks_in_use
from backprop_keras.pipelines import is_pipeline, runs_python
from backprop_keras.skip_batches import placeholder_for
from backprop_keras.sources import order_of
from backprop_keras.watched_source import HeldBack, HeldGenerator, WatchedDataset

_AN_ATTRIBUTE = 2
"""Steps to what an attribute of the data holds: the data, its name."""


class DataSource:
    """The source behind one data adapter of Keras'.

    Args:
        adapter: Keras' own. A PyDataset without workers and a Python generator are watched from now on.
        trained: batches of the running pass that are trained at least.

    Attributes:
        held: what the source has given.
    """

    def __init__(self, adapter: Any, trained: Callable[[], int]) -> None:
        self._adapter = adapter
        self._kind = type(adapter).__name__
        self._rest = _rest_of(getattr(adapter, "_dataloader", None))
        self.held = HeldBack(trained)
        if self._kind == "PyDatasetAdapter" and adapter.enqueuer is None:
            dataset = adapter.py_dataset = WatchedDataset(adapter.py_dataset, trained)
            self.held = dataset.held
        elif self._kind == "GeneratorDataAdapter":
            self.held = adapter.generator = HeldGenerator(adapter.generator, trained)

    @property
    def dataset(self) -> Any:
        """The script's PyDataset, if it is asked in this process and by one thread at a time; else None."""
        dataset = getattr(self._adapter, "py_dataset", None)
        return dataset.behind if isinstance(dataset, WatchedDataset) else None

    @property
    def shared_dataset(self) -> Any:
        """The script's PyDataset, if workers read it: ahead of training, several at a time, or in processes of their own."""
        dataset = None if self.dataset is not None else getattr(self._adapter, "py_dataset", None)
        return getattr(dataset, "behind", dataset)

    @property
    def repeats_code(self) -> bool:
        """Whether code of the script's runs ahead of training and nobody holds it back, so that a resume runs it again."""
        if self._kind == "TorchDataLoaderAdapter":
            return _asks_ahead()
        return is_pipeline(getattr(self._adapter, "_dataset", None)) and runs_python()

    def keeps(self, node: Mapping[str, Any]) -> bool:
        """Whether what has changed in a shared dataset comes back all the same: the order, and generators of its own."""
        if node["kind"] == "random":
            return True
        return len(node["path"]) == _AN_ATTRIBUTE and node["path"][1][1] in order_of(self._adapter)

    def resume(self, saved: Any, passed: int, *, midway: bool) -> None:
        """The pass that begins gives nothing of what is trained, then what had been given, then waits for its state.

        Args:
            passed: batches of the pass that are trained.
            midway: that state comes when they are passed over; else it is there.
        """
        self.held.resume(saved, passed)
        if self.dataset is not None:
            self._adapter.py_dataset.pass_over(passed, placeholder_for(self._adapter))
        if not midway:
            self.held.go_on()

    def rest(self) -> Any:
        """What else decides the passes of a torch DataLoader, such as a sampler that counts them."""
        return None if self._rest is None else self._rest.capture()

    def set_rest(self, state: Any) -> None:
        """Put back what `rest` gave, where it fits."""
        if self._rest is not None and state is not None and self._rest.mismatch(state) is None:
            self._rest.restore(state)


def _asks_ahead() -> bool:
    """Whether Keras asks for batches before it trains with them. On JAX it does but on a CPU, and once did there, too."""
    backend = keras.backend.backend()
    if backend != "jax":
        return bool(backend == "tensorflow")
    jax, trainer = sys.modules["jax"], sys.modules.get("keras.src.backend.jax.trainer")
    leaves_it = hasattr(getattr(trainer, "JAXEpochIterator", None), "_one_batch_ahead_iterator")
    return not leaves_it or bool(jax.default_backend() != "cpu")


def _rest_of(loader: Any) -> Tracked | None:
    """How the framework that a loader is from keeps what changes in it from pass to pass."""
    if loader is None:
        return None
    told = (framework.companion(loader, {}) for framework in frameworks_in_use())
    return next((one for one in told if one is not None), None)
