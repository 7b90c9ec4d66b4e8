"""A training of two processes: `python -m tests.backprop_lightning.two_ranks FOLDER RUN [AT RANK]`, or through torchrun.

In its `AT`-th batch rank `RANK` sends itself a SIGTERM. Each rank writes what it saw to FOLDER/RUN-<rank>.json.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import warnings
from pathlib import Path
from typing import Any

warnings.simplefilter("ignore")

from backprop_lightning import BackpropCallback  # noqa: E402
from tests.backprop_lightning import recipes  # noqa: E402
from tests.backprop_lightning.recipes import Net, pl, validation  # noqa: E402
from tests.backprop_lightning.witness import WitnessLogger  # noqa: E402
from tests.backprop_torch.cutting import digest, seed  # noqa: E402


class OneSigterm(pl.Callback):  # type: ignore[misc,name-defined]
    """One rank alone is told to go."""

    def __init__(self, at: int, rank: int) -> None:
        super().__init__()
        self.at, self.rank, self.ticks = at, rank, 0

    def on_train_batch_start(self, trainer: Any, *args: Any) -> None:
        self.ticks += 1
        if self.ticks == self.at and trainer.global_rank == self.rank:
            os.kill(os.getpid(), signal.SIGTERM)


def main() -> None:
    folder, run = Path(sys.argv[1]), sys.argv[2]
    at, rank = (int(sys.argv[3]), int(sys.argv[4])) if len(sys.argv) > 3 else (0, 0)
    budget = sys.argv[5] if len(sys.argv) > 5 else "10h"
    ours, logger = BackpropCallback(budget, run=run, grace=0), WitnessLogger()
    begins = bool(at) or run == "whole"  # a resume must not depend on the seed
    seed((1 if begins else 77) + 100 * int(os.environ.get("LOCAL_RANK", "0")))
    import torch

    torch.manual_seed(0)
    module = Net("sgd", noise=True)
    train = torch.utils.data.DataLoader(recipes.Points(64), batch_size=4, shuffle=True)
    trainer = pl.Trainer(
        accelerator="cpu", devices=2, strategy="ddp", max_epochs=3, logger=logger, log_every_n_steps=1,
        callbacks=[OneSigterm(at, rank), ours], enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False,
    )  # fmt: skip
    trainer.fit(module, train, validation())
    made = {
        "outcome": str(ours.outcome),
        "step": trainer.global_step,
        "weights": digest(dict(module.state_dict())),
        "seen": list(recipes.SEEN),
        "logged": logger.seen,
        "run": ours.run_id,
    }
    name = f"{run}-{at}-{trainer.global_rank}.json"
    (folder / name).write_text(json.dumps(made))


if __name__ == "__main__":
    main()
