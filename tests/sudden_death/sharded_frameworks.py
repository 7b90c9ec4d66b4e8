"""The same as sharded_script.py with loops of frameworks that shard the model: sharded_frameworks.py FRAMEWORK VICTIMS…"""

from __future__ import annotations

import random
import time
import warnings
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from sharded_script import COUNT, LAYOUT, RANK, STEP_S, die_if_it_is_time, told
from torch import nn
from torch.distributed.fsdp import fully_shard
from torch.utils.data import DataLoader, TensorDataset

warnings.simplefilter("ignore")
DATA = TensorDataset(torch.randn(128, 8, generator=torch.Generator().manual_seed(5)), torch.arange(128) % 2)


class Counting:
    """Counts steps and draws a number in each. Both must come back for the digest to be right."""

    def __init__(self) -> None:
        self.steps, self.seen = 0, list[float]()

    def count(self) -> None:
        self.steps += 1
        self.seen.append(random.random() + float(torch.rand(())))
        if RANK == 0:
            print(f"batch {self.steps}\n", end="", flush=True)
        die_if_it_is_time(self.steps)
        time.sleep(STEP_S)


def layers() -> nn.Sequential:
    return nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Dropout(0.2), nn.Linear(16, 2))


def sown() -> None:
    torch.manual_seed(RANK)
    random.seed(RANK)


def with_lightning() -> None:
    import lightning.pytorch as pl
    from lightning.pytorch.strategies import ModelParallelStrategy

    class Module(pl.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.net = layers()

        def configure_model(self) -> None:
            for part in (self.net[0], self.net[3], self.net):
                fully_shard(part, mesh=self.device_mesh["data_parallel"])  # type: ignore[index, arg-type]

        def on_fit_start(self) -> None:
            sown()

        def training_step(self, batch: Any, number: int) -> torch.Tensor:
            return nn.functional.cross_entropy(self.net(batch[0]), batch[1])

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.AdamW(self.parameters(), lr=1e-2)

    class Counter(Counting, pl.Callback):
        def on_train_batch_end(self, *words: Any) -> None:
            self.count()

    torch.manual_seed(0)
    counter = Counter()
    strategy = ModelParallelStrategy(data_parallel_size=COUNT, tensor_parallel_size=1)
    trainer = pl.Trainer(
        accelerator="cpu", devices=COUNT, strategy=strategy, max_epochs=4, logger=False, callbacks=[counter],
        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    trainer.fit(Module(), DataLoader(DATA, batch_size=4, shuffle=True))
    told(counter.steps, counter.seen, *trainer.optimizers)


def with_trainer() -> None:
    from transformers import LlamaConfig, LlamaForCausalLM, Trainer, TrainerCallback, TrainingArguments
    from transformers.distributed import DistributedConfig

    class Counter(Counting, TrainerCallback):
        def on_step_end(self, *words: Any, **more: Any) -> None:
            self.count()

    dist.init_process_group("gloo")
    torch.manual_seed(0)
    settings = LlamaConfig(
        vocab_size=32, hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=2, max_position_embeddings=8, attention_dropout=0.2, tie_word_embeddings=False,
    )  # fmt: skip
    weights = Path("weights")
    if RANK == 0 and not weights.exists():
        LlamaForCausalLM(settings).save_pretrained(weights)
    dist.barrier()
    model = LlamaForCausalLM.from_pretrained(weights, distributed_config=DistributedConfig(fsdp_size=COUNT))
    words = torch.randint(32, (128, 8), generator=torch.Generator().manual_seed(5))
    rows = [{"input_ids": row, "labels": row} for row in words]
    arguments = TrainingArguments(
        "out", num_train_epochs=4, per_device_train_batch_size=4, learning_rate=1e-2, save_strategy="no",
        report_to=[], use_cpu=True, disable_tqdm=True,
    )  # fmt: skip
    counter = Counter()
    trainer = Trainer(model, arguments, train_dataset=rows, callbacks=[counter])
    sown()
    trainer.train()
    told(counter.steps, counter.seen, trainer.optimizer.optimizer)
    dist.destroy_process_group()


def with_fabric() -> None:
    from lightning.fabric import Fabric
    from lightning.fabric.strategies import ModelParallelStrategy

    def parallelize(net: Any, mesh: Any) -> Any:
        for part in (net[0], net[3], net):
            fully_shard(part, mesh=mesh["data_parallel"])
        return net

    strategy = ModelParallelStrategy(parallelize, data_parallel_size=COUNT, tensor_parallel_size=1)
    fabric = Fabric(accelerator="cpu", devices=COUNT, strategy=strategy)
    fabric.launch()
    torch.manual_seed(0)
    model = fabric.setup_module(layers())
    optimizer = fabric.setup_optimizers(torch.optim.AdamW(model.parameters(), 1e-2))
    loader = fabric.setup_dataloaders(DataLoader(DATA, batch_size=4, shuffle=True))
    sown()
    counter = Counting()
    for _ in range(4):
        for x, y in loader:
            optimizer.zero_grad()
            fabric.backward(nn.functional.cross_entropy(model(x), y))
            optimizer.step()
            counter.count()
    told(counter.steps, counter.seen, optimizer.optimizer)


if __name__ == "__main__":
    {"lightning": with_lightning, "trainer": with_trainer, "fabric": with_fabric}[LAYOUT]()
