"""The place behind all other callbacks of a `fit`, whatever their order.

Keras tells callbacks apart from nothing but their list. Standing in that list would make the state that is saved depend on
the order in which the user wrote the callbacks, and would make Keras read the logs, which waits for the device. So the
hooks of the `CallbackList` of this one `fit` are followed instead, as attributes of that object, which dies with the `fit`.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from types import FrameType
from typing import Any, Protocol

import keras

from backprop_core.errors import UsageError
from backprop_core.quick_dataclass import dataclass


class FitListener(Protocol):
    """What follows the hooks of one `fit`."""

    skipping: bool
    """The batch that Keras is about to train was trained before: nobody is told of it."""

    def epoch_begun(self, epoch: int) -> None: ...

    def batch_begun(self) -> None: ...

    def batch_ended(self, batch: int, logs: Any) -> None: ...

    def validation_begun(self) -> None: ...

    def validation_batch_ended(self) -> None: ...

    def epoch_is_over(self, epoch: int) -> bool:
        """Asked before the others hear of it; False: it is not, they do not."""
        ...

    def epoch_ended(self, epoch: int) -> None: ...

    def training_is_over(self) -> Any:
        """Asked before the others hear of it; a context in which they do."""
        ...

    def training_ended(self) -> None: ...

    def abandoned(self) -> None:
        """The `fit` is gone without an end: an exception has left it."""
        ...


@dataclass(frozen=True, slots=True)
class FitArguments:
    """The arguments of a running `fit` that a callback is not told."""

    epoch_iterator: Any
    epochs: int
    validates: bool
    validation_x: Any
    validation_freq: Any
    callback_list: weakref.ref[Any]
    x: Any = None

    @property
    def callbacks(self) -> list[Any]:
        """All callbacks, History among them."""
        alive = self.callback_list()
        return [] if alive is None else list(alive.callbacks)


def running_fit(callback: Any, frame: FrameType | None) -> FitArguments:
    """The `fit` that calls `callback`, found by walking up from `frame`: Keras hands a callback nothing but the model.

    Raises:
        UsageError: `frame` is not inside a `fit`.
    """
    found: Any = None
    while frame is not None:
        owner = frame.f_locals.get("self")
        if isinstance(owner, keras.callbacks.CallbackList) and any(c is callback for c in owner.callbacks):
            found = owner
        if found is not None and "epoch_iterator" in frame.f_locals and frame.f_code.co_name == "fit":
            given = frame.f_locals
            return FitArguments(
                given["epoch_iterator"],
                given["epochs"],
                given.get("validation_data") is not None,
                given.get("val_x"),
                given.get("validation_freq", 1),
                weakref.ref(found),
                given.get("x"),
            )
        frame = frame.f_back
    raise UsageError(
        "BackpropCallback was called by something other than model.fit.",
        "Pass it as model.fit(..., callbacks=[BackpropCallback()]); for a loop of your own use backprop.timebox().",
    )


def when_all_have_begun(callback_list: Any, then: Callable[[], None]) -> None:
    """Called while `callback_list` tells of the training's begin: calls `then` behind the last callback that is told."""

    alive = weakref.ref(callback_list)  # a class lives until the garbage collector comes: it holds nothing

    class Last(keras.callbacks.Callback):  # type: ignore[misc]
        def on_train_begin(self, logs: Any = None) -> None:
            told: Any = alive()
            told.callbacks[:] = [one for one in told.callbacks if one is not self]
            then()

    callback_list.callbacks.append(Last())  # the list is being walked through: it is the end that grows


def _batches_are_heard(callback_list: Any) -> bool:
    """Whether any callback has a hook behind a batch. If none has, Keras still hands every batch to a thread, which calls
    nothing and takes longer than a small step.
    """
    if type(callback_list) is not keras.callbacks.CallbackList:
        return True
    hooks = ("on_batch_end", "on_train_batch_end")
    return not all(  # Keras marks its own empty hooks so
        getattr(getattr(callback, hook, None), "_is_default", False)
        for callback in callback_list.callbacks
        for hook in hooks
    )


def take_seat(callback_list: Any, listener: FitListener) -> Callable[[], None]:
    """Have `listener` follow the hooks of `callback_list`. Returns what takes it out of there."""
    kind = type(callback_list)
    alive = weakref.ref(callback_list)  # no cycle, so that an abandoned fit is noticed with its last frame
    batches_are_heard = True

    def on_epoch_begin(epoch: int, logs: Any = None) -> None:
        nonlocal batches_are_heard
        kind.on_epoch_begin(alive(), epoch, logs)
        batches_are_heard = _batches_are_heard(alive())
        listener.epoch_begun(epoch)

    def on_train_batch_begin(batch: int, logs: Any = None) -> None:
        listener.batch_begun()
        if not listener.skipping:
            kind.on_train_batch_begin(alive(), batch, logs)

    def on_train_batch_end(batch: int, logs: Any = None) -> None:
        if batches_are_heard and not listener.skipping:
            kind.on_train_batch_end(alive(), batch, logs)
        listener.batch_ended(batch, logs)

    def on_test_begin(logs: Any = None) -> None:
        listener.validation_begun()
        kind.on_test_begin(alive(), logs)

    def on_test_batch_end(batch: int, logs: Any = None) -> None:
        kind.on_test_batch_end(alive(), batch, logs)
        listener.validation_batch_ended()

    def on_epoch_end(epoch: int, logs: Any = None) -> None:
        if listener.epoch_is_over(epoch):
            kind.on_epoch_end(alive(), epoch, logs)
            listener.epoch_ended(epoch)

    def on_train_end(logs: Any = None) -> None:
        with listener.training_is_over():
            kind.on_train_end(alive(), logs)
        listener.training_ended()

    hooks: dict[str, Callable[..., None]] = {
        hook.__name__: hook
        for hook in (
            on_epoch_begin,
            on_train_batch_begin,
            on_train_batch_end,
            on_test_begin,
            on_test_batch_end,
            on_epoch_end,
            on_train_end,
        )
    }
    vars(callback_list).update(hooks)
    gone = weakref.finalize(callback_list, listener.abandoned)

    def leave() -> None:
        gone.detach()
        still = alive()
        for name in hooks:
            if still is not None:
                vars(still).pop(name, None)

    return leave
