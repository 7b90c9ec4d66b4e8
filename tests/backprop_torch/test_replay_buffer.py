"""A dataset over a buffer that drops its oldest items: where the items lie changes while a pass over it runs."""

from __future__ import annotations

from collections import deque
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Dataset

from backprop_torch.dataloader_state import generators_of


class Step(NamedTuple):
    """What an agent has seen."""

    seen: Any
    reward: int


class Replay(Dataset[Any]):
    """The newest six."""

    def __init__(self, kind: str) -> None:
        holder, _, self.of = kind.partition(" of ")
        self.steps: Any = deque(maxlen=6) if holder == "deque" else []
        self.push(*range(5))

    def push(self, *numbers: int) -> None:
        makes = {
            "arrays": lambda n: np.full(2, n),
            "tensors": lambda n: torch.full((2,), n),
            "lists": lambda n: [n],
        }
        for number in numbers:
            self.steps.append(Step(makes[self.of](number), number))
            if len(self.steps) > 6:
                self.steps.pop(0)

    def __len__(self) -> int:
        return len(self.steps)

    def __getitem__(self, index: int) -> Any:
        return self.steps[index]

    def shown(self) -> list[str]:
        return [f"{one.seen} {one.reward}" for one in self.steps]


KINDS = [f"{holder} of {items}" for holder in ("deque", "list") for items in ("arrays", "tensors", "lists")]


@pytest.mark.parametrize("kind", KINDS)
def test_each_difference_is_put_back_as_it_was(kind: str) -> None:
    """The beginning of a pass, its first batch and the boundary, one after another, and again in the next process."""
    replay = Replay(kind)
    watched = generators_of(loader := DataLoader(replay, 2))
    for process in range(3):
        moments = []
        for moment in range(3):
            first = 9 * process + 3 * moment + 5
            replay.push(*range(first, first + 3))
            moments.append((watched.capture(), replay.shown()))
        replay = Replay(kind)
        watched = generators_of(loader := DataLoader(replay, 2))
        for saved, shown in [moments[0], *moments]:
            watched.restore(saved)
            assert replay.shown() == shown
    del loader
