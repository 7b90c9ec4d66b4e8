"""Five-fold cross-validation with PyTorch and scikit-learn: a new model for each fold."""

import argparse
import time

import numpy as np
import torch
from sklearn.datasets import load_iris
from sklearn.model_selection import KFold
from torch import nn
from torch.utils.data import DataLoader, Subset, TensorDataset


def train_fold(model, loader, epochs, pause):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.1, epochs=epochs, steps_per_epoch=len(loader))
    for _ in range(epochs):
        for x, y in loader:
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(x), y).backward()
            optimizer.step()
            schedule.step()
            time.sleep(pause)


@torch.no_grad()
def accuracy(model, loader):
    model.eval()
    hits = 0
    for x, y in loader:
        hits += (model(x).argmax(1) == y).sum().item()
    return hits / len(loader.dataset)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--pause", type=float, default=0.0, help="seconds of extra work in each step")
    options = parser.parse_args()
    torch.manual_seed(0)
    iris = load_iris()
    data = TensorDataset(torch.tensor(iris.data, dtype=torch.float32), torch.tensor(iris.target))
    scores, weights = [], {}
    for fold, (train, test) in enumerate(KFold(5, shuffle=True, random_state=1).split(iris.data)):
        model = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Dropout(0.1), nn.Linear(16, 3))
        train_fold(
            model, DataLoader(Subset(data, train), batch_size=16, shuffle=True), options.epochs, options.pause
        )
        scores.append(accuracy(model, DataLoader(Subset(data, test), batch_size=16)))
        weights[fold] = model.state_dict()
        print(f"fold {fold}: accuracy {scores[-1]:.4f}, {len(train)} to train on", flush=True)
    print(f"all folds: {np.mean(scores):.4f} +- {np.std(scores):.4f}")
    torch.save(weights, "result.pt")


if __name__ == "__main__":
    main()
