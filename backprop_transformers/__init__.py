"""Trainings of Hugging Face `transformers.Trainer` with a time budget: `Trainer(callbacks=[BackpropCallback()])`.

`backprop_transformers.attach` is imported by a start-up hook, so the callback is imported when it is asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from backprop_torch.budget_lr import BudgetLR
    from backprop_transformers.callback import BackpropCallback

__all__ = ["BackpropCallback", "BudgetLR"]


def __getattr__(name: str) -> object:
    if name == "BackpropCallback":
        from backprop_core.ports.installed import needs

        with needs("transformers", by="backprop_transformers", extra="transformers"):
            from backprop_transformers.callback import BackpropCallback

            return BackpropCallback
    if name == "BudgetLR":
        from backprop_torch import BudgetLR

        return BudgetLR
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
