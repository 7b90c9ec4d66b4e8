"""`with backprop.timebox():` around a loop that is otherwise unchanged."""

from __future__ import annotations

import gc
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim import optimizer as torch_hooks
from torch.utils.data import DataLoader
from torch.utils.data.dataloader import _BaseDataLoaderIter
from torchdata.stateful_dataloader import StatefulDataLoader

import backprop
from tests.backprop_torch.cutting import Cut, digest, seed
from tests.backprop_torch.kinds._parts import dataset, network, train_step
from tests.backprop_torch.kinds.loaders import _accelerated, _augmented_by, _Dealing, _Noisy, _Transformed

Record = list[tuple[float, str]]
Train = Callable[[Cut, Record], Any]


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BACKPROP_HOME", str(tmp_path))
    torch.set_num_threads(1)


def _piece(train: Train, cut: Cut, record: Record) -> Cut:
    """One piece, with nothing of the earlier ones left in this process that could be found."""
    gc.collect()
    train(cut, record)
    return cut


def _note(record: Record, cut: Cut, loss: float, *parts: Any) -> None:
    record.append((loss, digest([part.state_dict() for part in parts])))
    cut.reached(len(record))


def ordinary(cut: Cut, record: Record, loader: Any = None, checks: Any = None) -> None:
    """Scheduler and evaluation between the epochs."""
    model = network()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1, 0.5)
    loader = loader or DataLoader(dataset(), batch_size=5, shuffle=True)
    checks = checks or DataLoader(dataset(20), batch_size=10)
    with cut.box():
        for _ in range(3):
            model.train()
            for x, y in loader:
                loss = train_step(model, optimizer, x, y)
                _note(record, cut, loss, model, optimizer, scheduler)
            model.eval()
            for x, _y in checks:
                model(x)
            scheduler.step()
            torch.rand(1)
            print("last loss", loss)


def workers(cut: Cut, record: Record) -> None:
    ordinary(cut, record, DataLoader(dataset(), batch_size=5, shuffle=True, num_workers=2))


def augmenting_workers(cut: Cut, record: Record) -> None:
    """Workers that stay from one epoch to the next, and draw from each global generator."""
    ordinary(cut, record, _augmented_by(2, stay=True))


def accelerated(cut: Cut, record: Record) -> None:
    """The same, which go: a batch is fetched ahead of the one that is trained."""
    ordinary(cut, record, _accelerated(_augmented_by(2, stay=False)))


def checked_on_its_own(cut: Cut, record: Record) -> None:
    """After each epoch the data of the training are read again, from the same loader, with gradients off."""
    model = network()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    loader = DataLoader(dataset(), batch_size=5, shuffle=True)
    with cut.box():
        for _ in range(3):
            for x, y in loader:
                loss = train_step(model, optimizer, x, y)
                _note(record, cut, loss, model, optimizer)
            with torch.no_grad():
                for x, _y in loader:
                    model(x + torch.rand(1))


def accelerated_checks(cut: Cut, record: Record) -> None:
    """Two of accelerate's loaders, which look alike but for what is in their batch samplers; the checks draw, too."""
    checks = _accelerated(DataLoader(dataset(), batch_size=10, collate_fn=_Noisy()))
    ordinary(cut, record, _accelerated(DataLoader(dataset(), batch_size=5, shuffle=True)), checks)


def stateful(cut: Cut, record: Record) -> None:
    ordinary(cut, record, StatefulDataLoader(dataset(), batch_size=5, shuffle=True))


def state_in_the_loader(cut: Cut, record: Record) -> None:
    """A sampler that deals from a list of its own, a generator two levels below the dataset, one in the collate function."""
    parts = {"sampler": _Dealing(42), "collate_fn": _Noisy()}
    ordinary(cut, record, DataLoader(_Transformed(), batch_size=5, **parts))


def gan(cut: Cut, record: Record) -> None:
    """Two optimizers in each iteration."""
    maker, judge = nn.Linear(4, 6), network()
    makers = torch.optim.Adam(maker.parameters(), lr=1e-2)
    judges = torch.optim.RMSprop(judge.parameters(), lr=1e-3)
    with cut.box():
        for _ in range(3):
            for x, y in DataLoader(dataset(), batch_size=5, shuffle=True):
                loss = train_step(judge, judges, x, y)
                makers.zero_grad()
                judge(maker(torch.randn(len(x), 4))).logsumexp(1).mean().backward()
                makers.step()
                _note(record, cut, loss, maker, judge, makers, judges)


