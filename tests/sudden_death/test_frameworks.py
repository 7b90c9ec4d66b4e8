"""A framework's own training loop dies of SIGKILL and goes on from what the governor has kept."""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from backprop_core.checkpoints.store import CheckpointStore
from backprop_core.clock import SYSTEM
from tests.backprop_cli.commandline import CommandLine

SCRIPT = Path(__file__).parent / "framework_script.py"
DEATHS = (21, 45)
"""Of 80 batches, eight of training and eight of validation by turns: one in a training epoch, one in a validation."""

LIMIT_S = 900
"""For one process: on a crowded machine a framework takes minutes to import."""


def _digest(output: str) -> str:
    return re.findall(r"^\d+ batches, digest \w+$", output, re.MULTILINE)[-1]


@pytest.mark.faults
@pytest.mark.timeout(4 * LIMIT_S)
@pytest.mark.parametrize("framework", ["lightning", "keras", "transformers"])
def test_a_fit_killed_twice_ends_as_one_that_was_not(backprop: CommandLine, framework: str) -> None:
    """Killed in a training epoch and in a validation: each time a survivor is there, and the end is bit-identical."""
    shutil.copy(SCRIPT, backprop.folder / SCRIPT.name)
    uncut = subprocess.run(
        [sys.executable, SCRIPT.name, framework],
        cwd=backprop.folder,
        env=backprop.environment,
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )
    assert uncut.returncode == 0, uncut.stderr
    words = (framework, *map(str, DEATHS))
    done = backprop("run", SCRIPT.name, "-m", "20", "--run-id", "dies", "--", *words, timeout=LIMIT_S)
    for death in DEATHS:
        assert done.returncode == 128 + signal.SIGKILL, done.stderr
        assert int(re.findall(r"^batch (\d+)$", done.stdout, re.MULTILINE)[-1]) >= death
        newest = CheckpointStore(backprop.home / "runs/dies/checkpoints", clock=SYSTEM).list()[0]
        assert newest.facts.reason.value == "survivor", done.stderr
        assert f"tep {newest.step}" in done.stderr
        done = backprop("resume", "dies", "-m", "20", timeout=LIMIT_S)
        assert f"resumed from step {newest.step}" in done.stderr
    assert done.returncode == 0, done.stderr
    assert _digest(done.stdout) == _digest(uncut.stdout)
