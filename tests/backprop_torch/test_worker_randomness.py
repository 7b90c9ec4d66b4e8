"""Random numbers drawn in a loader's workers go on where they were; where that cannot be promised it is said, once."""

from __future__ import annotations

import multiprocessing
import random
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader, Dataset

from backprop_torch.dataloader_state import StockLoaderReading
from backprop_torch.pass_workers import PassWorkers
from backprop_torch.rng_state import Randomness
from backprop_torch.worker_states import made_noting, notes_of, saved_workers
from tests.backprop_torch.cutting import Cut, digest, seed
from tests.backprop_torch.kinds._parts import dataset, fit
from tests.backprop_torch.kinds.loaders import _Augmented


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BACKPROP_HOME", str(tmp_path))
    torch.set_num_threads(1)


def _train(cut: Cut, *, replay: bool = False, **how: Any) -> dict[str, Any]:
    seed(cut.piece)
    loader = DataLoader(_Augmented(), batch_size=5, shuffle=True, num_workers=2, **how)
    made = fit(cut, loader, epochs=2, replay=replay)
    if loader._iterator is not None:
        loader._iterator._shutdown_workers()  # type: ignore[attr-defined]
    return made


@pytest.mark.parametrize(
    "how",
    [
        {},
        {"replay": True},
        {"persistent_workers": True, "prefetch_factor": 4},
        {"persistent_workers": True, "replay": True},
        pytest.param({"multiprocessing_context": "spawn"}, marks=pytest.mark.faults),
        pytest.param(
            {"multiprocessing_context": "forkserver", "persistent_workers": True}, marks=pytest.mark.faults
        ),
    ],
)
@pytest.mark.parametrize("at", [5, 9, 12])
def test_random_augmentation_in_workers_goes_on(
    how: dict[str, Any], at: int, capfd: pytest.CaptureFixture[str]
) -> None:
    """After a cut inside an epoch, or between two, the bits are those of the uncut training, and nothing is said."""
    whole = digest(_train(Cut("whole"), **how))
    _train(Cut("cut", at, "ctrl-c"), **how)
    resumed = digest(_train(Cut("cut", piece=1), **how))
    assert "The order of the batches is exact" not in capfd.readouterr().err
    assert resumed == whole


def test_workers_that_are_not_dealt_to_in_turn(capfd: pytest.CaptureFixture[str]) -> None:
    """Nobody knows which batches are trained, nor who made them: it is said once, on the resume alone."""
    _train(Cut("cut", 5, "ctrl-c"), in_order=False)
    assert "in_order" not in capfd.readouterr().err
    _train(Cut("cut", piece=1), in_order=False)
    assert capfd.readouterr().err.count("in_order=False") == 1


def _reading(
    loader: DataLoader[Any], batches: int, saved: Any = None, skip: int = 0
) -> tuple[Any, list[Any]]:
    reading = StockLoaderReading(loader, Randomness())
    iterator = reading.begin(saved, skip, None)
    given = [next(iterator) for _ in range(batches)]
    state = reading.position(midway=False)
    if loader._iterator is not None:
        loader._iterator._shutdown_workers()  # type: ignore[attr-defined]
    return (state, reading.caveat), given


def test_another_number_of_workers_is_said() -> None:
    """Batches that two workers made cannot go on in three: the order is exact, and a sentence says what is not."""
    (state, _), _ = _reading(DataLoader(_Augmented(), batch_size=5, num_workers=2), 3)
    (_, caveat), _ = _reading(DataLoader(_Augmented(), batch_size=5, num_workers=3), 1, state, 3)
    assert "(augmentation)" in caveat


class _Generates(DataLoader[Any]):
    def __iter__(self) -> Any:
        yield from super().__iter__()


