"""Handwritten digits with PyTorch: an ordinary training loop with one line around it.

    backprop run -m 5s --budget-from training examples/digits_unchanged.py -- --pause 0.02
    backprop resume RUN

The same data and model as digits_pytorch.py. backprop finds model, optimizer and scheduler and restores them, and the
interrupted epoch continues where it was, but `range` starts over. Two ways to be exact: the loops of the box, as in
digits_pytorch.py, or under `backprop run` a box without `run=`, whose loops are counted.
"""

import argparse
import hashlib
import time

import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import backprop


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument(
        "--budget", default=None, help='such as "10s"; default: what backprop run says, or 10 minutes'
    )
    parser.add_argument("--run", default=None, help="id of a run to create or continue")
    parser.add_argument(
        "--pause", type=float, default=0.0, help="seconds of extra work in each step, to see more of it"
    )
    options = parser.parse_args()

    torch.manual_seed(0)
    data = load_digits()
    images = torch.tensor(data.data, dtype=torch.float32) / 16
    labels = torch.tensor(data.target)
    train, test = TensorDataset(images[:1500], labels[:1500]), (images[1500:], labels[1500:])
    loader = DataLoader(train, batch_size=32, shuffle=True)

    model = nn.Sequential(
        nn.Linear(64, 128), nn.ReLU(), nn.Dropout(0.2), nn.BatchNorm1d(128), nn.Linear(128, 10)
    )
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, options.epochs)
    steps = 0

    with backprop.timebox(options.budget, run=options.run) as box:
        for epoch in range(options.epochs):
            model.train()
            for x, y in loader:
                optimizer.zero_grad()
                loss = nn.functional.cross_entropy(model(x), y)
                loss.backward()
                optimizer.step()
                steps += 1
                time.sleep(options.pause)
            scheduler.step()
            model.eval()
            with torch.no_grad():
                accuracy = (model(test[0]).argmax(1) == test[1]).float().mean().item()
            print(f"epoch {epoch}: accuracy {accuracy:.3f}", flush=True)

    digest = hashlib.sha256()
    for tensor in model.state_dict().values():
        digest.update(tensor.numpy().tobytes())
    print(f"{box.outcome} after {steps} steps, digest {digest.hexdigest()[:16]}")


if __name__ == "__main__":
    main()
