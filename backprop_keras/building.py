"""Building what Keras would build with the first batch, so that it can be given its state before that: the model, layers
that only a `train_step` of the user's reaches, and optimizers that are applied there.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Any

from backprop_core.errors import StateMismatchError
from backprop_keras.backends import active
from backprop_keras.variables import model_variables, optimizers_of


def layers_are_built(model: Any) -> bool:
    """Whether all variables of the model exist."""
    return all(layer.built for layer in model._flatten_layers())


def is_built(model: Any) -> bool:
    """Whether all variables of the model and of the optimizer it is compiled with exist."""
    optimizer = getattr(model, "optimizer", None)
    return layers_are_built(model) and (optimizer is None or bool(optimizer.built))


def build_without_data(model: Any, epoch_iterator: Any, *, metrics: bool, optimizer: bool) -> None:
    """Make the variables from the shapes of a batch, without taking one.

    Args:
        metrics: those of the compiled metrics, too. A `train_step` of the user's may never use them.
        optimizer: those of the compiled optimizer, too. A `train_step` of the user's may have others.

    Raises:
        StateMismatchError: the shapes are not known before.
    """
    specification = active().batch_specification(epoch_iterator)
    left_out = [n for n, wanted in (("_compile_metrics", metrics), ("optimizer", optimizer)) if not wanted]
    kept = {name: vars(model)[name] for name in left_out if name in vars(model)}
    try:
        if specification is None:
            raise ValueError("the shapes of its batches are not known")
        vars(model).update(dict.fromkeys(kept))
        model._symbolic_build(data_batch=specification)
    except Exception as error:
        raise StateMismatchError(
            f"The model has no variables yet, and creating them for the checkpoint failed: {error}",
            "Build the model before fit, with model.build(input_shape) or by calling it on a batch.",
        ) from error
    finally:
        vars(model).update(kept)


def plan(model: Any) -> dict[str, Any]:
    """How everything that the model holds was built, as plain JSON, for `build_as_planned`.

    Returns:
        `layers`: class and build configuration of each layer, in Keras' order; `optimizers`: for each that is built, the
        places of its variables among the model's.
    """
    places = {id(variable): place for place, variable in enumerate(model_variables(model).values())}
    optimizers = {}
    for name, optimizer in optimizers_of(model).items():
        trained = getattr(getattr(optimizer, "inner_optimizer", optimizer), "_trainable_variables", None)
        if optimizer.built and trained and all(id(variable) in places for variable in trained):
            optimizers[name] = [places[id(variable)] for variable in trained]
    return {"layers": [_layer_plan(layer) for layer in model._flatten_layers()], "optimizers": optimizers}


def _layer_plan(layer: Any) -> list[Any]:
    config = None
    if layer.built:
        with contextlib.suppress(Exception):  # a class of the user's may answer anything
            config = _plain(layer.get_build_config())
    return [type(layer).__name__, config]


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise TypeError(type(value).__name__)


def build_as_planned(model: Any, planned: Mapping[str, Any]) -> None:
    """Build layers and optimizers that were built when `plan` was made and are not now.

    Raises:
        StateMismatchError: one of them cannot be built as it was.
    """
    for number, (kind, config) in enumerate(planned["layers"]):
        layers = list(model._flatten_layers())  # building one may make others
        if number >= len(layers) or type(layers[number]).__name__ != kind:
            break  # another model: comparing the variables will say where
        if config is not None and not layers[number].built:
            _build(layers[number].name, layers[number].build_from_config, _shapes(config))
    here = list(model_variables(model).values())
    optimizers = optimizers_of(model)
    for name, places in planned["optimizers"].items():
        optimizer = optimizers.get(name)
        if optimizer is not None and not optimizer.built and max(places) < len(here):
            _build(name, optimizer.build, [here[place] for place in places])


def _build(name: str, build: Any, of: Any) -> None:
    try:
        build(of)
    except Exception as error:
        raise StateMismatchError(
            f"{name!r} has no variables yet, and creating them for the checkpoint failed: {error}",
            "Build it before fit, as its first batch would.",
        ) from error


def _shapes(value: Any) -> Any:
    """JSON has no tuples, and shapes are some."""
    if isinstance(value, Mapping):
        return {key: _shapes(one) for key, one in value.items()}
    return tuple(_shapes(one) for one in value) if isinstance(value, list) else value
