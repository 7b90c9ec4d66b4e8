"""Handwritten digits with Lightning Fabric, on one process or several. Real data: scikit-learn's digits."""

import argparse
import hashlib
import time

import torch
from lightning.fabric import Fabric
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


def digest(model):
    total = hashlib.sha256()
    for tensor in model.state_dict().values():
        total.update(tensor.cpu().numpy().tobytes())
    return total.hexdigest()[:16]


def accuracy(model, loader):
    model.eval()
    with torch.no_grad():
        right = sum((model(x).argmax(1) == y).sum().item() for x, y in loader)
    model.train()
    return right / len(loader.dataset)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--images", type=int, default=1500)
    parser.add_argument("--devices", type=int, default=1)
    parser.add_argument("--accumulate", type=int, default=2, help="batches for each optimizer step")
    parser.add_argument("--pause", type=float, default=0.0, help="seconds of extra work in each batch")
    options = parser.parse_args()

    fabric = Fabric(
        accelerator="cpu", devices=options.devices, strategy="ddp" if options.devices > 1 else "auto"
    )
    fabric.launch()
    fabric.seed_everything(1, verbose=False)
    data = load_digits()
    images, labels = torch.tensor(data.data, dtype=torch.float32) / 16, torch.tensor(data.target)
    train = TensorDataset(images[: options.images], labels[: options.images])
    test = TensorDataset(images[1500:], labels[1500:])
    loader, test_loader = fabric.setup_dataloaders(
        DataLoader(train, batch_size=16, shuffle=True), DataLoader(test, batch_size=99)
    )
    model = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Dropout(0.2), nn.Linear(128, 10))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=options.epochs)
    model, optimizer = fabric.setup(model, optimizer)
    best = 0.0
    for epoch in range(options.epochs):
        total = 0.0
        for number, (x, y) in enumerate(loader, start=1):
            steps = number % options.accumulate == 0 or number == len(loader)
            with fabric.no_backward_sync(model, enabled=not steps):
                loss = nn.functional.cross_entropy(model(x), y)
                fabric.backward(loss / options.accumulate)
            if steps:
                optimizer.step()
                optimizer.zero_grad()
            total += loss.item()
            time.sleep(options.pause)
        scheduler.step()
        reached = accuracy(model, test_loader)
        if reached > best:
            best = reached
            fabric.save("digits_fabric.pt", {"model": model, "optimizer": optimizer, "epoch": epoch})
        fabric.print(f"epoch {epoch}: loss {total / len(loader):.4f}, best accuracy {best:.3f}", flush=True)
    fabric.print(f"digest {digest(model)}")


main()
