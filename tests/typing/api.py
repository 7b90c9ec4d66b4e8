"""The public surface as a user sees it; type-checked by `make check`, never run."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import backprop

outcome: backprop.Outcome
path: Path | None
seconds: float
text: str


class Stateful:
    def state_dict(self) -> dict[str, int]:
        return {}

    def load_state_dict(self, state: dict[str, int]) -> None: ...


def loader() -> Iterator[tuple[int, str]]:
    yield 1, "one"


with backprop.timebox():
    pass

with backprop.timebox(
    "10m",
    until=datetime.now(tz=UTC),
    checkpoint_every=timedelta(minutes=5),
    keep=3,
    keep_every=1000,
    checkpoint_dir=Path("checkpoints"),
    run="digits",
    name="a label",
    resume="auto",
    grace=30,
    model=Stateful(),
    ema=Stateful(),
) as box:
    for epoch in box.epochs(10):
        number: int = epoch
        for x, y in box.batches(loader()):
            x + 1
            y.upper()
            box.log(loss=0.5)
        for item in box.batches([1, 2, 3], replay=True):
            item + 1
    for step in box.steps(100_000):
        step + 1
    box.step(loss=0.5)
    box.track(more=Stateful())
    outcome = box.outcome
    path = box.checkpoint
    path = box.resumed_from
    seconds = box.remaining
    seconds = box.progress
    seconds = box.progress_at(3)
    text = box.run_id

for budget in (None, "90s", "1h30m", "00:10:00", timedelta(seconds=90), 90, 90.0):
    backprop.timebox(budget)
for resume in (True, False, "auto", Path("checkpoint"), "a/path"):
    backprop.timebox(resume=resume)

try:
    backprop.timebox("soon")
except backprop.BudgetError as error:
    text = error.what + error.hint

proof: backprop.Proof = backprop.prove("train.py", "--lr", "0.1", steps=40, cuts=3, budget="5m", check=True)
text = proof.sentence
text = proof.verdict.value
number_of_steps: int = proof.steps
