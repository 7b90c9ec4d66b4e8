"""Models that are spread over ranks are saved by each rank, and come back in any number of ranks and any layout."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from safetensors.torch import load_file
from torch.distributed.fsdp import FullyShardedDataParallel, fully_shard

import backprop
from backprop_core.checkpoints.store import open_store
from backprop_core.clock import SYSTEM
from backprop_core.errors import UsageError
from backprop_core.export import export_checkpoint
from backprop_core.prove.pieces import UNREAD, Digests
from backprop_core.prove.witness import Witness
from backprop_torch.framework import TorchFramework
from backprop_torch.script_parts import script_parts
from tests.backprop_torch.on_two_ranks import TORCHRUN, made, trained
from tests.backprop_torch.sharded_ranks import STEPS

SCRIPT = "tests.backprop_torch.sharded_ranks"
SPLIT_SUMS = ("tensor_parallel", "both")
"""Layouts whose products are sums of the ranks' parts: without any cut they differ from one process in their last bits."""
pytestmark = pytest.mark.timeout(900)


def piece(folder: Path, layout: str, count: int, run: str, stop: int, *fresh: str) -> dict[str, Any]:
    launcher = () if layout == "plain" else (*TORCHRUN[:-1], str(count))
    trained(SCRIPT, folder, layout, run, str(stop), *fresh, launcher=launcher)
    return made(folder, f"{run}-{stop}")


@pytest.mark.parametrize(
    "pieces",
    [
        pytest.param([("fsdp", 2), ("plain", 1)], marks=pytest.mark.long),
        pytest.param([("fsdp", 4), ("fsdp", 2), ("plain", 1), ("fsdp", 3)], marks=pytest.mark.faults),
        pytest.param(
            [("tensor_parallel", 2), ("both", 4), ("hsdp", 4), ("plain", 1)], marks=pytest.mark.faults
        ),
    ],
    ids=lambda pieces: "-".join(f"{layout}{count}" for layout, count in pieces),
)
def test_a_cut_training_comes_back_in_other_sizes_and_layouts(
    tmp_path: Path, pieces: list[tuple[str, int]]
) -> None:
    """Model and optimizer, gathered, are found as they were left, and are those of one process at each cut.

    That is so to the bit as long as the layouts add up as one process does. Every part is verified, and exported as one.
    """
    whole = piece(tmp_path, "plain", 1, "whole", 0, "fresh")
    left, exact = whole["found"], True
    for number, (layout, count) in enumerate(pieces, start=1):
        stop = 3 * number if number < len(pieces) else 0
        cut = piece(tmp_path, layout, count, "cut", stop, *["fresh"][: number == 1])
        assert cut["outcome"] == ("preempted" if stop else "completed"), (layout, count)
        assert cut["found"] == left, (layout, count)
        left = cut["after"][str(stop or STEPS)]
        exact = exact and layout not in SPLIT_SUMS and count != 3
        assert left == whole["after"][str(stop or STEPS)] or not exact, (layout, count)
    trained, uncut = (torch.load(tmp_path / f"{run}-0.pt", weights_only=True) for run in ("cut", "whole"))
    torch.testing.assert_close(trained, uncut)
    store = open_store(tmp_path / "home" / "runs" / "cut" / "checkpoints", clock=SYSTEM)
    spread = next(info for info in store.list() if any(info.path.glob("rank-*")))
    assert store.verify(spread) == []
    export_checkpoint(spread, tmp_path / "exported")
    exported = load_file(tmp_path / "exported" / "model.safetensors")
    stopped = spread.step if spread.step < STEPS else 0
    gathered = torch.load(tmp_path / f"cut-{stopped}.pt", weights_only=True)
    assert exported.keys() == gathered.keys()
    assert all(torch.equal(exported[name], gathered[name]) for name in gathered)


def test_fsdp1_is_refused_in_one_sentence() -> None:
    """Its state would be asked for on one rank, and waited for by all: the box says so before it is entered."""
    inner = FullyShardedDataParallel.__new__(FullyShardedDataParallel)
    torch.nn.Module.__init__(inner)
    with pytest.raises(UsageError, match="FSDP1"), backprop.timebox("1m", model=torch.nn.Sequential(inner)):
        raise AssertionError("not reached")


@pytest.mark.faults
def test_one_flipped_bit_in_any_part_is_found(tmp_path: Path) -> None:
    """Each rank's file has its digest in the manifest, and the part of a rank that is missing is damage, too."""
    piece(tmp_path, "fsdp", 2, "cut", 3, "fresh")
    store = open_store(tmp_path / "home" / "runs" / "cut" / "checkpoints", clock=SYSTEM)
    (info,) = store.list()
    path = info.path / "rank-00001" / "model.shards.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    assert "rank-00001/model.shards.safetensors is damaged" in store.verify(info)[0]
    path.unlink()
    assert "is missing" in store.verify(info)[0]


@pytest.fixture
def alone() -> Iterator[None]:
    """A process group of this process."""
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    try:
        yield
    finally:
        dist.destroy_process_group()


@pytest.mark.usefixtures("alone")
def test_a_proof_reads_the_blocks_of_a_sharded_model() -> None:
    """One changed number changes the digest: a spread parameter was not read, and so was equal whatever it held."""
    model = torch.nn.Linear(4, 4)
    fully_shard(model)
    framework = TorchFramework()
    digests = Digests([framework], [framework.translator])
    values = {"model": {"weight": model.weight}}
    before = digests.of(Witness(values=values))["model.weight"]
    with torch.no_grad():
        model.weight.to_local()[0, 0] += 1  # type: ignore[operator]
    after = digests.of(Witness(values=values))["model.weight"]
    assert UNREAD not in (before[1], after[1])
    assert before != after


@pytest.mark.usefixtures("alone")
def test_what_torch_hangs_on_a_sharded_module_is_not_the_scripts() -> None:
    """Its names are drawn anew in each process, so a resume found them new and a proof named them as a difference."""
    model = torch.nn.Linear(4, 4)
    fully_shard(model)
    drawn = [name for name in vars(model) if "composable_api_state" in name]
    assert drawn
    assert set(drawn) <= (script_parts(type(model)) or set())
