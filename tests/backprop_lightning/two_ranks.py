"""A training of two processes: `python -m tests.backprop_lightning.two_ranks FOLDER RUN [AT RANK WHERE]`.

Lightning starts the second, or torchrun both. In its `AT`-th batch rank `RANK` sends a SIGTERM: to itself (`train`, or
`validation` for a batch of that), or, in the `AT`-th batch of an epoch, to torchrun (`torchrun`), which sends it on to the
group of each rank, the loaders' workers among them. Each rank writes what it saw to FOLDER/RUN-AT-<rank>.json.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import warnings
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

warnings.simplefilter("ignore")

from backprop_lightning import BackpropCallback  # noqa: E402
from tests.backprop_lightning import recipes  # noqa: E402
from tests.backprop_lightning.recipes import Net, pl  # noqa: E402
from tests.backprop_lightning.witness import WitnessLogger  # noqa: E402
from tests.backprop_torch.cutting import digest, seed  # noqa: E402

PROCESS = ModuleType("process")
"""What belongs to this process: attributes of a callback would come back from the checkpoint."""


class OneSigterm(pl.Callback):  # type: ignore[misc,name-defined]
    """One rank alone is told to go."""

    def __init__(self, at: int, rank: int, where: str) -> None:
        super().__init__()
        self.at, self.rank, self.where = at, rank, where
        vars(PROCESS).update(ticks=0, validated=0, struck=False)

    @property
    def validated(self) -> int:
        return int(vars(PROCESS)["validated"])

    def on_train_batch_start(self, trainer: Any, module: Any, batch: Any, batch_idx: int) -> None:
        if self.where == "torchrun":
            vars(PROCESS)["ticks"] = (
                batch_idx  # early in an epoch, so that each loader's worker has work left
            )
        if self.where != "validation":
            self.tick(trainer)

    def on_validation_batch_start(self, trainer: Any, *args: Any) -> None:
        if not trainer.sanity_checking:
            vars(PROCESS)["validated"] += 1
            if self.where == "validation":
                self.tick(trainer)

    def tick(self, trainer: Any) -> None:
        vars(PROCESS)["ticks"] += 1
        if vars(PROCESS)["ticks"] != self.at or trainer.global_rank != self.rank or vars(PROCESS)["struck"]:
            return
        vars(PROCESS)["struck"] = True
        if self.where == "torchrun":
            os.kill(os.getppid(), signal.SIGTERM)
            while trainer.callbacks[-1]._fit.signalled() is False:  # torchrun looks for signals now and then
                signal.sigtimedwait([], 0.01)
        else:
            os.kill(os.getpid(), signal.SIGTERM)


class Batches:
    """A rank's own number of batches to validate on."""

    def __init__(self, count: int) -> None:
        self.batches = list(torch.utils.data.DataLoader(recipes.Points(4 * count, seed=2), batch_size=4))

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Any:
        return iter(self.batches)


def main() -> None:
    folder, run = Path(sys.argv[1]), sys.argv[2]
    at, rank, where = (int(sys.argv[3]), int(sys.argv[4]), sys.argv[5]) if len(sys.argv) > 3 else (0, 0, "")
    local_rank = int(os.environ.get("LOCAL_RANK", "0"))
    grace = 20 if where == "torchrun" else 0
    ours, logger = BackpropCallback("10h", run=run, grace=grace), WitnessLogger()
    striking = OneSigterm(at, rank, where)
    begins = bool(at) or run == "whole"  # a resume must not depend on the seed
    seed((1 if begins else 77) + 100 * local_rank)
    torch.manual_seed(0)
    module = Net("sgd", noise=True)
    train = torch.utils.data.DataLoader(recipes.Points(64), batch_size=4, shuffle=True, num_workers=1)
    trainer = pl.Trainer(
        accelerator="cpu", devices=2, strategy="ddp", max_epochs=3, logger=logger, log_every_n_steps=1,
        callbacks=[striking, ours], enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False,
    )  # fmt: skip
    trainer.fit(module, train, Batches(6 + 2 * local_rank))
    made = {
        "outcome": str(ours.outcome),
        "step": trainer.global_step,
        "weights": digest(dict(module.state_dict())),
        "seen": list(recipes.SEEN),
        "logged": logger.seen,
        "run": ours.run_id,
        "validated": striking.validated,
    }
    name = f"{run}-{at}-{trainer.global_rank}.json"
    (folder / name).write_text(json.dumps(made))


if __name__ == "__main__":
    main()
