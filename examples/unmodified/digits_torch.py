"""Handwritten digits with plain PyTorch. Real data: the 1,797 digits that scikit-learn ships."""

import argparse
import hashlib
import time
from pathlib import Path

import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


def digest(model):
    total = hashlib.sha256()
    for tensor in model.state_dict().values():
        total.update(tensor.numpy().tobytes())
    return total.hexdigest()[:16]


def evaluate(network, data):
    network.eval()
    with torch.no_grad():
        hits = sum((network(x).argmax(1) == y).sum().item() for x, y in DataLoader(data, batch_size=64))
    network.train()
    return hits / len(data)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--pause", type=float, default=0.0, help="seconds of extra work in each step")
    parser.add_argument(
        "--trace", type=Path, help="a file for one line a step: what was trained on, and the result"
    )
    options = parser.parse_args()

    torch.manual_seed(0)
    data = load_digits()
    images, labels = torch.tensor(data.data, dtype=torch.float32) / 16, torch.tensor(data.target)
    train, test = TensorDataset(images[:1500], labels[:1500]), TensorDataset(images[1500:], labels[1500:])
    loader = DataLoader(train, batch_size=32, shuffle=True)

    model = nn.Sequential(
        nn.Linear(64, 128), nn.ReLU(), nn.Dropout(0.2), nn.BatchNorm1d(128), nn.Linear(128, 10)
    )
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 5)

    print(f"before training: accuracy {evaluate(model, test):.3f}", flush=True)
    for epoch in range(options.epochs):
        for x, y in loader:
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(x), y)
            loss.backward()
            optimizer.step()
            time.sleep(options.pause)
            if options.trace:
                with options.trace.open("a") as trace:
                    trace.write(f"{hashlib.sha256(x.numpy().tobytes()).hexdigest()[:8]} {digest(model)}\n")
        scheduler.step()
        print(f"epoch {epoch}: accuracy {evaluate(model, test):.3f}", flush=True)
    print(f"digest {digest(model)}")


if __name__ == "__main__":
    main()
