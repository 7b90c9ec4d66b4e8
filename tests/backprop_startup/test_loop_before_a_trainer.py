"""A loop that looks like a training, and comes before the training of a Trainer: a replay buffer that is filled, say."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.backprop_cli.commandline import CommandLine
from tests.backprop_startup.cutting import cut, last_line, resumed, whole

SCRIPT = """
import logging, time, torch
from lightning.pytorch import LightningModule, Trainer, seed_everything
from torch.utils.data import DataLoader

logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)

class World:
    def __init__(self):
        self.at = torch.zeros(3)

    def step(self, action):
        self.at = 0.9 * self.at + 0.1 * action
        return self.at.clone()

class Agent(LightningModule):
    def __init__(self):
        super().__init__()
        self.world, self.seen, self.net = World(), [], torch.nn.Linear(3, 1)
        for _ in range(24):
            self.seen.append(self.world.step(torch.randn(3)))

    def training_step(self, batch, batch_idx):
        self.seen.append(self.world.step(torch.randn(3)))
        time.sleep(0.05)
        return (self.net(batch) - batch.sum(1, keepdim=True)).square().mean()

    def train_dataloader(self):
        return DataLoader(list(self.seen), batch_size=4, shuffle=True)

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), 0.01)

seed_everything(1)
agent = Agent()
quiet = dict(logger=False, enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False)
Trainer(max_epochs=12, accelerator="cpu", **quiet).fit(agent)
print("digest", agent.net.weight.tolist(), len(agent.seen), agent.world.at.tolist(), flush=True)
"""


@pytest.mark.long
def test_its_checkpoint_is_left_to_the_trainer(backprop: CommandLine, tmp_path: Path) -> None:
    """A resume goes on where the Trainer stood, to the same bits, and nothing is said of a loop of the script's."""
    script = tmp_path / "agent.py"
    script.write_text(SCRIPT)
    uncut = last_line(whole(backprop, script))
    cut(backprop, "cut", script)
    done = resumed(backprop, "cut")
    assert last_line(done) == uncut
    said = done.stdout + done.stderr
    assert "attached to Lightning's Trainer, resumed from step" in said
    assert "PyTorch loop" not in said


REPLAY = Path(__file__).parent / "replay_stream.py"


@pytest.mark.long
def test_a_stream_over_a_full_buffer_comes_back(backprop: CommandLine, tmp_path: Path) -> None:
    """The buffer drops its oldest items while a pass over it runs; cut inside two passes, it holds what it held uncut."""
    script = tmp_path / REPLAY.name
    shutil.copy(REPLAY, script)
    uncut = last_line(whole(backprop, script))
    for run, end_at in (("run", "18"), ("resume", "37")):
        backprop.environment["END_AT"] = end_at
        words = ["--run-id", "cut", "--grace", "0", str(script)] if run == "run" else ["cut"]
        ended = backprop(run, *words, "-m", "5")
        assert "preempted at step" in ended.stderr, ended.stderr
    del backprop.environment["END_AT"]
    assert last_line(resumed(backprop, "cut")) == uncut
