"""Early stopping and the best model, kept by hand, in PyTorch on handwritten digits."""

import argparse
import copy
import time

import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset, random_split


class EarlyStopping:
    def __init__(self, patience):
        self.patience, self.waited, self.best, self.weights = patience, 0, float("inf"), None

    def is_over(self, loss, model):
        if loss < self.best:
            self.best, self.waited, self.weights = loss, 0, copy.deepcopy(model.state_dict())
            torch.save(self.weights, "best.pt")
        else:
            self.waited += 1
        return self.waited >= self.patience


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--most-epochs", type=int, default=100)
    parser.add_argument("--images", type=int, default=1797)
    parser.add_argument("--lr", type=float, default=0.02)
    parser.add_argument("--pause", type=float, default=0.0, help="seconds of extra work in each step")
    options = parser.parse_args()
    torch.manual_seed(0)
    digits = load_digits()
    n = options.images
    data = TensorDataset(
        torch.tensor(digits.data[:n], dtype=torch.float32) / 16, torch.tensor(digits.target[:n])
    )
    train, valid = random_split(data, [0.8, 0.2])
    loader, check = DataLoader(train, batch_size=32, shuffle=True), DataLoader(valid, batch_size=64)
    model = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Dropout(0.2), nn.Linear(32, 10))
    optimizer = torch.optim.Adam(model.parameters(), lr=options.lr)
    plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, patience=1)
    stopping, history = EarlyStopping(3), []
    for epoch in range(options.most_epochs):
        model.train()
        for x, y in loader:
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(x), y).backward()
            optimizer.step()
            time.sleep(options.pause)
        model.eval()
        with torch.no_grad():
            loss = sum(nn.functional.cross_entropy(model(x), y, reduction="sum").item() for x, y in check)
        plateau.step(loss)
        history.append(loss)
        print(f"epoch {epoch}: loss {loss:.6f}, best {min(history):.6f}", flush=True)
        if stopping.is_over(loss, model):
            print(f"stopped early, best epoch {history.index(min(history))}")
            break
    model.load_state_dict(stopping.weights)
    torch.save([model.state_dict(), history], "result.pt")


if __name__ == "__main__":
    main()
