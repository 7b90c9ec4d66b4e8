"""What differs between Keras' backends: one small module each, imported when that backend is the active one."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, Any, Protocol

import keras

from backprop_core.errors import UsageError

if TYPE_CHECKING:
    from backprop_core.prove.recorder import Recorder


class Backend(Protocol):
    """The active backend. Implemented by the modules of this package."""

    def array(self, variable: Any) -> Any:
        """The value of a Keras variable as a numpy array, without a copy where the memory allows it."""
        ...

    def value(self, array: Any) -> Any:
        """What to assign to a variable so that it gets the bits of `array` and shares no memory with it."""
        ...

    def attach(self, model: Any) -> None:
        """Make the model's variables hold the values of the running epoch."""
        ...

    def wait(self, logs: Mapping[str, Any]) -> None:
        """Wait until the step that returned `logs` has been computed."""
        ...

    def skip(self, arguments: tuple[Any, ...], batches: int) -> None:
        """Take `batches` batches from the iterator that the train function was given, and drop them."""
        ...

    def answer(self, arguments: tuple[Any, ...], logs: Mapping[str, Any]) -> Any:
        """What a train function returns that did nothing, and whose logs are `logs`."""
        ...

    def randomness(self) -> Any:
        """The state of the backend's own global generators, as plain values and numpy arrays, or None."""
        ...

    def set_randomness(self, state: Any) -> None:
        """Put back what `randomness` returned."""
        ...

    def environment(self) -> Mapping[str, Any]:
        """Versions and flags that bit-exactness depends on."""
        ...

    def refuse_nondeterminism(self) -> str:
        """From now on operations that are not deterministic raise an error; the call that does it, empty for none."""
        ...

    def noted(self, items: Any, recorder: Recorder) -> Any:
        """An iterator that the train function can take its batches from; each is noted when it is taken."""
        ...

    def batch_specification(self, epoch_iterator: Any) -> Any:
        """Shapes and dtypes of a batch, known without taking one, or None."""
        ...

    def order_is_lost(self, epoch_iterator: Any) -> str:
        """One sentence where this data comes in another order in every process, whatever we do; else empty."""
        ...


@cache
def active() -> Backend:
    """The backend that Keras was imported with.

    Raises:
        UsageError: it cannot train.
    """
    name = keras.backend.backend()
    if name not in ("tensorflow", "torch", "jax"):
        raise UsageError(
            f"Keras runs on the backend {name!r}, which cannot train.",
            "Set KERAS_BACKEND to tensorflow, torch or jax.",
        )
    module: Any = import_module(f"backprop_keras.backends.on_{name}")
    return module  # type: ignore[no-any-return]
