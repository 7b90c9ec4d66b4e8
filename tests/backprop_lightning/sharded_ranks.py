"""A fit whose strategy shards the model: `-m tests.backprop_lightning.sharded_ranks FOLDER LAYOUT RUN STOP [fresh]`.

LAYOUT is one of LAYOUTS, or `ddp`, or `plain` for one process; with `-dealt` behind it each rank has samples and random
numbers of its own, without it all compute the same batches, so that any number of ranks trains the same; with `-manual` the
module accumulates by itself. In batch STOP (0: never) the last rank sends itself a SIGTERM. Each rank writes what it saw,
with digests of the gathered state, to FOLDER/RUN-STOP-<rank>.json.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.strategies import ModelParallelStrategy
from torch import nn
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import Replicate
from torch.distributed.tensor.parallel import ColwiseParallel, parallelize_module
from torch.utils.data import DataLoader, TensorDataset

warnings.simplefilter("ignore")

from backprop_lightning import BackpropCallback  # noqa: E402
from tests.backprop_lightning.witness import WitnessLogger  # noqa: E402
from tests.backprop_torch.cutting import digest  # noqa: E402
from tests.backprop_torch.sharded_ranks import Net, gathered  # noqa: E402
from tests.noted import Noted  # noqa: E402

EPOCHS, BATCHES = 2, 8
FOUND = "found"
SEEN, STATES = Noted(), Noted()
"""Which samples this process has trained; digests of the state that its first batch found, and that each batch has left."""


def fsdp(net: Net, mesh: Any) -> None:
    for part in (net.inner, net.outer, net):
        fully_shard(part, mesh=mesh["data_parallel"])


def tensor_parallel(net: Net, mesh: Any) -> None:
    how = {name: ColwiseParallel(output_layouts=Replicate()) for name in ("inner", "outer")}
    parallelize_module(net, mesh["tensor_parallel"], how)  # type: ignore[arg-type]


def both(net: Net, mesh: Any) -> None:
    tensor_parallel(net, mesh)
    fully_shard(net, mesh=mesh["data_parallel"])


LAYOUTS: dict[str, Callable[[Net, Any], None]] = {one.__name__: one for one in (fsdp, tensor_parallel, both)}


class Module(pl.LightningModule):
    """Accumulates over two batches by hand where `manual`, so that gradients are part of the state."""

    def __init__(self, layout: str, *, dealt: bool, manual: bool) -> None:
        super().__init__()
        self.net, self.layout, self.dealt, self.manual = Net(), layout, dealt, manual
        self.automatic_optimization = not manual
        self.batches = 0
        self.register_buffer("passed", torch.zeros(3), persistent=False)

    def configure_model(self) -> None:
        if self.layout in LAYOUTS:
            LAYOUTS[self.layout](self.net, self.device_mesh)

    def training_step(self, batch: Any, number: int) -> torch.Tensor:
        x, y, index = batch
        SEEN.append(index.tolist())
        self.passed += 1
        if not self.dealt:
            torch.manual_seed(self.batches)
            x, y = torch.randn(8, 7), torch.arange(8)
        self.batches += 1
        loss = nn.functional.cross_entropy(self.net(x + 0.1 * torch.randn_like(x)), y)
        self.log("loss", loss)
        if self.manual:
            optimizer = self.optimizers()
            self.manual_backward(loss)
            if number % 3 == 2:
                optimizer.step()
                optimizer.zero_grad()
        return loss

    def validation_step(self, batch: Any, number: int) -> None:
        self.log("val", nn.functional.cross_entropy(self.net(batch[0]), batch[1]))

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.AdamW(self.parameters(), lr=1e-2)
        return [optimizer], [{"scheduler": torch.optim.lr_scheduler.StepLR(optimizer, 3), "interval": "step"}]

    def digests(self) -> dict[str, str]:
        """Of the gathered state; every rank has to ask."""
        optimizers = [one.state_dict()["state"] for one in self.trainer.optimizers]
        state = {"model": dict(self.net.state_dict()), "optimizer": optimizers[0]}
        return {name: digest(gathered(part)) for name, part in state.items()}


class Watch(pl.Callback):
    """Notes the state that the first batch finds and each batch leaves, and strikes."""

    def __init__(self, stop: int) -> None:
        super().__init__()
        self.stop = stop

    def on_train_batch_start(self, trainer: Any, module: Any, *args: Any) -> None:
        if not list(STATES):
            STATES.append((FOUND, module.digests()))

    def on_train_batch_end(self, trainer: Any, module: Any, *args: Any) -> None:
        STATES.append((str(module.batches), module.digests()))
        if module.batches == self.stop and trainer.global_rank == trainer.world_size - 1:
            os.kill(os.getpid(), signal.SIGTERM)


def strategy_of(layout: str, count: int) -> Any:
    if layout in ("plain", "ddp"):
        return "auto" if layout == "plain" else "ddp"
    columns = {"fsdp": 1, "tensor_parallel": count, "both": 2}[layout]
    return ModelParallelStrategy(data_parallel_size=count // columns, tensor_parallel_size=columns)


def main() -> None:
    folder, (layout, *how), run, stop = (
        Path(sys.argv[1]),
        sys.argv[2].split("-"),
        sys.argv[3],
        int(sys.argv[4]),
    )
    torch.set_num_threads(1)
    count, rank = (
        int(os.environ.get(name, fallback)) for name, fallback in (("WORLD_SIZE", "1"), ("RANK", "0"))
    )
    dealt = "dealt" in how
    torch.manual_seed(0 if "fresh" in sys.argv else 99)  # a resume must not depend on the seed
    module = Module(layout, dealt=dealt, manual="manual" in how)
    ours, watch, logger = BackpropCallback("10h", run=run, grace=0), Watch(stop), WitnessLogger()
    rows = 8 * BATCHES * (count if dealt else 1)
    generator = torch.Generator().manual_seed(5)
    data = TensorDataset(
        torch.randn(rows, 7, generator=generator), torch.arange(rows) % 8, torch.arange(rows)
    )
    torch.manual_seed(rank + (0 if "fresh" in sys.argv else 50))
    trainer = pl.Trainer(
        accelerator="cpu", devices=count, strategy=strategy_of(layout, count), max_epochs=EPOCHS, logger=logger,
        log_every_n_steps=1, callbacks=[watch, ours], enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, use_distributed_sampler=dealt, num_sanity_val_steps=0, val_check_interval=0.5,
    )  # fmt: skip
    loaders = DataLoader(data, batch_size=8, shuffle=dealt), DataLoader(data, batch_size=8)
    trainer.fit(module, *loaders)
    made = {
        "outcome": str(ours.outcome),
        "step": trainer.global_step,
        "states": dict(STATES),
        "seen": list(SEEN),
        "logged": logger.seen,
        "passed": module.passed.tolist(),
    }
    model = gathered(dict(module.state_dict()))
    if trainer.global_rank == 0:
        torch.save(model, folder / f"{run}-{stop}.pt")
    (folder / f"{run}-{stop}-{trainer.global_rank}.json").write_text(json.dumps(made))


if __name__ == "__main__":
    main()
