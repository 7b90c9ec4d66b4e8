"""What backprop knows of Keras 3, on TensorFlow, PyTorch and JAX alike.

`backprop_keras.export` works without Keras, which takes seconds to import: so the callback is imported when it is asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from backprop_keras.budget_lr import BudgetLR
    from backprop_keras.callback import BackpropCallback

__all__ = ["BackpropCallback", "BudgetLR"]


def __getattr__(name: str) -> object:
    if name == "BackpropCallback":
        from backprop_core.ports.installed import needs

        with needs("Keras 3", by="backprop_keras", extra="keras"):
            from backprop_keras.callback import BackpropCallback

            return BackpropCallback
    if name == "BudgetLR":
        from backprop_core.ports.installed import needs

        with needs("Keras 3", by="backprop_keras", extra="keras"):
            from backprop_keras.budget_lr import BudgetLR

            return BudgetLR
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
