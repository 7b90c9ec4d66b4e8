"""Stops just behind the last iteration of a loop: the code behind it still finds what a loop leaves."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader

import backprop
from tests.backprop_torch.cutting import Cut, digest, seed
from tests.backprop_torch.kinds._parts import dataset, network, train_step

BATCHES, EPOCHS = 6, 3
Train = Callable[[Cut, list[float]], dict[str, Any]]


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BACKPROP_HOME", str(tmp_path))


class Unsized:
    """Nobody knows how many batches it has."""

    def __init__(self, loader: Any) -> None:
        self._loader = loader

    def __iter__(self) -> Iterator[Any]:
        return iter(self._loader)


def epochs(cut: Cut, means: list[float], *, sized: bool = True, batch_size: int = 7) -> dict[str, Any]:
    """The usual loop, which divides by the number of batches behind each epoch."""
    model = network()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    loader: Any = DataLoader(dataset(), batch_size=batch_size, shuffle=True)
    losses: list[float] = []
    with cut.box(model=model, optimizer=optimizer, losses=losses) as box:
        for _ in box.epochs(EPOCHS):
            total, count = 0.0, 0
            for x, y in box.batches(loader if sized else Unsized(loader)):
                losses.append(train_step(model, optimizer, x, y))
                total, count = total + losses[-1], count + 1
                cut.reached(len(losses))
            means.append(total / count)
    return {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "losses": losses}


def unsized(cut: Cut, means: list[float]) -> dict[str, Any]:
    return epochs(cut, means, sized=False)


def steps(cut: Cut, means: list[float]) -> dict[str, Any]:
    """Steps without a loader, whose last loss is read behind them."""
    model = network()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    losses: list[float] = []
    points = torch.stack([x for x, _ in dataset(12)])
    with cut.box(model=model, optimizer=optimizer, losses=losses) as box:
        for _ in box.steps(2 * BATCHES):
            loss = train_step(model, optimizer, points, torch.randint(0, 3, (12,)))
            losses.append(loss)
            cut.reached(len(losses))
        means.append(loss)
    return {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "losses": losses}


def _pieces(train: Train, how: str) -> tuple[dict[str, Any], list[Any], dict[str, Any], list[Any]]:
    """Whole and its means; in two pieces, cut behind the last iteration of the second loop, and theirs."""
    made = []
    for name, ends in (("whole", [None]), ("cut", [2 * BATCHES, None])):
        means: list[float] = []
        for piece, at in enumerate(ends):
            seed(0 if at or name == "whole" else 9)
            state = train(Cut(name, at, how, piece), means)
        made += [state, means]
    return tuple(made)  # type: ignore[return-value]


@pytest.mark.parametrize(
    ("train", "how"),
    [
        *((train, how) for train in (epochs, unsized) for how in ("control", "ctrl-c", "deadline")),
        (steps, "deadline"),
    ],
)
def test_a_stop_behind_the_last_iteration_can_be_resumed(train: Train, how: str) -> None:
    """Where there is time the end of the epoch belongs to it; a deadline that forces the stop there resumes in front of the
    last batch, whose effect is the same bits."""
    whole, whole_means, cut, means = _pieces(train, how)
    assert digest(cut) == digest(whole)
    assert len(means) == len(whole_means)
    if (
        train is epochs and how != "deadline"
    ):  # no batch came again: the script's own sums are those of the whole run
        assert means == whole_means


def test_a_place_in_batches_of_another_size_is_counted_in_samples() -> None:
    """14 of 42 samples are trained when the batches become larger: the other 28 come, each once."""
    seen: list[torch.Tensor] = []

    def train(cut: Cut, batch_size: int) -> None:
        model = network()
        optimizer = torch.optim.SGD(model.parameters(), lr=1e-2)
        steps = 0
        with cut.box(model=model, optimizer=optimizer) as box:
            for x, y in box.batches(DataLoader(dataset(), batch_size=batch_size, shuffle=True)):
                train_step(model, optimizer, x, y)
                seen.append(x)
                steps += 1
                cut.reached(steps)

    train(Cut("sizes", at=2), 7)
    assert sum(map(len, seen)) == 14
    with pytest.raises(backprop.BackpropError, match="batches of 7 samples, and now they have 8"):
        train(Cut("sizes", piece=1), 8)
    train(Cut("sizes", piece=2), 14)
    assert len(torch.cat(seen)) == len(torch.cat(seen).unique(dim=0)) == 42
