"""Fits whose strategy shards model and optimizers (`ModelParallelStrategy`) are saved by each rank, and come back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from backprop_core.checkpoints.store import open_store
from backprop_core.clock import SYSTEM
from backprop_core.export import export_checkpoint
from tests.backprop_torch.on_two_ranks import TORCHRUN, made, trained

SCRIPT = "tests.backprop_lightning.sharded_ranks"
SPLIT_SUMS = ("tensor_parallel", "both")
"""Layouts whose products are sums of the ranks' parts: without any cut they differ from one process in their last bits."""
pytestmark = pytest.mark.timeout(1800)


def piece(folder: Path, layout: str, count: int, run: str, stop: int, *fresh: str) -> list[dict[str, Any]]:
    """Train one piece; what each rank saw."""
    launcher = () if count == 1 else (*TORCHRUN[:-1], str(count))
    trained(SCRIPT, folder, layout, run, str(stop), *fresh, launcher=launcher)
    return [made(folder, f"{run}-{stop}-{rank}") for rank in range(count)]


@pytest.mark.faults
@pytest.mark.parametrize(
    ("layout", "stop"),
    [("fsdp-dealt", 5), ("fsdp-dealt-manual", 5)],
)
def test_ranks_that_shard_stop_after_the_same_step_and_resume_exactly(
    tmp_path: Path, layout: str, stop: int
) -> None:
    """Each rank finds its samples, random numbers and shards again: weights, optimizer and log are those of an uncut fit.

    Pending gradients of a module that accumulates by itself are shards, too. Every part is verified, and exported as one
    file with the names of the module's own state dict.
    """
    whole = piece(tmp_path, layout, 2, "whole", 0, "fresh")
    first, then = (piece(tmp_path, layout, 2, "cut", at, *["fresh"][:at]) for at in (stop, 0))
    for uncut, one, other in zip(whole, first, then, strict=True):
        assert (one["outcome"], other["outcome"]) == ("preempted", "completed")
        left = list(one["states"])[-1]
        assert stop <= int(left) < 16
        assert other["states"].pop("found") == one["states"][left]
        assert one["states"] | other["states"] == uncut["states"]
        for part in ("seen", "logged"):
            assert one[part] + other[part] == uncut[part]
        assert other["passed"] == uncut["passed"], "a buffer that is in no state_dict"
    store = open_store(tmp_path / "home" / "runs" / "cut" / "checkpoints", clock=SYSTEM)
    (info,) = [info for info in store.list() if info.step == first[0]["step"]]
    assert store.verify(info) == []
    export_checkpoint(info, tmp_path / "exported")
    exported = load_file(tmp_path / "exported" / "model.safetensors")
    gathered = torch.load(tmp_path / f"cut-{stop}.pt", weights_only=True)
    assert exported.keys() == gathered.keys()
    assert all(torch.equal(exported[name], gathered[name]) for name in gathered)


@pytest.mark.faults
@pytest.mark.parametrize(
    "pieces",
    [
        [("fsdp", 4), ("fsdp", 2), ("plain", 1), ("fsdp", 3)],
        [("ddp", 2), ("both", 4), ("tensor_parallel", 2), ("fsdp", 1)],
    ],
    ids=lambda pieces: "-".join(f"{layout}{count}" for layout, count in pieces),
)
def test_a_cut_fit_comes_back_in_other_sizes_layouts_and_strategies(
    tmp_path: Path, pieces: list[tuple[str, int]]
) -> None:
    """Model and optimizer, gathered, are found as they were left, and are those of one process at each cut.

    That is so to the bit as long as the layouts add up as one process does.
    """
    (whole,) = piece(tmp_path, "plain", 1, "whole", 0, "fresh")
    left, exact = whole["states"]["found"], True
    for number, (layout, count) in enumerate(pieces, start=1):
        stop = 3 * number if number < len(pieces) else 0
        cut = piece(tmp_path, layout, count, "cut", stop, *["fresh"][: number == 1])
        assert all(one["outcome"] == ("preempted" if stop else "completed") for one in cut), (layout, count)
        assert all(one["states"]["found"] == left for one in cut), (layout, count)
        batches, left = list(cut[0]["states"].items())[-1]
        exact = exact and layout not in SPLIT_SUMS and count != 3
        assert left == whole["states"].get(batches) or not exact, (layout, count)
