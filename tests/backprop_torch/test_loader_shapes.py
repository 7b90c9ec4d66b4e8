"""Loaders of the shapes that stock programs have, in a loop that is otherwise unchanged; and what happens where we fail."""

from __future__ import annotations

import gc
import queue
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader

from backprop_torch import known_iterators, pass_watch, raw_loop
from tests.backprop_torch.cutting import Cut, digest, seed
from tests.backprop_torch.kinds._parts import dataset, network, train_step

Record = list[tuple[float, str]]


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BACKPROP_HOME", str(tmp_path))
    torch.set_num_threads(1)


class ToDevice(DataLoader[Any]):
    """`__iter__` is a generator, whose body runs later than the call."""

    def __iter__(self) -> Any:
        for batch in super().__iter__():
            yield [one.to("cpu") for one in batch]


class _Repeat:
    def __init__(self, sampler: Any) -> None:
        self.sampler = sampler

    def __iter__(self) -> Iterator[Any]:
        while True:
            yield from iter(self.sampler)


class Endless(DataLoader[Any]):
    """One iterator for all epochs, made with the loader: ultralytics' InfiniteDataLoader, timm's MultiEpochsDataLoader."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        object.__setattr__(self, "batch_sampler", _Repeat(self.batch_sampler))
        self.iterator = super().__iter__()

    def __len__(self) -> int:
        return len(self.batch_sampler.sampler)  # type: ignore[union-attr]

    def __iter__(self) -> Any:
        for _ in range(len(self)):
            yield next(self.iterator)


class _Around:
    def __init__(self, iterator: Any) -> None:
        self.iterator = iterator

    def __iter__(self) -> Any:
        return self

    def __next__(self) -> Any:
        return list(next(self.iterator))


class OwnIterator(DataLoader[Any]):
    """An iterator of its own around torch's: torch_geometric's NodeLoader."""

    def _get_iterator(self) -> Any:
        return _Around(super()._get_iterator())


def _train(kind: type[DataLoader[Any]], cut: Cut, record: Record) -> None:
    gc.collect()
    model = network()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    loader = kind(dataset(), batch_size=5, shuffle=True)
    with cut.box():
        for _ in range(3):
            for x, y in loader:
                loss = train_step(model, optimizer, x, y)
                record.append((loss, digest([model.state_dict(), optimizer.state_dict()])))
                cut.reached(len(record))


@pytest.mark.parametrize("kind", [ToDevice, Endless, OwnIterator])
@pytest.mark.parametrize("at", [4, 9, 13])
def test_every_shape_goes_on_at_its_batch(kind: type[DataLoader[Any]], at: int) -> None:
    """After a cut each further step has the loss and the state of the uncut training; nothing is taken back."""
    whole: Record = []
    seed(0)
    _train(kind, Cut("whole"), whole)
    record: Record = []
    seed(0)
    _train(kind, Cut("cut", at, "ctrl-c"), record)
    assert len(record) == at
    seed(77)
    _train(kind, Cut("cut", piece=1), record)
    rest = len(whole) if kind is Endless else 9 * (at // 9 + 1)
    assert record[:rest] == whole[:rest]


def _plain(record: list[float]) -> None:
    model = network()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for _ in range(2):
        for x, y in DataLoader(dataset(), batch_size=5, shuffle=True):
            record.append(train_step(model, optimizer, x, y))


@pytest.mark.parametrize(
    ("owner", "name"),
    [
        (pass_watch, "signature_of"),
        (pass_watch, "pass_start"),
        (known_iterators.KnownIterators, "note"),
        (pass_watch.PassWatch, "_asked"),
        (pass_watch.PassWatch, "_between"),
        (raw_loop.RawTorchLoop, "_meet"),
        (raw_loop.RawTorchLoop, "_step_comes"),
        (raw_loop, "in_use_with"),
    ],
)
def test_a_fault_of_ours_leaves_the_training_as_it_is(
    owner: Any, name: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Whatever goes wrong in what we put around torch's methods, the script gets what it would have got, and a line."""
    alone: list[float] = []
    seed(0)
    _plain(alone)

    def fails(*_: Any, **__: Any) -> Any:
        raise ZeroDivisionError("made for this test")

    monkeypatch.setattr(owner, name, fails)
    losses: list[float] = []
    seed(0)
    with Cut("fails").box():
        _plain(losses)
    assert losses == alone
    assert capfd.readouterr().err.count("ZeroDivisionError: made for this test") == 1


def test_an_error_of_the_scripts_own_loader_is_raised_as_it_is(capfd: pytest.CaptureFixture[str]) -> None:
    """A sampler that fails is no fault of ours: nothing is said, and the script sees its own error."""

    class Broken(torch.utils.data.Sampler[int]):
        def __iter__(self) -> Iterator[int]:
            raise LookupError("the script's own")

        def __len__(self) -> int:
            return 4

    with pytest.raises(LookupError, match="the script's own"), Cut("own").box():
        list(DataLoader(dataset(), batch_sampler=Broken()))  # type: ignore[arg-type]
    assert "cannot be followed" not in capfd.readouterr().err


def test_a_thread_that_reads_the_loader_decides_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    """A background thread fetches ahead: boundaries come in the thread that trains, and the state is one step's."""
    made_in: list[str] = []

    def train(cut: Cut, record: Record) -> None:
        model = network()
        optimizer = torch.optim.SGD(model.parameters(), lr=1e-2)
        with cut.box() as box:
            session = box._running()
            states = session.training_state.states

            def noted() -> Any:
                made_in.append(threading.current_thread().name)
                return states()

            session.training_state.states = noted  # type: ignore[method-assign]
            for _ in range(2):
                batches: queue.Queue[Any] = queue.Queue(2)
                iterator = iter(DataLoader(dataset(), batch_size=5, shuffle=True))
                reader = threading.Thread(target=lambda i=iterator, q=batches: [q.put(one) for one in i])  # type: ignore[misc]
                reader.start()
                for _ in range(9):
                    x, y = batches.get(timeout=60)
                    record.append((train_step(model, optimizer, x, y), digest(model.state_dict())))
                    cut.reached(len(record))
                reader.join(60)

    record: Record = []
    cut = Cut("threads", 9, "ctrl-c")
    try:
        train(cut, record)
    finally:
        assert cut.opened is not None
    assert cut.opened.outcome == "stopped"
    assert len(record) == 9
    assert capfd.readouterr().err.count("a thread other than the one that trains") == 1
    assert set(made_in) == {threading.main_thread().name}
