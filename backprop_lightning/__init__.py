"""A time budget for a Lightning Trainer: `Trainer(callbacks=[BackpropCallback()])`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from backprop_lightning.callback import BackpropCallback
    from backprop_torch.budget_lr import BudgetLR

__all__ = ["BackpropCallback", "BudgetLR"]


def __getattr__(name: str) -> Any:
    """Loaded when it is asked for: Lightning asks `backprop_lightning.attach` in every process that makes a Trainer."""
    if name == "BackpropCallback":
        from backprop_core.ports.installed import needs

        with needs("Lightning", by="backprop_lightning", extra="lightning"):
            from backprop_lightning.callback import BackpropCallback

            return BackpropCallback
    if name == "BudgetLR":
        from backprop_torch import BudgetLR

        return BudgetLR
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
