"""Small trainings with many kinds of boundary: boundary_shapes.py SHAPE. They have never heard of us."""

import copy
import sys

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

SHAPE = sys.argv[1]
torch.manual_seed(0)
DATA = TensorDataset(torch.randn(24, 6), torch.randint(0, 3, (24,)))
MODEL = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Dropout(0.3), nn.Linear(8, 3))
OPTIMIZER = torch.optim.Adam(MODEL.parameters())
LOADER, TEST = DataLoader(DATA, batch_size=8, shuffle=True), DataLoader(DATA, batch_size=6)


def loss_of(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    return nn.functional.cross_entropy(MODEL(x), y)


def step(loss: torch.Tensor) -> None:
    OPTIMIZER.zero_grad()
    loss.backward()
    OPTIMIZER.step()


def evaluate(name: str) -> float:
    MODEL.eval()
    total = 0.0
    with torch.no_grad():
        for x, y in TEST:
            total += loss_of(x, y).item()
    MODEL.train()
    print("evaluated", name, total)
    return total


def train(epoch: int) -> None:
    total = 0.0
    for number, (x, y) in enumerate(LOADER):
        loss = loss_of(x, y)
        step(loss)
        total += loss.item()
        print("step", epoch, number, loss.item())
    print("average", epoch, total / len(LOADER))


def evaluations() -> None:
    """Two in each epoch by one function, and random numbers behind them."""
    for epoch in range(2):
        train(epoch)
        evaluate("once")
        evaluate("twice")
        print("sample", torch.randn(2).tolist())


def accumulation() -> None:
    """Evaluates at the beginning of an iteration, then accumulates gradients of batches fetched ahead."""
    best, number = float("inf"), 0
    rows = torch.randint(24, (4,))
    while True:
        if number % 2 == 0:
            best = min(best, evaluate(str(number)))
            torch.save(MODEL.state_dict(), f"{number}.pt")
        for _ in range(3):
            loss = loss_of(*DATA[rows]) / 3
            rows = torch.randint(24, (4,))
            loss.backward()
        OPTIMIZER.step()
        OPTIMIZER.zero_grad()
        print("iteration", number, loss.item())
        number += 1
        if number > 4:
            break
    print("best", best)


def kept_weights() -> None:
    """Weights that go on changing with the model, and copies of them."""
    kept = {}
    for epoch in range(3):
        for x, y in LOADER:
            noise = torch.randn(x.shape)
            step(loss_of(x + noise, y))
        kept[epoch] = MODEL.state_dict()
        kept[f"copy of {epoch}"] = copy.deepcopy(kept[epoch])
    for name, weights in kept.items():
        print(name, sum(value.sum().item() for value in weights.values()), weights._metadata)
    torch.save(kept, "kept.pt")


def episodes() -> None:
    """Walks through an environment with a graph that grows until the episode is over: no place to be cut within."""

    class Walk:
        place = 0.0

        def step(self, action: int) -> float:
            self.place += torch.rand(1).item() - 0.5 + 0.1 * action
            return self.place

    walk, chances, rewards = Walk(), [], []
    for episode in range(4):
        for _ in range(6):
            seen = torch.full((1, 6), walk.place)
            action = torch.distributions.Categorical(logits=nn.functional.linear(seen, MODEL[0].weight))
            taken = action.sample()
            chances.append(action.log_prob(taken))
            rewards.append(walk.step(int(taken)))
        step(-(torch.cat(chances) * torch.tensor(rewards)).sum())
        print("episode", episode, sum(rewards))
        del chances[:], rewards[:]


{
    "evaluations": evaluations,
    "accumulation": accumulation,
    "kept_weights": kept_weights,
    "episodes": episodes,
}[SHAPE]()