def accumulation(cut: Cut, record: Record) -> None:
    """Three batches to a step: the boundary is behind a step, so the window is always finished."""
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-2, momentum=0.9)
    with cut.box():
        for _ in range(3):
            for number, (x, y) in enumerate(DataLoader(dataset(45), batch_size=5, shuffle=True), start=1):
                (nn.functional.cross_entropy(model(x), y) / 3).backward()
                if number % 3 == 0:
                    optimizer.step()
                    optimizer.zero_grad()
                    _note(record, cut, 0.0, model, optimizer)


def scaled(cut: Cut, record: Record) -> None:
    """A GradScaler and a moving average that nobody named."""
    model = nn.Linear(6, 3)
    average = torch.optim.swa_utils.AveragedModel(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-2)
    scaler = torch.amp.GradScaler("cpu", init_scale=8.0, growth_interval=2)
    with cut.box():
        for _ in range(3):
            for x, y in DataLoader(dataset(), batch_size=5, shuffle=True):
                optimizer.zero_grad()
                loss = nn.functional.cross_entropy(model(x), y)
                scaler.scale(loss).backward()
                scaler.step(optimizer)
                scaler.update()
                average.update_parameters(model)
                _note(record, cut, loss.item(), model, optimizer, average, scaler)


def _whole(train: Train) -> Record:
    record: Record = []
    seed(0)
    _piece(train, Cut("whole"), record)
    return record


TRAINS = (
    ordinary,
    workers,
    augmenting_workers,
    accelerated,
    accelerated_checks,
    checked_on_its_own,
    stateful,
    gan,
    accumulation,
    scaled,
    state_in_the_loader,
)
CUT_AT = [
    pytest.param(train, at, marks=[] if train is ordinary or at == 9 else [pytest.mark.long])
    for train in TRAINS
    for at in (1, 4, 8, 9, 13)
]
"""The end of the first epoch for each kind; its middle and the second epoch for one."""


@pytest.mark.parametrize(("train", "at"), CUT_AT)
def test_state_and_the_rest_of_the_epoch_come_back(
    train: Train, at: int, capfd: pytest.CaptureFixture[str]
) -> None:
    """After a cut every further step has the loss, weights and optimizer state of the uncut training; said once."""
    if train is accumulation:
        at = at // 2 + 1
    whole = _whole(train)
    record: Record = []
    seed(0)
    first = _piece(train, Cut("cut", at, "ctrl-c"), record)
    assert str(first.opened.outcome) == "stopped"  # type: ignore[union-attr]
    done = len(record)
    assert done == at
    capfd.readouterr()
    seed(77)
    _piece(train, Cut("cut", piece=1), record)
    assert record[: len(whole)] == whole, f"wrong from step {_first_wrong(record, whole)}, cut after {done}"
    assert capfd.readouterr().err.count("Two lines make it exact") == 1


@pytest.mark.parametrize("train", [ordinary, workers, stateful, gan, state_in_the_loader])
@pytest.mark.parametrize("cuts", [pytest.param((1, 4), marks=pytest.mark.long), (4, 6)])
def test_a_second_cut_loses_nothing_either(train: Train, cuts: tuple[int, int]) -> None:
    """A piece that was itself resumed is cut inside the same epoch: every further step is as uncut."""
    whole = _whole(train)
    record: Record = []
    for piece, at in enumerate([*cuts, None]):
        seed(70 * piece)
        cut = _piece(train, Cut("cut", at, "sigterm", piece=piece), record)
        if at is not None:
            assert (len(record), str(cut.opened.outcome)) == (at, "preempted")  # type: ignore[union-attr]
    assert record[: len(whole)] == whole, f"wrong from step {_first_wrong(record, whole)}"


def test_workers_that_are_not_known_are_named_on_a_resume(capfd: pytest.CaptureFixture[str]) -> None:
    """Their batches are not dealt in turn, so nobody knows who made which: one line says what is not as it was."""
    for piece, at in enumerate([4, None]):
        loader = DataLoader(dataset(), batch_size=5, shuffle=True, num_workers=2, in_order=False)
        ordinary(Cut("cut", at, "ctrl-c", piece=piece), [], loader)
        assert capfd.readouterr().err.count("in_order=False") == piece


def _first_wrong(record: Record, whole: Record) -> int:
    return next(n for n, (mine, theirs) in enumerate(zip(record, whole, strict=False), 1) if mine != theirs)


@pytest.mark.parametrize("at", [4, 9, 13])
def test_objects_that_are_made_inside_the_block_are_restored_before_the_second_step(at: int) -> None:
    """The first step of the resumed loop has no effect; from the second on it is the uncut training."""

    def train(cut: Cut, record: Record) -> None:
        with cut.box():
            model = network()
            optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
            for _ in range(3):
                for x, y in DataLoader(dataset(), batch_size=5, shuffle=True):
                    loss = train_step(model, optimizer, x, y)
                    _note(record, cut, loss, model, optimizer)

    whole = _whole(train)
    record: Record = []
    seed(0)
    train(Cut("cut", at, "ctrl-c"), record)
    later: Record = []
    seed(77)
    train(Cut("cut", piece=1), later)
    assert record + later[1 : len(whole) - len(record) + 1] == whole


