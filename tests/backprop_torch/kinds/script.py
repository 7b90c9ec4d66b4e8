"""State of the script's own that nobody named: locals, globals, attributes, closures."""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader

from tests.backprop_torch.cutting import Cut
from tests.backprop_torch.kinds._parts import dataset, network

_TOTALS = {"steps": 0}


class _Transition(NamedTuple):
    step: int
    loss: torch.Tensor


class _Average:
    """Averaged weights in a plain dictionary, made anew in each step or changed in place."""

    def __init__(self, model: nn.Module) -> None:
        self.in_place = {name: p.detach().clone() for name, p in model.named_parameters()}
        self.made_anew = {name: p.detach() for name, p in model.named_parameters()}
        self.updates = 0

    def update(self, model: nn.Module) -> None:
        self.updates += 1
        for name, p in model.named_parameters():
            self.in_place[name].mul_(0.9).add_(p.detach(), alpha=0.1)
            self.made_anew[name] = 0.9 * self.made_anew[name] + 0.1 * p.detach()


@dataclass
class _Best:
    loss: float = float("inf")
    at: int | None = None
    curve: list[tuple[int, float]] = field(default_factory=list)


class _Slotted:
    __slots__ = ("later", "mean")

    def __init__(self) -> None:
        self.mean = 0.0


def _counter() -> Any:
    calls = 0

    def count() -> int:
        nonlocal calls
        calls += 1
        return calls

    return count


def nothing_is_named(cut: Cut) -> dict[str, Any]:
    """Every piece of it enters the loss, so that one that is lost shows in the weights."""
    model = network()
    model.outputs = []  # type: ignore[assignment]
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    average, best, slotted, count = _Average(model), _Best(), _Slotted(), _counter()
    replay: deque[_Transition] = deque(maxlen=6)
    classes: Counter[int] = Counter()
    table, rng, hidden = np.zeros(3), np.random.default_rng(cut.piece), torch.zeros(6)
    losses: list[float] = []
    first_time = True
    _TOTALS["steps"] = 0
    with cut.box(model=model, optimizer=optimizer) as box:
        for _ in box.epochs(3):
            for x, y in box.batches(DataLoader(dataset(), batch_size=5, shuffle=True)):
                hidden = (hidden.detach() + x.mean(0)).tanh()
                if first_time:
                    slotted.later, first_time = 1.0, False
                extra = best.loss if best.at is not None else 1.0
                extra += (
                    slotted.mean + count() / 10 + sum(t.loss.item() for t in replay) + float(rng.normal())
                )
                extra += sum(
                    v.sum().item() for v in [*average.in_place.values(), *average.made_anew.values()]
                )
                optimizer.zero_grad()
                loss = nn.functional.cross_entropy(model(x + 0.01 * hidden), y) * (1 + 0.01 * abs(extra))
                loss.backward()
                optimizer.step()
                average.update(model)
                losses.append(loss.item())
                slotted.mean = 0.9 * slotted.mean + 0.1 * losses[-1]
                replay.append(_Transition(len(losses), loss.detach()))
                classes.update(y.tolist())
                table[int(y[0])] += losses[-1]
                _TOTALS["steps"] += 1
                model.outputs.append(loss.detach())  # type: ignore[operator, union-attr]
                if losses[-1] < best.loss:
                    best.loss, best.at = losses[-1], len(losses)
                    best.curve.append((len(losses), losses[-1]))
                cut.reached(len(losses))
    return {
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "losses": losses,
        "average": [average.in_place, average.made_anew, average.updates],
        "best": [best.loss, best.at, best.curve],
        "slotted": [slotted.mean, slotted.later],
        "replay": [tuple(one) for one in replay],
        "classes": dict(classes),
        "table": table,
        "hidden": hidden.detach(),
        "outputs": list(model.outputs),  # type: ignore[arg-type]
        "totals": dict(_TOTALS),
        "calls": count(),
    }
