"""Two ranks of which one is stopped or killed: `-m tests.backprop_torch.lost_ranks FOLDER RUN BUDGET SIGNAL WHERE VICTIM`.

Once there is a checkpoint, rank VICTIM sends itself SIGNAL in the middle of a step, when the ranks begin to talk, or when it
has to give its part of a save. `none` for SIGNAL: nothing happens. Each rank writes what it has seen to a file of its own,
FOLDER/RUN-<rank>.json.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

import backprop
from backprop_core.session import other_ranks
from backprop_core.session.other_ranks import FollowingSession
from backprop_torch.ranks import Together
from tests.backprop_torch.cutting import digest

STEPS, STEP_S = 160, 0.02
WHERE = {"talk": (Together, "hear"), "save": (FollowingSession, "_give")}


class Victim:
    """Strikes its own process, once there is a checkpoint to come back to."""

    def __init__(self, checkpoints: Path, name: str, *, is_this: bool) -> None:
        self._checkpoints = checkpoints
        self._signal = getattr(signal, name) if is_this and name != "none" else None

    def strike(self) -> None:
        if self._signal is not None and any(self._checkpoints.glob("step-*/manifest.json")):
            self._checkpoints.parent.joinpath("struck").touch()
            os.kill(os.getpid(), self._signal)

    def strike_before(self, cls: Any, name: str) -> None:
        """Take the place of a method: what it did, it does behind the blow."""
        original: Callable[..., Any] = getattr(cls, name)

        def struck(*arguments: Any) -> Any:
            self.strike()
            return original(*arguments)

        setattr(cls, name, struck)


def main() -> None:
    folder, run, budget, name, where, number = (kind(word) for kind, word in zip(
        (Path, str, str, str, str, int), sys.argv[1:], strict=True))  # fmt: skip
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    rank = dist.get_rank()
    setattr(other_ranks, "_MAY_SAVE_S", 1.0)  # noqa: B010
    victim = Victim(folder / "home" / "runs" / run / "checkpoints", name, is_this=rank == number)
    if where in WHERE:
        victim.strike_before(*WHERE[where])
    torch.manual_seed(rank)  # of the weights the first rank's are taken
    model = DistributedDataParallel(nn.Sequential(nn.Linear(8, 16), nn.Dropout(0.3), nn.Linear(16, 2)))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    box = backprop.timebox(
        budget, run=run, grace=1, checkpoint_every="0.5s", model=model, optimizer=optimizer
    )
    began = 0.0
    with box:
        began = time.monotonic()
        for step in box.steps(STEPS):
            optimizer.zero_grad()
            x = torch.randn(4, 8)  # of the generators, which are another on each rank
            if where == "step" and step >= 20:
                victim.strike()
            loss = nn.functional.cross_entropy(model(x), torch.arange(4) % 2)
            torch.autograd.backward(loss)
            optimizer.step()
            time.sleep(STEP_S)
    made = {
        "outcome": str(box.outcome),
        "resumed": str(box.resumed_from or ""),
        "took_s": time.monotonic() - began,
        "weights": digest(dict(model.state_dict())),
        "drawn": torch.rand(2).tolist(),
    }
    (folder / f"{run}-{rank}.json").write_text(json.dumps(made))
    if name == "none":
        os._exit(
            0
        )  # torch itself aborts at the end of one in five such processes, without us as well (measured)
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
