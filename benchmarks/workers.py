"""What a loader's workers spend on noting their generators and what they change, behind each batch; a table and JSON.

In this process, by processor time: the code is that of the worker, and all that differs there is that nobody waits for it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from side_by_side import each, show, write
from torch.utils.data import Dataset, default_collate

from backprop_torch.worker_generators import GeneratorsSeen
from backprop_torch.worker_parts import WorkerParts

TIMES = 500


class _Transform:
    def __init__(self, p: float) -> None:
        self.p, self.mean = p, (0.485, 0.456, 0.406)


class Images(Dataset[Any]):
    """The attributes that torchvision's ImageFolder has, with a list of 100,000 files and five transforms."""

    def __init__(self) -> None:
        self.samples = [(f"{number}.jpg", number % 10) for number in range(100_000)]
        self.targets = [target for _, target in self.samples]
        self.classes = [str(number) for number in range(10)]
        self.class_to_idx = {name: number for number, name in enumerate(self.classes)}
        self.transforms = [_Transform(number / 10) for number in range(5)]
        self.rng = np.random.default_rng(1)
        self.count = 0


def main() -> None:
    def count(data: Images) -> None:
        data.count += 1

    changes: dict[str, Callable[[Images], object]] = {
        "nothing": lambda data: None,
        "global generators": lambda data: torch.rand(1),
        "a generator of the dataset's": lambda data: data.rng.random(),
        "a counter of the dataset's": count,
    }
    rows = []
    for name, change in changes.items():
        data = Images()
        began = time.process_time()
        parts = WorkerParts([("dataset", data), ("collate_fn", default_collate)])
        first_s = time.process_time() - began
        last = GeneratorsSeen()

        def noted(data: Images = data, parts: WorkerParts = parts, last: GeneratorsSeen = last) -> None:
            parts.look()
            GeneratorsSeen(last).shows(last)

        def with_change(data: Images = data, change: Any = change, noted: Any = noted) -> None:
            change(data)
            noted()

        alone_s = each(lambda data=data, change=change: change(data), TIMES)  # type: ignore[misc]
        rows.append(
            {
                "what": f"{name}: behind each batch",
                "value": (each(with_change, TIMES) - alone_s) * 1e6,
                "unit": "us",
            }
        )
        rows.append({"what": f"{name}: when the worker begins", "value": first_s * 1e3, "unit": "ms"})
    show("What a worker spends on its notes", [{**row, "goal": ""} for row in rows])
    print(f"\nwritten to {write('workers', {'rows': rows})}")


if __name__ == "__main__":
    main()
