"""What Keras' own callbacks remember from epoch to epoch, and History. Their on_train_begin forgets it, so it is put back
after that.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import keras
import numpy as np

_LARGEST_LOG = 4 << 20
_NAMES: Mapping[str, tuple[str, ...]] = {
    "EarlyStopping": ("wait", "stopped_epoch", "best", "best_epoch", "best_weights"),
    "ReduceLROnPlateau": ("best", "wait", "cooldown_counter"),
    "ModelCheckpoint": ("best", "_batches_seen_since_last_saving", "_last_batch_seen"),
    "BackupAndRestore": ("_batches_seen_since_last_saving", "_last_batch_seen", "_current_epoch"),
    "SwapEMAWeights": ("_ema_weights_in_model",),
    "TensorBoard": ("_global_train_batch", "_global_test_batch", "_previous_epoch_iterations"),
    "History": ("history", "epoch"),
}


def capture(callbacks: Sequence[Any]) -> dict[str, Any]:
    """States by a name that is the same in every process."""
    states = {}
    for name, callback in _named(callbacks):
        state = _capture_one(callback)
        if state is not None:
            states[name] = state
    return states


def restore(callbacks: Sequence[Any], states: Any) -> None:
    """Give each callback its state; one that is new in the list keeps its own."""
    for name, callback in _named(callbacks):
        if name in states:
            _restore_one(callback, states[name])


def _named(callbacks: Sequence[Any]) -> Iterator[tuple[str, Any]]:
    count: dict[str, int] = {}
    for callback in callbacks:
        kind = type(callback).__name__
        count[kind] = count.get(kind, 0) + 1
        yield f"{kind} {count[kind]}", callback


def _speaks(callback: Any) -> bool:
    return all(callable(getattr(callback, name, None)) for name in ("state_dict", "load_state_dict"))


def _capture_one(callback: Any) -> Any:
    if _speaks(callback):
        return callback.state_dict()
    if isinstance(callback, keras.callbacks.CSVLogger):
        return _capture_log(callback)
    names = _names_of(callback)
    return {name: _plain(getattr(callback, name)) for name in names if hasattr(callback, name)} or None


def _restore_one(callback: Any, state: Any) -> None:
    if _speaks(callback):
        callback.load_state_dict(state)
    elif isinstance(callback, keras.callbacks.CSVLogger):
        _restore_log(callback, state)
    else:
        for name in _names_of(callback):
            if name in state:
                setattr(callback, name, state[name])


def _names_of(callback: Any) -> tuple[str, ...]:
    """Of the nearest of Keras' own classes it derives from."""
    for kind in type(callback).__mro__:
        if kind.__name__ in _NAMES and kind.__module__.startswith("keras."):
            return _NAMES[kind.__name__]
    return ()


def _plain(value: Any) -> Any:
    """A value that can be stored and that the callback does not go on changing."""
    if isinstance(value, dict):
        return {key: _plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    if value is None or isinstance(value, bool | int | float | str | np.ndarray | np.generic):
        return value
    with contextlib.suppress(Exception):
        array = np.asarray(keras.ops.convert_to_numpy(value))
        return array if array.ndim else array.item()
    return None


def _capture_log(callback: Any) -> Any:
    """The lines of a CSVLogger so far: it opens its file anew and loses them, and after a crash there are too many."""
    with contextlib.suppress(OSError):
        size = os.path.getsize(callback.filename)  # noqa: PTH202 - it may be no local path
        if callback.append or size > _LARGEST_LOG:
            return {"size": size, "keys": callback.keys}
        with open(callback.filename, encoding="utf-8", newline="") as file:  # noqa: PTH123
            return {"text": file.read(), "keys": callback.keys}
    return None


def _restore_log(callback: Any, state: Any) -> None:
    if callback.csv_file is not None and not callback.csv_file.closed:
        callback.csv_file.close()
    if "text" in state:
        with open(callback.filename, "w", encoding="utf-8", newline="") as file:  # noqa: PTH123
            file.write(state["text"])
    elif os.path.getsize(callback.filename) > state["size"]:  # noqa: PTH202
        os.truncate(callback.filename, state["size"])
    callback.csv_file = open(callback.filename, "a", encoding="utf-8", newline="")  # noqa: PTH123, SIM115
    callback.keys = state["keys"]
    callback.writer = None
    callback.append_header = not os.path.getsize(callback.filename)  # noqa: PTH202


@contextlib.contextmanager
def training_goes_on(callbacks: Sequence[Any]) -> Iterator[None]:
    """Inside, EarlyStopping does not put its best weights into a model whose training is only interrupted."""
    held = [c for c in callbacks if isinstance(c, keras.callbacks.EarlyStopping) and c.restore_best_weights]
    for callback in held:
        callback.restore_best_weights = False
    try:
        yield
    finally:
        for callback in held:
            callback.restore_best_weights = True
