"""One custom train_step for each backend, as Keras' guides write them."""

from __future__ import annotations

from typing import Any

import keras


class OnTensorFlow(keras.Model):  # type: ignore[misc]
    def train_step(self, data: Any) -> Any:
        import tensorflow as tf

        x, y = data
        with tf.GradientTape() as tape:
            y_pred = self(x, training=True)
            loss = self.compute_loss(y=y, y_pred=y_pred)
        gradients = tape.gradient(loss, self.trainable_variables)
        self.optimizer.apply(gradients, self.trainable_variables)
        return {"own_loss": loss, "size": keras.ops.sum(keras.ops.abs(y_pred))}


class OnTorch(keras.Model):  # type: ignore[misc]
    def train_step(self, data: Any) -> Any:
        import torch

        x, y = data
        self.zero_grad()
        y_pred = self(x, training=True)
        loss = self.compute_loss(y=y, y_pred=y_pred)
        loss.backward()
        with torch.no_grad():
            self.optimizer.apply([v.value.grad for v in self.trainable_weights], self.trainable_weights)
        return {"own_loss": loss, "size": keras.ops.sum(keras.ops.abs(y_pred))}


class OnJax(keras.Model):  # type: ignore[misc]
    def train_step(self, state: Any, data: Any) -> Any:
        import jax

        trainable, non_trainable, optimizer, metrics = state
        x, y = data

        def loss_and_updates(trainable: Any, non_trainable: Any) -> Any:
            y_pred, updated = self.stateless_call(trainable, non_trainable, x, training=True)
            return self.compute_loss(y=y, y_pred=y_pred), (updated, keras.ops.sum(keras.ops.abs(y_pred)))

        (loss, (non_trainable, size)), gradients = jax.value_and_grad(loss_and_updates, has_aux=True)(
            trainable, non_trainable
        )
        trainable, optimizer = self.optimizer.stateless_apply(optimizer, gradients, trainable)
        return {"own_loss": loss, "size": size}, (trainable, non_trainable, optimizer, metrics)


OwnStep = {"tensorflow": OnTensorFlow, "torch": OnTorch, "jax": OnJax}[keras.backend.backend()]


class Adversaries(keras.Model):  # type: ignore[misc]
    """One part makes samples, the other judges them; each has an optimizer, and neither has variables of its own optimizer,
    nor the maker any at all, before the first step.
    """

    def __init__(self) -> None:
        super().__init__()
        layers, optimizers = keras.layers, keras.optimizers
        self.maker = keras.Sequential([layers.Dense(5, activation="relu"), layers.Dense(6)])
        self.judge = keras.Sequential([layers.Input((6,)), layers.Dropout(0.2), layers.Dense(1)])
        self.noise = keras.random.SeedGenerator(4)
        self.judge_optimizer = optimizers.Adam(0.01)
        self.others = [optimizers.SGD(0.05, momentum=0.5)]
        self.mistakes = keras.metrics.Mean("mistakes")

    def call(self, x: Any, training: bool = False) -> Any:
        return self.judge(x, training=training)

    def _loss(self, of: Any, wanted: float) -> Any:
        judged = self.judge(of, training=True)
        return keras.ops.mean((judged - wanted) ** 2)

    def _improve(self, part: Any, optimizer: Any, loss_of: Any) -> Any:
        if keras.backend.backend() == "tensorflow":
            import tensorflow as tf

            with tf.GradientTape() as tape:
                loss = loss_of()
            optimizer.apply(tape.gradient(loss, part.trainable_variables), part.trainable_variables)
            return loss
        import torch

        self.zero_grad()
        loss = loss_of()
        loss.backward()
        with torch.no_grad():
            optimizer.apply([v.value.grad for v in part.trainable_variables], part.trainable_variables)
        return loss

    def train_step(self, data: Any) -> Any:
        real = data[0] if isinstance(data, tuple) else data

        def made() -> Any:
            return self.maker(keras.random.normal((16, 3), seed=self.noise), training=True)

        loss = self._improve(
            self.judge, self.judge_optimizer, lambda: self._loss(real, 1.0) + self._loss(made(), 0.0)
        )
        self._improve(self.maker, self.others[0], lambda: self._loss(made(), 1.0))
        self.mistakes.update_state(loss)
        return {"mistakes": self.mistakes.result()}
