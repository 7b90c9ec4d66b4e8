"""An unmodified training that asks a generator of its own for batches, which workers make at random: STAYS,HOW."""

import hashlib
import random
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

STAYS, HOW = sys.argv[1].split(",")


class Augmented(Dataset[Any]):
    def __init__(self) -> None:
        self.rng = np.random.default_rng(5)

    def __len__(self) -> int:
        return 15

    def __getitem__(self, index: int) -> Any:
        return torch.tensor(
            [index + random.random(), float(torch.rand(())), self.rng.random()], dtype=torch.float32
        )


def endless(loader: Any) -> Iterator[Any]:
    while True:
        yield from loader


def changed(loader: Any) -> Iterator[Any]:
    while True:
        for batch in loader:
            yield torch.mul(batch, 1.5)


torch.manual_seed(3)
torch.set_num_threads(1)
loader: Any = DataLoader(
    Augmented(), batch_size=3, shuffle=True, num_workers=2, persistent_workers=STAYS == "stays"
)
batches = endless(loader) if HOW == "endless" else changed(loader)
model = torch.nn.Linear(3, 1)
optimizer = torch.optim.SGD(model.parameters(), lr=1e-4)
seen: list[str] = []
for _ in range(14):
    batch = next(batches)
    optimizer.zero_grad()
    model(batch).pow(2).mean().backward()
    optimizer.step()
    seen.append(hashlib.sha256(batch.numpy().tobytes()).hexdigest()[:12])
print(seen, model.state_dict())
