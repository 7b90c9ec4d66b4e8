"""Handwritten digits with PyTorch inside a time box, exact on resume.

    backprop run -m 5s --budget-from training examples/digits_pytorch.py -- --pause 0.02
    backprop resume RUN

Real data: the 1,797 digits that scikit-learn ships. The last line is a digest of everything that training made, so that an
uninterrupted run and one in pieces can be compared.
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
    losses: list[float] = []

    with backprop.timebox(
        options.budget, run=options.run, model=model, optimizer=optimizer, scheduler=scheduler, losses=losses
    ) as box:
        for epoch in box.epochs(options.epochs):
            model.train()
            for x, y in box.batches(loader):
                optimizer.zero_grad()
                loss = nn.functional.cross_entropy(model(x), y)
                loss.backward()
                optimizer.step()
                losses.append(loss.item())
                box.log(loss=loss)
                time.sleep(options.pause)
            scheduler.step()
            model.eval()
            with torch.no_grad():
                accuracy = (model(test[0]).argmax(1) == test[1]).float().mean().item()
            print(f"epoch {epoch}: accuracy {accuracy:.3f}", flush=True)

    digest = hashlib.sha256(repr(losses).encode())
    for tensor in model.state_dict().values():
        digest.update(tensor.numpy().tobytes())
    print(f"{box.outcome} after {len(losses)} steps, digest {digest.hexdigest()[:16]}")


if __name__ == "__main__":
    main()
