"""A Trainer's training of two processes, through torchrun: `python -m tests.backprop_transformers.two_ranks ...`.

`FOLDER RUN RECIPE [AT RANK]`: in its `AT`-th step or evaluated batch rank `RANK` sends itself a SIGTERM. Each rank writes
what it saw to FOLDER/RUN-<at>-<rank>.json.
"""

from __future__ import annotations

import json
import os
import random
import sys
import warnings
from pathlib import Path

warnings.simplefilter("ignore")

from backprop_core.errors import BackpropError  # noqa: E402
from backprop_transformers import BackpropCallback  # noqa: E402
from tests.backprop_torch.cutting import digest  # noqa: E402
from tests.backprop_transformers import recipes  # noqa: E402
from tests.backprop_transformers.cutting import without_times  # noqa: E402
from tests.backprop_transformers.witness import Striking  # noqa: E402


def main() -> None:
    folder, run, name = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
    at, struck = (int(sys.argv[4]), int(sys.argv[5])) if len(sys.argv) > 4 else (0, 0)
    rank = int(os.environ.get("RANK", "0"))
    trainer = recipes.RECIPES[name]()
    ours = BackpropCallback("10h", run=run, grace=0)
    striking = Striking(at if rank == struck else None, "sigterm", ours)
    trainer.add_callback(ours)
    trainer.callback_handler.callbacks.insert(0, striking)
    import torch

    begins = bool(at) or run == "whole"  # a resume must not depend on the seed
    torch.manual_seed((1 if begins else 77) + 100 * rank)
    random.seed((1 if begins else 77) + 100 * rank)
    try:
        output = trainer.train()
    except BackpropError as error:
        print(f"backprop: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    finally:
        if torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()  # gloo aborts some processes that end without it
    made = {
        "outcome": str(ours.outcome),
        "run": ours.run_id,
        "ticks": striking.ticks,
        "step": trainer.state.global_step,
        "seen": list(recipes.SEEN),
        "logged": [without_times(entry) for entry in trainer.state.log_history],
        "loss": output.training_loss,
        "drawn": torch.rand(2).tolist(),
        "weights": digest(dict(trainer.model.state_dict())),
        "optimizer": digest(trainer.optimizer.state_dict()),
    }
    (folder / f"{run}-{at}-{rank}.json").write_text(json.dumps(made))


if __name__ == "__main__":
    main()