def test_a_loop_without_a_loader_goes_on_at_the_interrupted_step() -> None:
    """What is restored at once is the state behind the last finished step; the next step takes the gradients it had."""

    told: SimpleQueue[str] = SimpleQueue()  # a local variable would itself be restored

    def train(cut: Cut, record: Record, steps: int = 20) -> str:
        model = nn.Linear(6, 3)
        optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
        x, y = dataset().tensors
        with cut.box():
            told.put(digest([model.state_dict(), optimizer.state_dict()]))
            for _ in range(steps):
                loss = train_step(model, optimizer, x, y)
                _note(record, cut, loss, model, optimizer)
        return told.get()

    record: Record = []
    seed(0)
    train(Cut("cut", 7, "ctrl-c"), record)
    seed(77)
    assert len(record) == 7
    later: Record = []
    assert train(Cut("cut", piece=1), later, 13) == record[6][1]
    whole: Record = []
    seed(0)
    train(Cut("whole"), whole)
    assert [weights for _, weights in record + later] == [weights for _, weights in whole]


# -- what is patched is undone ---------------------------------------------------------------------------------


def _patched() -> list[Any]:
    return [
        DataLoader.__iter__,
        StatefulDataLoader.__iter__,
        _BaseDataLoaderIter.__next__,
        dict(torch_hooks._global_optimizer_pre_hooks),
        dict(torch_hooks._global_optimizer_post_hooks),
        *(signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)),
    ]


def _loop() -> Iterator[int]:
    model = network()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for number, (x, y) in enumerate(DataLoader(dataset(), batch_size=5)):
        train_step(model, optimizer, x, y)
        yield number


@pytest.mark.parametrize("error", [ValueError("mine"), KeyboardInterrupt(), SystemExit(3), GeneratorExit()])
def test_the_scripts_own_exceptions_pass_through_and_everything_patched_is_undone(
    error: BaseException,
) -> None:
    """The same exception object arrives, its traceback leads to the script's own line, hooks and handlers are gone."""
    before = _patched()
    box = backprop.timebox()

    def script() -> None:
        with box:
            for number in _loop():
                if number == 2:
                    raise error

    with pytest.raises(type(error)) as caught:
        script()
    assert caught.value is error
    assert caught.traceback[-1].path == Path(__file__)
    assert _patched() == before
    stopped = isinstance(error, KeyboardInterrupt)
    assert str(box.outcome) == ("stopped" if stopped else "failed")


def test_a_break_leaves_nothing_behind_and_a_second_box_works() -> None:
    """Loops left by break, explicit and unchanged ones, and boxes one after another in one process."""
    before = _patched()
    for _ in range(2):
        with backprop.timebox(losses=[]) as box:
            for number in box.batches(range(10)):
                if number == 3:
                    break
        with backprop.timebox():
            for number in _loop():
                if number == 3:
                    break
    assert _patched() == before


def test_the_private_signal_is_not_caught_by_except_exception() -> None:
    """A script that catches every Exception in its loop is left all the same."""
    cut = Cut("caught", 3, "ctrl-c")
    seen: list[int] = []
    with cut.box(seen=seen) as box:
        for number in box.steps(10):
            try:
                seen.append(number)
                cut.reached(len(seen))
            except Exception:
                pytest.fail("caught")
    assert seen == [0, 1, 2]


@pytest.mark.parametrize("made_inside", [False, True])
def test_a_completed_unchanged_loop_is_passed_over(
    made_inside: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The script runs again: the block is left before anything is trained on, with the final weights in place."""

    def trained() -> tuple[backprop.TimeBox, str]:
        model, optimizer = None, None

        def make() -> tuple[nn.Module, torch.optim.Optimizer]:
            made = network()
            return made, torch.optim.AdamW(made.parameters(), lr=1e-2)

        if not made_inside:
            model, optimizer = make()
        with backprop.timebox("1h", run="over") as box:
            if made_inside:
                model, optimizer = make()
            for _ in range(2):
                for x, y in DataLoader(dataset(), batch_size=5, shuffle=True):
                    train_step(model, optimizer, x, y)
        assert model is not None
        assert optimizer is not None
        return box, digest([model.state_dict(), optimizer.state_dict()])

    seed(1)
    whole = trained()[1]
    gc.collect()
    monkeypatch.setattr("backprop_core.session.enrolment._completed", {})
    seed(2)
    box, again = trained()
    assert (str(box.outcome), again) == ("completed", whole)
