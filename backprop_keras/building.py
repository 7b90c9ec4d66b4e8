"""Building a model that Keras would build with its first batch, so that it can be given its state before that."""

from __future__ import annotations

from typing import Any

from backprop_core.errors import StateMismatchError
from backprop_keras.backends import active


def is_built(model: Any) -> bool:
    """Whether all variables of the model, its metrics, its loss and its optimizer exist."""
    parts = [*model._flatten_layers()]
    for name in ("_compile_metrics", "_compile_loss", "optimizer"):
        part = getattr(model, name, None)
        parts += [part] if part is not None else []
    return all(part.built for part in parts)


def build_without_data(model: Any, epoch_iterator: Any) -> None:
    """Make all variables from the shapes of a batch, without taking one.

    Raises:
        StateMismatchError: the shapes are not known before.
    """
    specification = active().batch_specification(epoch_iterator)
    try:
        if specification is None:
            raise ValueError("the shapes of its batches are not known")
        model._symbolic_build(data_batch=specification)
    except Exception as error:
        raise StateMismatchError(
            f"The model has no variables yet, and they could not be made to receive the checkpoint: {error}",
            "Build the model before fit, with model.build(input_shape) or by calling it on a batch.",
        ) from error
