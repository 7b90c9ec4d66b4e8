"""An unmodified training whose batches are made by workers that draw from each generator, and remember: WORKERS,STAYS,BY."""

import hashlib
import random
import sys
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

WORKERS, STAYS, BY = sys.argv[1].split(",")


of_the_script = np.random.default_rng(4)


class Augmented(Dataset[Any]):
    def __init__(self) -> None:
        self.rng = random.Random(5)
        self.last = 0.0

    def __len__(self) -> int:
        return 23

    def __getitem__(self, index: int) -> Any:
        self.last = self.last / 2 + self.rng.random() + of_the_script.random()
        return torch.tensor(
            [index + self.last + float(torch.rand(())), random.gauss(0, 1), np.random.randn()]
        )


def noisy(items: list[Any]) -> Any:
    return torch.stack(items) + torch.randn(3)


def seeded(worker: int) -> None:
    np.random.seed((torch.initial_seed() + worker) % 2**32)


torch.manual_seed(3)
torch.set_num_threads(1)
loader: Any = DataLoader(
    Augmented(),
    batch_size=5,
    shuffle=True,
    num_workers=int(WORKERS),
    persistent_workers=STAYS == "stays",
    collate_fn=noisy,
    worker_init_fn=seeded,
)
checking: DataLoader[Any] = DataLoader(Augmented(), batch_size=12, num_workers=1)
model = torch.nn.Linear(3, 1)
optimizer = torch.optim.SGD(model.parameters(), lr=1e-4)
if BY == "accelerate":
    from accelerate import Accelerator

    model, optimizer, loader = Accelerator(cpu=True).prepare(model, optimizer, loader)
sha = hashlib.sha256()
seen: list[str] = []
for epoch in range(3):
    for batch in loader if STAYS == "stays" else map(torch.clone, loader):
        number = len(seen) % 5
        optimizer.zero_grad()
        model(batch).pow(2).mean().backward()
        optimizer.step()
        seen.append(hashlib.sha256(batch.numpy().tobytes()).hexdigest()[:12])
        if epoch == 1 and number == 2:
            with torch.no_grad():
                print("checked", sum(float(model(one).sum()) for one in checking))
print(seen, model.state_dict())
