"""What a loader's worker changes in its own copy of the dataset goes on, and what cannot is named."""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Dataset

from backprop_core.script_state import unkept
from backprop_core.script_state.unkept import (
    changed_in_workers,
    forget_in_workers,
    note_in_workers,
    noted_in_workers,
)
from backprop_torch.dataloader_state import StockLoaderReading
from backprop_torch.rng_state import Randomness
from backprop_torch.worker_generators import WorkerMemory
from backprop_torch.worker_parts import MOST_BYTES, WorkerParts
from tests.backprop_torch.cutting import Cut, digest, seed
from tests.backprop_torch.kinds._parts import fit

drawn_by_name = np.random.default_rng(11)
made = 0


class _Jitter:
    def __init__(self) -> None:
        self.rng = random.Random(4)


class _Remembers(Dataset[Any]):
    """An item depends on all that this copy of the dataset has made before."""

    def __init__(self, *, torchs: bool = True) -> None:
        self.rng = np.random.default_rng(5)
        self.transforms = [_Jitter()]
        self.made_when_asked: Any = None
        self.seen = 0
        self.last: list[float] = []
        self.mean = np.zeros(3)
        self.torchs = torch.Generator().manual_seed(6) if torchs else None

    def __len__(self) -> int:
        return 23

    def __getitem__(self, index: int) -> Any:
        global made
        made += 1
        if self.made_when_asked is None:
            self.made_when_asked = np.random.default_rng(77)
        self.seen += 1
        self.mean += index
        value = index + sum(self.last) + float(self.rng.random() + self.made_when_asked.random())
        value += float(drawn_by_name.random()) + self.transforms[0].rng.random() + self.seen + made
        self.last = [value / 2]
        return torch.tensor([value, float(self.mean.mean())]) + torch.rand(2, generator=self.torchs)


def _batches(loader: DataLoader[Any], number: int, saved: Any = None, skip: int = 0) -> tuple[Any, list[Any]]:
    reading = StockLoaderReading(loader, Randomness())
    iterator = reading.begin(saved, skip, None)
    given = [next(iterator) for _ in range(number)]
    state = reading.position(midway=False)
    assert not reading.caveat
    if loader._iterator is not None:
        loader._iterator._shutdown_workers()  # type: ignore[attr-defined]
    return state, given


@pytest.mark.parametrize("stays", [False, True])
@pytest.mark.parametrize("method", ["fork", pytest.param("spawn", marks=pytest.mark.long)])
def test_what_a_worker_changes_goes_on(method: str, *, stays: bool) -> None:
    """Generators in the dataset, in a transform and in a global, one made at first use, counts, the last item, an array in
    place: behind two cuts each batch has the bits that it has without.
    """

    def loader() -> DataLoader[Any]:
        seed(1)
        return DataLoader(
            _Remembers(
                torchs=method == "fork"
            ),  # torch cannot send a generator of its own to a new interpreter
            batch_size=3,
            shuffle=True,
            num_workers=2,
            persistent_workers=stays,
            multiprocessing_context=method,
        )

    _, whole = _batches(loader(), 8)
    first, begun = _batches(loader(), 3)
    second, more = _batches(loader(), 2, first, 3)
    _, rest = _batches(loader(), 3, second, 5)
    assert digest([*begun, *more, *rest]) == digest(whole)


class _Aug:
    """A class of the script's, which a worker makes an object of."""

    def __init__(self) -> None:
        self.count = 0


class _Grows(Dataset[Any]):
    def __init__(self, what: str) -> None:
        self.what = what
        self.history = list(range(500))
        self.images: list[Any] = []
        self.aug: Any = None
        self.opened: Any = None
        self.many: Any = [{"a": [index]} for index in range(200)] if what == "many" else None
        self.held = [self.many] * (what == "many") + [[[i], [i], [i], [i]] for i in range(200)] * (
            what == "many"
        )
        self.rng = random.Random(3)

    def __len__(self) -> int:
        return 40

    def __getitem__(self, index: int) -> Any:
        if self.what == "history":
            self.history.append(index)
        elif self.what == "images":
            self.images.append(np.zeros(MOST_BYTES // 16) + index)
        elif self.what == "aug":
            self.aug = self.aug or _Aug()
        elif self.what == "many":
            self.rng.random()
        self.opened = self.opened or sqlite3.connect(":memory:")
        return torch.tensor(float(index))


@pytest.mark.parametrize(
    ("what", "name", "why"),
    [
        ("history", "dataset.history", "has more than 256 members"),
        ("images", "dataset.images[...]", "is larger than the 128 kB"),
        ("aug", "dataset.aug", "was created during training"),
        ("many", "dataset", "holds too much to be looked at"),
        ("nothing", "", ""),
    ],
)
def test_what_cannot_go_on_is_named(what: str, name: str, why: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With its name and the reason. A connection that the dataset opens for its first item is no loss, and not named."""
    monkeypatch.setattr(unkept, "_in_workers", {})
    _batches(DataLoader(_Grows(what), batch_size=4, num_workers=1), 4)
    named = noted_in_workers()
    assert [one.name for one in named] == [name] * bool(name)
    assert all(why in one.why and "in the workers of a loader" in one.why for one in named)


def test_a_worker_that_changes_nothing_notes_nothing() -> None:
    """However often it is asked: neither bytes for a checkpoint nor a thorough look."""
    parts = WorkerParts([("dataset", _Remembers())])
    for _ in range(4):
        assert parts.look() == b""
    thorough: list[int] = []
    parts._look_at_all = lambda drawn: thorough.append(parts._looks)  # type: ignore[method-assign]
    for _ in range(30):
        assert parts.look() == b""
    assert thorough == [8, 16, 32]


@pytest.mark.parametrize(
    "change",
    [
        lambda data: setattr(data, "seen", 1),
        lambda data: data.last.append(0.5),
        lambda data: data.mean.__iadd__(1),
        lambda data: data.rng.random(),
        lambda data: data.transforms[0].rng.random(),
        lambda data: torch.rand(1, generator=data.torchs),
        lambda data: data.transforms.append(_Jitter()),
    ],
)
def test_the_quick_look_sees_each_change(change: Callable[[Any], object]) -> None:
    """Behind batches at which only the quick look is taken."""
    data = _Remembers()
    parts = WorkerParts([("dataset", data)])
    for _ in range(5):
        parts.look()
    change(data)
    assert parts.look() != b"" or parts.unkept


def test_names_that_a_worker_is_just_writing_are_left_to_the_next_checkpoint() -> None:
    """Half of them is no error in the process that trains; and another training in it begins without those of the first."""
    memory = WorkerMemory(1, 2, None)
    one = changed_in_workers("dataset.cache", "dict", "has more than 256 members")
    memory.name(0, [one])
    assert memory.named(0) == [one]
    place = memory._names + 8
    memory._bytes()[place : place + 20] = bytes(20)
    assert memory.named(0) == []
    note_in_workers([one])
    assert one in noted_in_workers()
    forget_in_workers()
    assert noted_in_workers() == []


class _Pairs(_Grows):
    def __getitem__(self, index: int) -> Any:
        super().__getitem__(index)
        return torch.ones(6), index % 3


def test_a_run_says_what_its_workers_lose(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Once, with the checkpoint that lacks it."""
    monkeypatch.setenv("BACKPROP_HOME", str(tmp_path))
    fit(Cut("named", 3, "ctrl-c"), DataLoader(_Pairs("history"), batch_size=5, num_workers=1))
    assert (
        capfd.readouterr().err.count(
            "`dataset.history` (collection) changes during training and cannot be kept"
        )
        == 1
    )
