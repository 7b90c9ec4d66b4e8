"""A plain loop that keeps every kind of state, in globals, in locals and in objects: in a box that is told its objects
(`explicit`) or unchanged (`run`); by itself, or prepared by accelerate or Fabric.
"""

import contextlib
import os
import sys
from typing import Any

import torch
from state_kinds import arrays, torch_data
from state_kinds.plain import KINDS, Held, begin_epoch, change, fill
from state_kinds.standard import OF_GLOBALS, STANDARD
from state_kinds.trace import note

FORM, PREPARED = sys.argv[1], os.environ.get("CONTRACT_PREPARED")
ALL = {
    **KINDS,
    **STANDARD,
    **OF_GLOBALS,
    **arrays.numpy_kinds(),
    **arrays.torch_kinds(),
    **arrays.torchmetrics_kinds(),
    **arrays.loader_kinds(),
}
NAMES = list(ALL)
torch.manual_seed(0 if FORM == "run" else int(os.environ["CONTRACT_SEED"]))

model = torch_data.network()
optimizer = torch.optim.Adam(model.parameters(), 0.01)
loader, data = torch_data.loader()
backward: Any = torch.Tensor.backward
if PREPARED == "accelerate":
    from accelerate import Accelerator

    accelerator = Accelerator(cpu=True)
    model, optimizer, loader = accelerator.prepare(model, optimizer, loader)
    backward = accelerator.backward
elif PREPARED == "fabric":
    from lightning.fabric import Fabric

    fabric = Fabric(accelerator="cpu", devices=1)
    model, optimizer = fabric.setup(model, optimizer)
    loader = fabric.setup_dataloaders(loader, use_distributed_sampler=False)
    backward = fabric.backward
held = Held()
fill(held, ALL, NAMES[::2])
steps_of_module = 0
curve: list[float] = []


def one(batch: Any, here: Any, factor: float) -> float:
    global steps_of_module
    steps_of_module += 1
    loss = torch_data.loss_of(model, batch, factor)
    optimizer.zero_grad()
    backward(loss)
    optimizer.step()
    curve.append(loss.item())
    seen = {**change(held, ALL, NAMES[::2]), **change(here, ALL, NAMES[1::2])}
    note(
        {
            **seen,
            **torch_data.columns(batch),
            "loss": repr(loss.item()),
            "weights": repr([p.tolist() for p in model.parameters()]),
            "global_number": repr(steps_of_module),
            "global_list": repr(curve),
        }
    )
    return loss.item()


def train() -> None:
    here, factor, outputs = Held(), 1.0, []
    fill(here, ALL, NAMES[1::2])
    box = open_box()
    with box if box is not None else contextlib.nullcontext():
        explicit = FORM == "explicit" and box is not None
        for epoch in box.epochs(3) if explicit else range(3):
            data.epoch = epoch
            begin_epoch(held, ALL, NAMES[::2])
            begin_epoch(here, ALL, NAMES[1::2])
            for batch in box.batches(loader) if explicit else loader:
                loss = one(batch, here, factor)
                factor = 0.9 * factor + 0.1 * min(loss, 2.0)
                outputs.append(loss)
    if box is None or box.outcome.value == "completed":
        note({"end": repr((factor, outputs))})


def open_box() -> Any:
    if FORM != "explicit" or os.environ["CONTRACT_RUN"] == "whole":
        return None
    import backprop

    return backprop.timebox(
        "10h", run="cut", grace=0, strict="CONTRACT_STRICT" in os.environ, model=model, optimizer=optimizer
    )


train()
