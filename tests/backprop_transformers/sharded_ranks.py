"""A Trainer's training whose model FSDP2 shards: `-m tests.backprop_transformers.sharded_ranks FOLDER HOW RUN AT`.

HOW is `loaded` (transformers shards the model as it loads it) or `prepared` (accelerate shards it, as with `fsdp=True`).
In its AT-th step or evaluated batch (0: never) the last rank sends itself a SIGTERM. Each rank writes what it saw, with
digests of the gathered state, to FOLDER/RUN-AT-<rank>.json.
"""

from __future__ import annotations

import json
import os
import random
import sys
import warnings
from pathlib import Path
from typing import Any

warnings.simplefilter("ignore")

import torch  # noqa: E402
import torch.distributed as dist  # noqa: E402
from accelerate import DistributedType  # noqa: E402
from transformers import LlamaConfig, LlamaForCausalLM, Trainer, TrainingArguments  # noqa: E402

from backprop_transformers import BackpropCallback  # noqa: E402
from tests.backprop_torch.cutting import digest  # noqa: E402
from tests.backprop_torch.sharded_ranks import gathered  # noqa: E402
from tests.backprop_transformers.cutting import without_times  # noqa: E402
from tests.backprop_transformers.recipes import LENGTH, WORDS, Text  # noqa: E402
from tests.backprop_transformers.witness import Striking  # noqa: E402
from tests.noted import Noted  # noqa: E402

STATES = Noted()


class Shards(Trainer):
    """accelerate 1.15 looks at its FSDP plugin on accelerators alone, and takes DDP on a processor: it is told to shard."""

    def create_accelerator_and_postprocess(self) -> None:
        super().create_accelerator_and_postprocess()
        if self.args.fsdp_plugin_args is not None:
            from accelerate.utils import FullyShardedDataParallelPlugin

            self.accelerator.state.distributed_type = DistributedType.FSDP
            self.accelerator.state.fsdp_plugin = FullyShardedDataParallelPlugin(**self.args.fsdp_plugin_args)
            self.is_fsdp_enabled = True

    def training_step(self, model: Any, *args: Any, **kwargs: Any) -> torch.Tensor:
        STATES.append([self.state.global_step, digests(self)])
        loss: torch.Tensor = super().training_step(model, *args, **kwargs)
        return loss


def digests(trainer: Trainer) -> dict[str, str]:
    """Of the gathered state; every rank has to ask."""
    assert trainer.optimizer is not None
    parts = {"model": dict(trainer.model.state_dict()), "optimizer": trainer.optimizer.state_dict()["state"]}
    return {name: digest(gathered(part)) for name, part in parts.items()}


def made(folder: Path, how: str) -> Trainer:
    settings = LlamaConfig(
        vocab_size=WORDS, hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=2, max_position_embeddings=LENGTH, attention_dropout=0.2, tie_word_embeddings=False,
    )  # fmt: skip
    arguments: dict[str, Any] = {
        "output_dir": str(folder / "trainer"), "num_train_epochs": 2, "per_device_train_batch_size": 3,
        "gradient_accumulation_steps": 2, "learning_rate": 1e-2, "logging_steps": 1, "eval_strategy": "steps",
        "eval_steps": 3, "save_strategy": "no", "report_to": [], "use_cpu": True, "disable_tqdm": True,
    }  # fmt: skip
    if how == "loaded":
        from transformers.distributed import DistributedConfig

        weights = folder / "weights"
        if dist.get_rank() == 0 and not weights.exists():
            LlamaForCausalLM(settings).save_pretrained(weights)
        dist.barrier()
        model = LlamaForCausalLM.from_pretrained(weights, distributed_config=DistributedConfig(fsdp_size=2))
    else:
        model = LlamaForCausalLM(settings)
        layers = {"version": 2, "transformer_layer_cls_to_wrap": ["LlamaDecoderLayer"]}
        arguments |= {
            "fsdp": "full_shard auto_wrap",
            "fsdp_config": {**layers, "cpu_ram_efficient_loading": False},
        }
    return Shards(
        model=model, args=TrainingArguments(**arguments), train_dataset=Text(38, noise=True),
        eval_dataset=Text(8),
    )  # fmt: skip


def main() -> None:
    folder, how, run, at = Path(sys.argv[1]), sys.argv[2], sys.argv[3], int(sys.argv[4])
    torch.set_num_threads(1)
    rank = int(os.environ["RANK"])
    dist.init_process_group("gloo")
    begins = bool(at) or run == "whole"  # a resume must not depend on the seed
    torch.manual_seed(1 if begins else 77)
    trainer = made(folder, how)
    ours = BackpropCallback("10h", run=run, grace=0)
    striking = Striking(at if at and rank == dist.get_world_size() - 1 else None, "sigterm", ours)
    trainer.add_callback(ours)
    trainer.callback_handler.callbacks.insert(0, striking)
    torch.manual_seed((1 if begins else 77) + 100 * rank)
    random.seed((1 if begins else 77) + 100 * rank)
    try:
        output = trainer.train()
        assert any(hasattr(parameter, "full_tensor") for parameter in trainer.model.parameters())
        told = {
            "outcome": str(ours.outcome),
            "step": trainer.state.global_step,
            "states": list(STATES),
            "logged": [without_times(entry) for entry in trainer.state.log_history],
            "loss": output.training_loss,
            "drawn": torch.rand(2).tolist(),
            "end": digests(trainer),
        }
        whole = gathered(dict(trainer.model.state_dict()))
        if rank == 0:
            torch.save(whole, folder / f"{run}-{at}.pt")
        (folder / f"{run}-{at}-{rank}.json").write_text(json.dumps(told))
    finally:
        dist.destroy_process_group()


if __name__ == "__main__":
    main()
