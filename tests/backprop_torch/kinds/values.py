"""Kinds of state: tensors of every layout, nested plain Python, objects of the script's own."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader

from tests.backprop_torch.cutting import Cut
from tests.backprop_torch.kinds._parts import dataset, network, train_step


def _loop(cut: Cut, objects: dict[str, Any], change: Any, model: nn.Module | None = None) -> dict[str, Any]:
    """The ordinary loop; `change` alters `objects` in every step."""
    model = network() if model is None else model
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    losses: list[float] = []
    loader = DataLoader(dataset(), batch_size=5, shuffle=True)
    with cut.box(model=model, optimizer=optimizer, losses=losses, **objects) as box:
        for _ in box.epochs(3):
            for x, y in box.batches(loader):
                losses.append(train_step(model, optimizer, x, y))
                change(len(losses))
                cut.reached(len(losses))
    return {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "losses": losses}


def tied_weights(cut: Cut) -> dict[str, Any]:
    """Two layers share a weight; they still do after a resume."""

    class _Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second, self.last = nn.Linear(6, 6), nn.Linear(6, 6), nn.Linear(6, 3)
            self.second.weight = self.first.weight

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.last(self.second(self.first(x).relu()))  # type: ignore[no-any-return]

    model = _Tied()
    made = _loop(cut, {}, lambda step: None, model)
    return {**made, "tied": model.second.weight is model.first.weight}


class _Collection:
    """An object of the script's own that holds tensors of every sort."""

    def __init__(self) -> None:
        self.values: dict[str, Any] = {
            "bfloat16": torch.randn(3).bfloat16(),
            "float64": torch.randn(3, dtype=torch.float64),
            "complex64": torch.randn(3, dtype=torch.complex64),
            "complex128": torch.randn(2, dtype=torch.complex128),
            "none": torch.empty(0, 4),
            "turned": torch.randn(3, 4).t(),
            "every second": torch.randn(8)[::2],
            "sparse": torch.randn(3, 3).relu().to_sparse(),
            "alone": torch.tensor(1.5),
            "count": torch.tensor(0),
            "true": torch.tensor([True, False]),
            "eight": torch.randn(4).to(torch.float8_e4m3fn),
            "array": np.random.rand(3).astype(">f4"),
            "fortran": np.asfortranarray(np.random.rand(2, 3)),
        }

    def grow(self, step: int) -> None:
        values = self.values
        for key in ("bfloat16", "float64", "complex64", "complex128", "turned", "every second", "alone"):
            values[key] = values[key] * 1.01
        values["none"] = torch.empty(0, step)
        values["sparse"] = (values["sparse"] * 1.01).coalesce()
        values["count"] += 1
        values["true"] = ~values["true"]
        values["array"] = values["array"] + step
        values["fortran"][0, 0] += step

    def state_dict(self) -> dict[str, Any]:
        return dict(self.values)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.values = dict(state)


def every_sort_of_tensor(cut: Cut) -> dict[str, Any]:
    collection = _Collection()
    tensor, array = torch.randn(4, 3).t(), np.random.rand(3)

    def change(step: int) -> None:
        collection.grow(step)
        tensor.mul_(1.01)
        array[step % 3] += 1

    made = _loop(cut, {"collection": collection, "tensor": tensor, "array": array}, change)
    return {**made, "collection": collection.values, "tensor": tensor, "array": array}


class _Nested:
    """A state of nested plain Python."""

    def __init__(self) -> None:
        self.state: dict[Any, Any] = {
            1: "an int key",
            (2, "x"): [1, (2, 3), {4}, b"\x00\xff", None],
            "nan": math.nan,
            "infinite": (-math.inf, -0.0, 5e-324),
            "frozen": frozenset({1, 2}),
            "big": 2**200,
            "complex": 1 + 2j,
            None: True,
            "text": "\u00e4\U0001f600",
            "empty": ((), [], {}, set(), b""),
        }

    def state_dict(self) -> dict[Any, Any]:
        return self.state

    def load_state_dict(self, state: dict[Any, Any]) -> None:
        self.state = state


def nested_python(cut: Cut) -> dict[str, Any]:
    nested, plain = _Nested(), {"log": [], "best": (math.inf, -1)}

    def change(step: int) -> None:
        nested.state[(2, "x")].append((step, {step}))
        nested.state["big"] += step
        nested.state[f"step {step}"] = step / 3
        plain["log"].append([step, [step * 0.1]])  # type: ignore[union-attr]
        plain["best"] = min(plain["best"], (1 / step, step))  # type: ignore[type-var]

    made = _loop(cut, {"nested": nested, "plain": plain}, change)
    return {**made, "nested": nested.state, "plain": plain}


def buffers_that_are_not_persistent(cut: Cut) -> dict[str, Any]:
    """A buffer that a module keeps out of its state_dict decides the next step all the same."""

    class _Counting(nn.Module):
        count: torch.Tensor

        def __init__(self) -> None:
            super().__init__()
            self.net = network()
            self.register_buffer("count", torch.zeros(()), persistent=False)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            self.count += 1
            return self.net(x) * (1 + self.count / 10)  # type: ignore[no-any-return]

    model = _Counting()
    made = _loop(cut, {}, lambda step: None, model)
    return {**made, "count": model.count}


def extra_state_and_normalised_weights(cut: Cut) -> dict[str, Any]:
    """Modules with `get_extra_state`, spectral and weight normalisation."""

    class _Extra(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.seen = 0
            self.a = nn.utils.parametrizations.spectral_norm(nn.Linear(6, 6))
            self.b = nn.utils.parametrizations.weight_norm(nn.Linear(6, 3))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            self.seen += 1
            return self.b(self.a(x).relu()) / self.seen  # type: ignore[no-any-return]

        def get_extra_state(self) -> Any:
            return {"seen": self.seen, "pair": (1, 2)}

        def set_extra_state(self, state: Any) -> None:
            self.seen = state["seen"]

    return _loop(cut, {}, lambda step: None, _Extra())
