"""A Lightning training cut into pieces gives the same bits as one that was never cut."""

from __future__ import annotations

from typing import Any

import pytest

from tests.backprop_lightning.cutting import run_pieces

KINDS = {
    "pytorch_lightning": (
        "plain own_state two_workers kept_workers accumulation scheduled_accumulation lbfgs plateau validation_in_epoch"
        " validation_across_epochs no_validation hooks_that_draw own_sampler datamodule reloaded bf16 scaled"
        " two_optimizers averaged found_batch_size plain@on_train_epoch_start hooks_that_draw@on_validation_end"
        " hooks_that_draw@on_train_epoch_end loaders_made_of_state loaders_made_of_state@on_train_epoch_start"
        " loaders_made_of_one_dataset"
        " loaders_made_early loaders_made_early_with_workers loaders_made_early_and_again state_of_validation"
        " drawing_kept_workers_limited"
    ),
    "lightning.pytorch": (
        "cycled_loaders_with_workers shortest_loader longest_loader stateful stateful_stream stream_two_workers sized_stream"
        " clipped_and_limited limited_stream overfit own_methods barebones swa pruned_by_hooks stopped_early"
        " kept_checkpoints found_rate drawing_pairs drawing_unsized drawing_spawned_workers drawing_workers by_steps own_batches"
    ),
}
QUICK = "cycled_loaders stateful_two_workers stream pruned drawing_kept_workers"
"""Of `lightning.pytorch`: what `make test` trains; `make test-long` all others."""
OUT_OF_TURN = "drawing_out_of_turn"
CASES = [("lightning.pytorch", f"{QUICK} {OUT_OF_TURN}", name) for name in QUICK.split()] + [
    pytest.param(package, names, name, marks=pytest.mark.long)
    for package, names in KINDS.items()
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


@pytest.mark.parametrize(("package", "names", "name"), CASES, ids=lambda word: word.split()[0])
def test_pieces_are_the_same_as_the_whole(
    trained: dict[str, dict[str, Any]], package: str, names: str, name: str
) -> None:
    """Weights, optimizers, every logged value with its step, the last metrics and the order of samples are the same."""
    whole, cut = trained[name]["whole"], trained[name]["cut"]
    assert whole["outcome"] == "completed"
    assert cut["outcomes"][-1] == "completed"
    assert len(cut["outcomes"]) > 1
    for outcome, at in zip(cut["outcomes"], trained[name]["at"], strict=False):
        over = (
            at == whole["ticks"] - 1
        )  # in the last validation: where it cannot be left there, nothing is left to train
        assert outcome in ("preempted", "stopped", *["completed"] * over), cut["outcomes"]
    for part in PARTS:
        assert cut[part] == whole[part], f"{part} after cuts at {trained[name]['at']}"
    if (bare := trained[name]["bare"]) is not None:
        assert [whole[part] for part in PARTS] == [bare[part] for part in PARTS]
        assert not any(cut["said"])


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
