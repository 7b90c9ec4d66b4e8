"""Real processes that die of real signals: what is left is a whole checkpoint of the last steps."""

from __future__ import annotations

import random
import re
import shutil
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from backprop_core.checkpoints.numpy_arrays import NumpyTranslator
from backprop_core.checkpoints.store import CheckpointStore
from backprop_core.clock import SYSTEM
from tests.backprop_cli.commandline import CommandLine

SCRIPT = Path(__file__).parent / "dying_script.py"
SIGNALS = ("SIGKILL", "SIGSEGV", "SIGABRT", "SIGBUS")


def begun(output: str) -> int:
    """The last step that the script said it began."""
    return int(re.findall(r"^step (\d+)\s*$", output, re.MULTILINE)[-1])


def store_of(backprop: CommandLine, run: str) -> CheckpointStore:
    return CheckpointStore(backprop.home / "runs" / run / "checkpoints", clock=SYSTEM)


def newest(backprop: CommandLine, run: str) -> dict[str, Any]:
    """The newest checkpoint's step and reason, after a look at every value in it."""
    store = store_of(backprop, run)
    info = store.list()[0]
    states = store.load(info, (NumpyTranslator(),)).states
    arrays: dict[str, np.ndarray[Any, Any]] = states["model"]  # type: ignore[assignment]
    assert len(arrays) == 6
    for array in arrays.values():
        assert (np.asarray(array) == info.step).all(), f"a copy that mixes steps: step {info.step}"
    return {"step": info.step, "reason": info.facts.reason.value}


def die(backprop: CommandLine, run: str, *arguments: object) -> tuple[int, Any]:
    """Let a training die; the step that it died in, and what the command has said."""
    shutil.copy(SCRIPT, backprop.folder / SCRIPT.name)
    done = backprop("run", SCRIPT.name, "-m", "10", "--run-id", run, "--", *map(str, arguments))
    return begun(done.stdout), done


@pytest.mark.parametrize("how", SIGNALS)
def test_a_death_leaves_the_last_steps(backprop: CommandLine, how: str) -> None:
    """At three random moments: a whole checkpoint with the reason `survivor`, named in the last line, to go on from."""
    chance = random.Random(how)
    for number, nbytes in enumerate((40_000, 2e6, 12e6)):
        run = f"died{number}"
        died_in, done = die(
            backprop, run, how, chance.randrange(40, 80), chance.random() * 0.05, nbytes, 0.02
        )
        assert done.returncode == 128 + getattr(signal, how), done.stderr
        left = newest(backprop, run)
        assert left["reason"] == "survivor"
        assert 3 <= left["step"] <= died_in
        assert f"step {left['step']} was saved" in done.stderr.replace("Step", "step").replace(
            ", the last that it had finished,", ""
        )
        assert backprop.record(run)["last_checkpoint"] == str(store_of(backprop, run).list()[0].path)
    shown = backprop("checkpoints", run)
    assert "survivor" in shown.stdout
    resumed = backprop("resume", run, "-m", "10")  # and dies where it died before
    assert f"resumed from step {left['step']}" in resumed.stderr
    assert newest(backprop, run)["step"] >= left["step"]
