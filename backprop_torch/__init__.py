"""What backprop knows of PyTorch.

Every process that imports torch asks `backprop_torch.attach`, so nothing is imported before it is asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from backprop_torch.budget_lr import BudgetLR

__all__ = ["BudgetLR"]


def __getattr__(name: str) -> object:
    if name == "BudgetLR":
        from backprop_core.ports.installed import needs

        with needs("torch", by="backprop_torch", extra="torch"):
            from backprop_torch.budget_lr import BudgetLR

            return BudgetLR
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
