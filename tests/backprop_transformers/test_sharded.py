"""Trainings whose model FSDP2 shards over processes are saved by each of them, and come back as they were."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from accelerate import DistributedType
from safetensors.torch import load_file

from backprop_core.checkpoints.store import open_store
from backprop_core.clock import SYSTEM
from backprop_core.export import export_checkpoint
from backprop_transformers.train_entry import out_of_reach
from tests.backprop_torch.on_two_ranks import made, trained

SCRIPT = "tests.backprop_transformers.sharded_ranks"


@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    "how",
    [pytest.param("loaded", marks=pytest.mark.long), pytest.param("prepared", marks=pytest.mark.faults)],
)
def test_processes_that_shard_stop_after_the_same_step_and_resume_exactly(tmp_path: Path, how: str) -> None:
    """A SIGTERM to one stops both; weights, optimizer, log and random numbers go on as in an uncut training.

    Every part is verified, and exported as one file with the names of the model's own state dict.
    """
    for run, at in (("whole", 0), ("cut", 5), ("cut", 0)):
        trained(SCRIPT, tmp_path, how, run, str(at))
    for rank in (0, 1):
        whole, first, second = (made(tmp_path, f"{name}-{rank}") for name in ("whole-0", "cut-5", "cut-0"))
        assert (first["outcome"], second["outcome"]) == ("preempted", "completed")
        assert 1 <= first["step"] < whole["step"]
        assert first["states"] + second["states"] == whole["states"]
        for what in ("step", "logged", "loss", "drawn", "end"):
            assert second[what] == whole[what], what
    store = open_store(tmp_path / "home" / "runs" / "cut" / "checkpoints", clock=SYSTEM)
    (info,) = [info for info in store.list() if info.step == made(tmp_path, "cut-5-0")["step"]]
    assert store.verify(info) == []
    export_checkpoint(info, tmp_path / "exported")
    exported = load_file(tmp_path / "exported" / "model.safetensors")
    gathered = torch.load(tmp_path / "cut-5.pt", weights_only=True)
    assert exported.keys() == gathered.keys()
    assert all(torch.equal(exported[name], gathered[name]) for name in gathered)


@pytest.mark.parametrize(
    ("trainer", "accelerator", "why"),
    [
        ({"is_deepspeed_enabled": True}, {}, "DeepSpeed"),
        ({"is_fsdp_enabled": True}, {"is_fsdp2": False}, "FSDP1"),
        (
            {"is_fsdp_enabled": True},
            {"is_fsdp2": True, "parallelism_config": object()},
            "hold the whole model",
        ),
        ({"is_distributed_loading_by_transformers": True, "tp_size": 2}, {}, "tensor"),
        ({}, {"distributed_type": DistributedType.MEGATRON_LM}, "hold the whole model"),
        ({"is_fsdp_enabled": True}, {"is_fsdp2": True}, None),
        ({"is_distributed_loading_by_transformers": True, "tp_size": 1}, {}, None),
        ({}, {}, None),
    ],
)
def test_what_is_not_known_to_come_back_is_refused_by_name(
    trainer: dict[str, object], accelerator: dict[str, object], why: str | None
) -> None:
    """DeepSpeed, FSDP1 and pieces of a model that only their owner knows; FSDP2 is not."""
    layout = SimpleNamespace(tp_size=trainer.pop("tp_size", 1), pp_size=1, ep_size=1)
    model = SimpleNamespace(config=SimpleNamespace(distributed_config=layout))
    beside = {"distributed_type": DistributedType.MULTI_CPU, "parallelism_config": None, **accelerator}
    said = out_of_reach(SimpleNamespace(model=model, accelerator=SimpleNamespace(**beside), **trainer))
    assert said is None if why is None else why in str(said)
