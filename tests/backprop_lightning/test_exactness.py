"""A Lightning training cut into pieces gives the same bits as one that was never cut."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.backprop_lightning.cutting import run_pieces

KINDS = {
    "pytorch_lightning": (
        "plain own_state kept_workers scheduled_accumulation validation_in_epoch validation_across_epochs hooks_that_draw"
        " datamodule reloaded two_optimizers averaged hooks_that_draw@on_validation_end loaders_made_of_state"
        " loaders_made_of_state@on_train_epoch_start loaders_made_early_and_again state_of_validation"
        " drawing_kept_workers_limited"
    ),
    "lightning.pytorch": (
        "cycled_loaders_with_workers longest_loader stateful stream_two_workers clipped_and_limited limited_stream"
        " own_methods swa pruned_by_hooks stopped_early kept_checkpoints drawing_pairs drawing_unsized drawing_workers"
        " by_steps"
    ),
}
WITH_FAULTS = {
    "pytorch_lightning": (
        "two_workers accumulation lbfgs plateau no_validation own_sampler bf16 scaled found_batch_size"
        " plain@on_train_epoch_start hooks_that_draw@on_train_epoch_end loaders_made_of_one_dataset loaders_made_early"
        " loaders_made_early_with_workers"
    ),
    "lightning.pytorch": (
        "shortest_loader stateful_stream sized_stream overfit barebones found_rate drawing_spawned_workers own_batches"
    ),
}
QUICK = "cycled_loaders stateful_two_workers stream pruned drawing_kept_workers"
"""Of `lightning.pytorch`: what `make test` trains; `make test-long` those in KINDS, and `make test-faults` the rest."""
OUT_OF_TURN = "drawing_out_of_turn"
CASES = [("lightning.pytorch", f"{QUICK} {OUT_OF_TURN}", name) for name in QUICK.split()] + [
    pytest.param(package, names, name, marks=mark)
    for kinds, mark in ((KINDS, pytest.mark.long), (WITH_FAULTS, pytest.mark.faults))
    for package, names in kinds.items()
    for name in names.split()
]

PARTS = ("seen", "logged", "metrics", "step", "epoch", "weights", "optimizers", "kept")

pytestmark = pytest.mark.timeout(900)
"""The first test of a package waits for all of its trainings, and other work may share the machine."""

_made: dict[str, dict[str, dict[str, Any]]] = {}


@pytest.fixture
def trained(package: str, names: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """The recipes `names` with `package`, trained whole and in pieces, each piece in a fresh process."""
    if names not in _made:
        _made[names] = run_pieces(names.split(), tmp_path_factory.mktemp("exactness"), package)
    return _made[names]


def _check(made: dict[str, Any]) -> None:
    whole, cut = made["whole"], made["cut"]
    assert whole["outcome"] == "completed"
    assert cut["outcomes"][-1] == "completed"
    assert len(cut["outcomes"]) > 1
    for outcome, at in zip(cut["outcomes"], made["at"], strict=False):
        # In the last validation, of three batches: where it cannot be left there, nothing is left to train.
        over = at >= whole["ticks"] - 2
        assert outcome in ("preempted", "stopped", *["completed"] * over), cut["outcomes"]
    for part in PARTS:
        assert cut[part] == whole[part], f"{part} after cuts at {made['at']}"
    if (bare := made["bare"]) is not None:
        assert [whole[part] for part in PARTS] == [bare[part] for part in PARTS]
        assert not any(cut["said"])


@pytest.mark.parametrize(("package", "names", "name"), CASES, ids=lambda word: word.split()[0])
def test_pieces_are_the_same_as_the_whole(
    trained: dict[str, dict[str, Any]], package: str, names: str, name: str
) -> None:
    """Weights, optimizers, every logged value with its step, the last metrics and the order of samples are the same."""
    _check(trained[name])


@pytest.mark.parametrize(
    ("package", "names"), [("lightning.pytorch", f"{QUICK} {OUT_OF_TURN}")], ids=["quick"]
)
def test_batches_that_come_out_of_turn_are_named(
    trained: dict[str, dict[str, Any]], package: str, names: str
) -> None:
    """Where nobody knows which batches are trained, each process that resumes says it, once."""
    first, *others = trained[OUT_OF_TURN]["cut"]["said"]
    assert not first
    assert [len(said) for said in others] == [1] * len(others)


@pytest.mark.long
def test_the_first_loaders_are_made_once_again(tmp_path: Path) -> None:
    """Cut in the epoch that they were made for: `train_dataloader` finds, and leaves behind, what it did then."""
    name = "loaders_made_of_state"
    _check(run_pieces([name], tmp_path, "pytorch_lightning", at={name: [3, 11]})[name])
