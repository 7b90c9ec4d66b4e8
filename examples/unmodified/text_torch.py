"""A small character model of English prose with plain PyTorch: a Trainer class, two optimizers, an average of the weights,
and checkpoints of its own. Real data: the text that Python ships for its help().
"""

import argparse
import copy
import hashlib
import pydoc_data.topics
import time
from pathlib import Path

import torch
from torch import nn

CONTEXT, BATCH = 32, 16


class Writer(nn.Module):
    def __init__(self, letters):
        super().__init__()
        self.embedding = nn.Embedding(letters, 32)
        self.memory = nn.GRU(32, 64, batch_first=True)
        self.head = nn.Sequential(nn.Dropout(0.1), nn.Linear(64, letters))

    def forward(self, x):
        return self.head(self.memory(self.embedding(x))[0])


class Trainer:
    def __init__(self, text):
        letters = {letter: number for number, letter in enumerate(sorted(set(text)))}
        self.pieces = torch.tensor([letters[letter] for letter in text]).unfold(0, CONTEXT + 1, 1)
        self.model = Writer(len(letters))
        self.average = copy.deepcopy(self.model)
        self.embedding_optimizer = torch.optim.SGD(self.model.embedding.parameters(), lr=0.1, momentum=0.9)
        others = [p for name, p in self.model.named_parameters() if not name.startswith("embedding")]
        self.optimizer = torch.optim.AdamW(others, lr=3e-3)

    def step(self):
        piece = self.pieces[torch.randint(0, len(self.pieces), (BATCH,))]
        with torch.autocast("cpu", torch.bfloat16):
            scores = self.model(piece[:, :-1])
        loss = nn.functional.cross_entropy(scores.float().flatten(0, 1), piece[:, 1:].flatten())
        self.optimizer.zero_grad()
        self.embedding_optimizer.zero_grad()
        loss.backward()
        self.embedding_optimizer.step()
        self.optimizer.step()
        with torch.no_grad():
            for mean, weight in zip(self.average.parameters(), self.model.parameters(), strict=True):
                mean.lerp_(weight, 0.05)
        return loss.item()

    def save(self, path):
        torch.save({"model": self.model.state_dict(), "average": self.average.state_dict()}, path)


def digest(*models):
    total = hashlib.sha256()
    for model in models:
        for tensor in model.state_dict().values():
            total.update(tensor.numpy().tobytes())
    return total.hexdigest()[:16]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--pause", type=float, default=0.0, help="seconds of extra work in each step")
    parser.add_argument("--save-every", type=int, default=100)
    parser.add_argument("--out", type=Path, default=Path("writer.pt"))
    parser.add_argument("--resume", type=Path, help="a checkpoint of this script's own")
    parser.add_argument("--trace", type=Path, help="a file for one line a step")
    options = parser.parse_args()

    torch.manual_seed(0)
    trainer = Trainer(Path(pydoc_data.topics.__file__).read_text(encoding="utf-8"))
    if options.resume:
        saved = torch.load(options.resume, weights_only=True)
        trainer.model.load_state_dict(saved["model"])
        trainer.average.load_state_dict(saved["average"])
        print(f"own checkpoint {options.resume.name} loaded")
    for step in range(options.steps):
        loss = trainer.step()
        time.sleep(options.pause)
        if options.trace:
            with options.trace.open("a") as trace:
                trace.write(f"{loss:.9g} {digest(trainer.model, trainer.average)}\n")
        if (step + 1) % options.save_every == 0:
            trainer.save(options.out)
            print(f"step {step + 1}: loss {loss:.3f}", flush=True)
    print(f"digest {digest(trainer.model, trainer.average)}")


if __name__ == "__main__":
    main()