def test_a_loader_that_is_a_generator_goes_on_behind_its_batches() -> None:
    """It asks its sampler when its first batch is asked for. It began anew, under a sentence that the order is exact."""
    seed(1)
    _, whole = _reading(_Generates(dataset(), batch_size=5, shuffle=True, num_workers=2), 5)
    seed(1)
    (state, _), _ = _reading(_Generates(dataset(), batch_size=5, shuffle=True, num_workers=2), 3)
    seed(2)
    _, rest = _reading(_Generates(dataset(), batch_size=5, shuffle=True, num_workers=2), 2, state, 3)
    assert digest(rest) == digest(whole[3:])


def test_workers_that_draw_nothing_leave_nothing_in_a_checkpoint() -> None:
    """Only which batch comes next, and whose turn it is."""
    (state, _), _ = _reading(DataLoader(dataset(), batch_size=5, num_workers=2), 3)
    assert state["workers"] == {"batch": 3, "turn": 1, "seed": None, "drawn": [-1, -1]}
    (state, caveat), _ = _reading(DataLoader(dataset(), batch_size=5, num_workers=2), 2, state, 3)
    assert state["workers"] == {"batch": 5, "turn": 1, "seed": None, "drawn": [-1, -1]}
    assert not caveat


def test_the_script_finds_its_own_worker_init_fn() -> None:
    """It is replaced only while the workers are made."""

    def own(worker: int) -> None:
        random.seed(worker)

    loader = DataLoader(_Augmented(), batch_size=5, num_workers=1, worker_init_fn=own)
    iterator = made_noting(iter, loader)
    assert loader.worker_init_fn is own
    assert notes_of(iterator) is not None


class _LoaderInside(Dataset[Any]):
    """Reads another loader for each of its samples, and fails at one of them."""

    def __len__(self) -> int:
        return 12

    def __getitem__(self, index: int) -> Any:
        inner = DataLoader(list(range(4)), batch_size=2, shuffle=True)  # type: ignore[arg-type]
        return sum(float(one.sum()) for one in inner) + random.random()


def test_a_loader_inside_of_the_data_set_is_not_counted() -> None:
    """What the worker makes for its own data set is no batch of the training's."""
    seed(1)
    loader = DataLoader(_LoaderInside(), batch_size=2, num_workers=2)
    _, whole = _reading(loader, 6)
    seed(1)
    (state, _), first = _reading(loader, 3)
    seed(2)
    (_, caveat), rest = _reading(loader, 3, state, 3)
    assert not caveat
    assert digest([*first, *rest]) == digest(whole)


def _replaced(worker: int) -> None:
    import numpy as np

    np.random.set_state(np.random.RandomState(worker).get_state())
    random.seed(worker)
    random.getstate = lambda: (4, (), None)  # type: ignore[assignment]


def test_a_generator_of_an_unknown_kind_is_said() -> None:
    """A worker whose generators cannot be noted works as it did, and the place in the data is exact."""
    loader = DataLoader(_Augmented(), batch_size=5, num_workers=2, worker_init_fn=_replaced)
    (state, _), _ = _reading(loader, 3)
    assert "workers" not in state
    (_, caveat), _ = _reading(loader, 1, state, 3)
    assert "(augmentation)" in caveat


@pytest.mark.parametrize(
    "broken",
    [
        {},
        None,
        {"batch": 1, "turn": 5, "seed": None, "drawn": [-1, -1]},
        {"batch": 1, "turn": 0, "seed": None, "drawn": [-1]},
        {"batch": 1, "turn": 0, "seed": None, "drawn": [0, -1]},
        {"batch": 1, "turn": 0, "seed": "x", "drawn": [-1, -1]},
        {"batch": 1, "turn": 0, "seed": None, "drawn": [0, -1], "states": torch.zeros(1, 5)},
    ],
)
def test_a_state_that_is_not_of_these_workers_is_refused(broken: Any) -> None:
    """Whatever lies in a checkpoint there, no error comes of it."""
    assert saved_workers(broken, 2) is None


def test_default_start_methods_are_known() -> None:
    """Where Python starts processes another way, workers note nothing, and that has to be seen here."""
    assert set(multiprocessing.get_all_start_methods()) <= {"fork", "spawn", "forkserver"}
    assert PassWorkers(DataLoader(dataset(), num_workers=1)).come_back
