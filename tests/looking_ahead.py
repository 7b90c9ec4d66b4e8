"""An optimizer and a schedule with attributes of their own, which are in no `state_dict`."""

from __future__ import annotations

from typing import Any

import torch


class LookAhead(torch.optim.SGD):
    """Goes back to slow weights every third step; loading its state begins momentum anew."""

    def __init__(self, parameters: Any, lr: float = 0.05) -> None:
        super().__init__(parameters, lr, momentum=0.9)
        self.slow: list[torch.Tensor] = []
        self.count = 0

    def step(self, closure: Any = None) -> Any:
        loss = super().step(closure)
        self.count += 1
        parameters = self.param_groups[0]["params"]
        with torch.no_grad():
            self.slow = self.slow or [one.clone() for one in parameters]
            if self.count % 3 == 0:
                for one, slow in zip(parameters, self.slow, strict=True):
                    one.copy_(slow.lerp_(one, 0.5))
        return loss

    def load_state_dict(self, state_dict: Any) -> None:
        super().load_state_dict(state_dict)
        self.state.clear()


class Slower(torch.optim.lr_scheduler.LRScheduler):
    """Counts for itself, and its class has forgotten what."""

    def __init__(self, optimizer: torch.optim.Optimizer) -> None:
        self.counted = 0
        super().__init__(optimizer)

    def get_lr(self) -> list[float]:
        return [float(rate) / (1 + self.counted / 10) for rate in self.base_lrs]

    def step(self, epoch: Any = None) -> None:
        self.counted += 1
        super().step()

    def state_dict(self) -> dict[str, Any]:
        return {"last_epoch": self.last_epoch}

    def load_state_dict(self, state_dict: Any) -> None:
        self.last_epoch = state_dict["last_epoch"]
