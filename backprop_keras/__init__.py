"""What backprop knows of Keras 3, on TensorFlow, PyTorch and JAX alike."""

from __future__ import annotations

from backprop_keras.callback import BackpropCallback

__all__ = ["BackpropCallback"]
