"""A training with a state of a chosen size and steps of a chosen length, for benchmarks/deadline.py to put into boxes."""

from __future__ import annotations

import argparse
import itertools
import random
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any


def saved_by_hand(path: str, every_s: float, *parts: Any) -> Iterator[int]:
    """Step numbers for ever; the state is saved as a careful script does it, beside the file and then renamed."""
    import torch

    saved = time.monotonic()
    for step in itertools.count():
        yield step
        if time.monotonic() - saved >= every_s:
            torch.save([part.state_dict() for part in parts], f"{path}.part")
            Path(f"{path}.part").replace(path)
            saved = time.monotonic()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--state-mb", type=float, required=True, help="bytes of a checkpoint, in MB")
    parser.add_argument("--step-ms", type=float, required=True)
    parser.add_argument("--jitter", type=float, default=0.2, help="a step takes step-ms times 1 +- this")
    parser.add_argument("--spikes", type=float, default=0.0, help="share of steps that take 20 times as long")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cpu", help="where the state lies")
    parser.add_argument("--budget", default=None)
    parser.add_argument("--save-to", help="without backprop: torch.save there every --save-every seconds")
    parser.add_argument("--save-every", type=float, default=3.0)
    options = parser.parse_args()

    import torch
    from torch import nn

    import backprop

    torch.set_num_threads(1)
    elements = int(options.state_mb * 1e6 / 4 / 3)  # Adam keeps two more tensors of the same size
    zeros = [torch.zeros(max(1, elements // 4), device=options.device) for _ in range(4)]
    model = nn.ParameterList([nn.Parameter(part) for part in zeros])
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    rng = random.Random(options.seed)
    for parameter in model:
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()  # makes the optimizer's state, outside the box as a warm-up would
    optimizer.zero_grad()

    def train(steps: Iterator[int]) -> None:
        for _ in steps:
            began = time.monotonic()
            with torch.no_grad():
                model[0][:1000] += 1.0
            target_s = options.step_ms / 1e3 * rng.uniform(1 - options.jitter, 1 + options.jitter)
            if rng.random() < options.spikes:
                target_s *= 20
            time.sleep(max(0.0, target_s - (time.monotonic() - began)))

    if options.save_to:
        train(saved_by_hand(options.save_to, options.save_every, model, optimizer))
        return
    with backprop.timebox(options.budget, model=model, optimizer=optimizer) as box:
        train(iter(box.steps(1_000_000)))


if __name__ == "__main__":
    main()
