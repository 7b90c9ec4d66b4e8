"""One training loop of the user's own for each backend, as Keras' guides write them: no fit, no train_on_batch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras

_LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def gradient_tape(model: Any, optimizer: Any, metric: Any) -> tuple[Callable[..., Any], dict[str, Any]]:
    """A compiled function that trains one batch, and what the box is to keep besides."""
    import tensorflow as tf

    @tf.function  # type: ignore[untyped-decorator]
    def step(x: Any, y: Any) -> Any:
        with tf.GradientTape() as tape:
            predicted = model(x, training=True)
            loss = _LOSS(y, predicted)
        optimizer.apply(tape.gradient(loss, model.trainable_variables), model.trainable_variables)
        metric.update_state(y, predicted)
        return loss

    return step, {"model": model, "optimizer": optimizer, "metric": metric}


def backward(model: Any, optimizer: Any, metric: Any) -> tuple[Callable[..., Any], dict[str, Any]]:
    """The same on PyTorch, with the gradients that backward leaves at the variables."""
    import torch

    def step(x: Any, y: Any) -> Any:
        x, y = (keras.ops.convert_to_tensor(part) for part in (x, y))
        model.zero_grad()
        predicted = model(x, training=True)
        loss = _LOSS(y, predicted)
        loss.backward()
        with torch.no_grad():
            optimizer.apply([v.value.grad for v in model.trainable_weights], model.trainable_weights)
            metric.update_state(y, predicted)
        return loss

    return step, {"model": model, "optimizer": optimizer, "metric": metric}


def stateless(model: Any, optimizer: Any, metric: Any) -> tuple[Callable[..., Any], dict[str, Any]]:
    """A pure function of JAX whose state is a tuple, kept in a dict that the box knows."""
    import jax

    def loss_and_updates(trainable: Any, non_trainable: Any, x: Any, y: Any) -> Any:
        predicted, non_trainable = model.stateless_call(trainable, non_trainable, x, training=True)
        return _LOSS(y, predicted), (non_trainable, predicted)

    @jax.jit
    def pure(state: Any, x: Any, y: Any) -> Any:
        trainable, non_trainable, slots, sums = state
        (loss, (non_trainable, predicted)), gradients = jax.value_and_grad(loss_and_updates, has_aux=True)(
            trainable, non_trainable, x, y
        )
        trainable, slots = optimizer.stateless_apply(slots, gradients, trainable)
        sums = metric.stateless_update_state(sums, y, predicted)
        return loss, (trainable, non_trainable, slots, sums)

    parts = (
        model.trainable_variables,
        model.non_trainable_variables,
        optimizer.variables,
        metric.variables,
    )
    holder = {"state": tuple([v.value for v in part] for part in parts)}

    def step(x: Any, y: Any) -> Any:
        x, y = (keras.ops.convert_to_tensor(part) for part in (x, y))
        loss, holder["state"] = pure(holder["state"], x, y)
        return loss

    return step, {"holder": holder}


OwnLoop = {"tensorflow": gradient_tape, "torch": backward, "jax": stateless}[keras.backend.backend()]
