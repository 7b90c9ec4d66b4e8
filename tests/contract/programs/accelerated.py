"""A loop with accelerate whose batches, losses and windows are noted: `CONTRACT_PREPARED` names what is unusual in it."""

import os
import sys
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import DataLoaderConfiguration
from state_kinds.trace import note
from torch.utils.data import DataLoader, Dataset

FORM, HOW = sys.argv[1], os.environ["CONTRACT_PREPARED"].split("+")
torch.manual_seed(0 if FORM == "run" else int(os.environ["CONTRACT_SEED"]))


class Points(Dataset[Any]):
    def __len__(self) -> int:
        return 28

    def __getitem__(self, index: int) -> Any:
        draw = torch.Generator().manual_seed(index)
        return torch.randn(3, generator=draw), index % 2, index


config = DataLoaderConfiguration(
    use_stateful_dataloader="stateful" in HOW, use_seedable_sampler="seedable" in HOW
)
accelerator = Accelerator(
    cpu=True, gradient_accumulation_steps=3 if "accumulate" in HOW else 1, dataloader_config=config
)
with torch.random.fork_rng():
    torch.manual_seed(7)
    model: Any = torch.nn.Sequential(torch.nn.Linear(3, 8), torch.nn.Dropout(0.3), torch.nn.Linear(8, 2))
optimizer: Any = torch.optim.Adam(model.parameters(), 0.01)
scheduler: Any = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.9)
loader: Any = DataLoader(Points(), batch_size=4, shuffle=True)
model, optimizer, loader, scheduler = accelerator.prepare(model, optimizer, loader, scheduler)


def one(epoch: int, batch: Any) -> None:
    x, y, index = batch
    with accelerator.accumulate(model):
        loss = torch.nn.functional.cross_entropy(model(x), y)
        accelerator.backward(loss)
        optimizer.step()
        scheduler.step()
        optimizer.zero_grad()
    seen = {"epoch": epoch, "index": index.tolist(), "loss": loss.item(), "lr": scheduler.get_last_lr()}
    seen |= {"sync": accelerator.sync_gradients, "weights": [p.tolist() for p in model.parameters()]}
    note({name: repr(one) for name, one in seen.items()})


def train() -> None:
    if FORM == "explicit" and os.environ["CONTRACT_RUN"] != "whole":
        import backprop

        boxed = backprop.timebox(
            "10h", run="cut", grace=0, model=model, optimizer=optimizer, scheduler=scheduler
        )
        with boxed as box:
            for epoch in box.epochs(3):
                for batch in box.batches(loader):
                    one(epoch, batch)
        if box.outcome.value == "completed":
            note({"end": "reached"})
        return
    for epoch in range(3):
        for batch in loader:
            one(epoch, batch)
    note({"end": "reached"})


train()
