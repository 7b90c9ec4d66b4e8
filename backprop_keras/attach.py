"""Attaches to unchanged Keras scripts: every `fit` gets a callback that it was not given. Called when Keras is imported."""

from __future__ import annotations

import functools
import inspect
from typing import Any

import keras

from backprop_core.session import attach_rules

_done = False


def attach() -> None:
    """Give every `fit` of this process a BackpropCallback, unless the script passes one."""
    global _done
    if _done:
        return
    _done = True
    owner = next(kind for kind in keras.Model.__mro__ if "fit" in vars(kind))
    original = owner.fit
    signature = inspect.signature(original)

    @functools.wraps(original)
    def fit(self: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            given = signature.bind(self, *args, **kwargs)
            given.arguments["callbacks"] = _with_ours(given.arguments.get("callbacks"))
            args, kwargs = given.args[1:], given.kwargs
        except Exception as error:  # also a wrong call, about which Keras has its own words
            if not isinstance(error, TypeError):
                attach_rules.give_up("keras", error)
        return original(self, *args, **kwargs)

    owner.fit = fit


def _with_ours(callbacks: Any) -> Any:
    from backprop_keras.callback import BackpropCallback

    listed = callbacks.callbacks if isinstance(callbacks, keras.callbacks.CallbackList) else callbacks
    present = listed if isinstance(listed, list | tuple) else [] if listed is None else [listed]
    if any(isinstance(callback, BackpropCallback) for callback in present):
        return callbacks
    if isinstance(callbacks, keras.callbacks.CallbackList):
        callbacks.append(BackpropCallback.attached())
        return callbacks
    return [*present, BackpropCallback.attached()]
