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
