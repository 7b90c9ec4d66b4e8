"""A small character transformer that learns to write Python's own help texts, inside a time box, exact on resume.

    backprop run -m 5s --budget-from training examples/text_pytorch.py -- --pause 0.05
    backprop resume RUN

Real data: `pydoc_data/topics.py`, which comes with Python. There are no epochs: every step draws random pieces of the text,
so the loop counts with box.steps.
"""

import argparse
import hashlib
import pydoc_data.topics
import time
from pathlib import Path

import torch
from torch import nn

import backprop

CONTEXT, WIDTH, HEADS, LAYERS, BATCH = 64, 64, 4, 2, 16
STEPS_IN_AN_EPOCH = 25


class Writer(nn.Module):
    """Predicts the next character from up to `CONTEXT` characters before it."""

    def __init__(self, characters: int) -> None:
        super().__init__()
        self.character = nn.Embedding(characters, WIDTH)
        self.place = nn.Embedding(CONTEXT, WIDTH)
        layer = nn.TransformerEncoderLayer(WIDTH, HEADS, 4 * WIDTH, dropout=0.1, batch_first=True)
        self.layers = nn.TransformerEncoder(layer, LAYERS, enable_nested_tensor=False)
        self.head = nn.Linear(WIDTH, characters)
        self.head.weight = self.character.weight  # tied

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Scores of shape [batch, length, characters] for the character after each of `x` ([batch, length])."""
        length = x.shape[1]
        hidden = self.character(x) + self.place(torch.arange(length))
        scores: torch.Tensor = self.head(
            self.layers(hidden, nn.Transformer.generate_square_subsequent_mask(length), is_causal=True)
        )
        return scores


@torch.no_grad()
def sample(model: Writer, letters: str, count: int) -> str:
    """`count` characters that the model makes up, the likeliest each time."""
    model.eval()
    text = torch.tensor([[letters.index("T")]])
    for _ in range(count):
        following = model(text[:, -CONTEXT:])[:, -1].argmax(1, keepdim=True)
        text = torch.cat([text, following], dim=1)
    model.train()
    return "".join(letters[i] for i in text[0].tolist())


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--epochs", type=int, default=20, help=f"of {STEPS_IN_AN_EPOCH} steps")
    parser.add_argument(
        "--budget", default=None, help='such as "10s"; default: what backprop run says, or 10 minutes'
    )
    parser.add_argument("--run", default=None, help="id of a run to create or continue")
    parser.add_argument(
        "--pause", type=float, default=0.0, help="seconds of extra work in each step, to see more of it"
    )
    options = parser.parse_args()

    torch.manual_seed(0)
    text = Path(pydoc_data.topics.__file__).read_text(encoding="utf-8")
    letters = "".join(sorted(set(text)))
    numbers = {letter: number for number, letter in enumerate(letters)}
    data = torch.tensor([numbers[letter] for letter in text])
    pieces = data.unfold(0, CONTEXT + 1, 1)

    model = Writer(len(letters))
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, options.epochs * STEPS_IN_AN_EPOCH)
    losses: list[float] = []

    with backprop.timebox(
        options.budget, run=options.run, model=model, optimizer=optimizer, scheduler=scheduler, losses=losses
    ) as box:
        for step in box.steps(options.epochs * STEPS_IN_AN_EPOCH):
            batch = pieces[torch.randint(0, len(pieces), (BATCH,))]
            scores = model(batch[:, :-1])
            loss = nn.functional.cross_entropy(scores.flatten(0, 1), batch[:, 1:].flatten())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            scheduler.step()
            losses.append(loss.item())
            box.log(loss=loss)
            time.sleep(options.pause)
            if (step + 1) % STEPS_IN_AN_EPOCH == 0:
                print(f"step {step + 1}: loss {loss.item():.3f}", flush=True)

    print(repr(sample(model, letters, 40)))
    digest = hashlib.sha256(repr(losses).encode())
    for tensor in model.state_dict().values():
        digest.update(tensor.numpy().tobytes())
    print(f"{box.outcome} after {len(losses)} steps, digest {digest.hexdigest()[:16]}")


if __name__ == "__main__":
    main()
