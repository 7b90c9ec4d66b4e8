"""Building a model that Keras would build with its first batch, so that it can be given its state before that."""

from __future__ import annotations

from typing import Any

from backprop_core.errors import StateMismatchError
from backprop_keras.backends import active


def is_built(model: Any) -> bool:
    """Whether all variables of the model and its optimizer exist."""
    parts = [*model._flatten_layers()]
    optimizer = getattr(model, "optimizer", None)
    return all(part.built for part in (parts if optimizer is None else [*parts, optimizer]))


def build_without_data(model: Any, epoch_iterator: Any, *, metrics: bool) -> None:
    """Make the variables from the shapes of a batch, without taking one.

    Args:
        metrics: those of the compiled metrics, too. A `train_step` of the user's may never use them.

    Raises:
        StateMismatchError: the shapes are not known before.
    """
    specification = active().batch_specification(epoch_iterator)
    kept = vars(model).get("_compile_metrics")
    try:
        if specification is None:
            raise ValueError("the shapes of its batches are not known")
        if not metrics:
            vars(model)["_compile_metrics"] = None
        model._symbolic_build(data_batch=specification)
    except Exception as error:
        raise StateMismatchError(
            f"The model has no variables yet, and they could not be made to receive the checkpoint: {error}",
            "Build the model before fit, with model.build(input_shape) or by calling it on a batch.",
        ) from error
    finally:
        vars(model)["_compile_metrics"] = kept
