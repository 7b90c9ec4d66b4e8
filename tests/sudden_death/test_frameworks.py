"""A framework's own training loop dies of SIGKILL and goes on from what the governor has kept."""

from __future__ import annotations

import json
import math
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from backprop_core.checkpoints.manifest import CheckpointInfo
from backprop_core.checkpoints.store import CheckpointStore
from backprop_core.clock import SYSTEM
from tests.backprop_cli.commandline import CommandLine

SCRIPT = Path(__file__).parent / "framework_script.py"
TORCHRUN = str(Path(sys.executable).with_name("torchrun"))
DEATHS = (21, 45)
"""Of 80 batches, eight of training and eight of validation by turns: one in a training epoch, one in a validation."""

BATCH_S = 0.03
"""A batch takes at least so long, seconds."""
LIMIT_S = 900
"""For one process: on a crowded machine a framework takes minutes to import."""


def _told(output: str) -> set[str]:
    """What the training came to, one line of each process."""
    return set(re.findall(r"^(?:rank \d: )?\d+ batches, digest \w+$", output, re.MULTILINE))


def _last_batch(output: str) -> int:
    return int(re.findall(r"^batch (\d+)$", output, re.MULTILINE)[-1])


def _steps(batches: int, *, validates: bool) -> int:
    """How many of so many batches are training's."""
    return 8 * (batches // 16) + min(8, batches % 16) if validates else batches


def _survivor(backprop: CommandLine, said: str) -> CheckpointInfo:
    """The newest checkpoint, which is what the governor kept: the command says so, and so does `checkpoints`."""
    newest = CheckpointStore(backprop.home / "runs/dies/checkpoints", clock=SYSTEM).list()[0]
    assert newest.facts.reason.value == "survivor", said
    assert f"tep {newest.step}" in said
    shown = json.loads(backprop("checkpoints", "dies", "--json").stdout)
    assert "survivor" in json.dumps(shown), shown
    return newest


def _most_lost(survivor: CheckpointInfo) -> int:
    """The goal is one step or a hundred copies' time; twice that, and the copies that a busy machine keeps waiting."""
    copy_s = json.loads((survivor.path / "manifest.json").read_text())["extra"]["copy_s"]
    return 5 + math.ceil(2 * 100 * copy_s / BATCH_S)


def _dies_twice_and_ends(backprop: CommandLine, framework: str, *launcher: str) -> None:
    shutil.copy(SCRIPT, backprop.folder / SCRIPT.name)
    backprop.environment["OMP_NUM_THREADS"] = "1"
    uncut = subprocess.run(
        [*(launcher or [sys.executable]), SCRIPT.name, framework],
        cwd=backprop.folder,
        env=backprop.environment,
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )
    assert uncut.returncode == 0, uncut.stderr
    options = ("-m", "20", "--run-id", "dies")
    words = (SCRIPT.name, framework, *map(str, DEATHS))
    if launcher:
        command = ("run", *options, "--exec", launcher[0], "--", *launcher[1:], *words)
    else:
        command = ("run", words[0], *options, "--", *words[1:])
    done = backprop(*command, timeout=LIMIT_S)
    for death in DEATHS:
        # torchrun's own status where it started the script: it has told the other rank to end.
        assert done.returncode == (1 if launcher else 128 + signal.SIGKILL), done.stderr
        last = _last_batch(done.stdout)
        assert last >= death
        survivor = _survivor(backprop, done.stderr)
        lost = _steps(last, validates=not launcher) - survivor.step
        assert 0 <= lost <= _most_lost(survivor), f"{lost} steps lost; {done.stderr}"
        done = backprop("resume", "dies", "-m", "20", timeout=LIMIT_S)
        assert f"resumed from step {survivor.step}" in done.stderr
    assert done.returncode == 0, done.stderr
    assert _told(done.stdout) == _told(uncut.stdout) != set()


@pytest.mark.faults
@pytest.mark.timeout(4 * LIMIT_S)
@pytest.mark.parametrize(
    "framework", ["lightning", "keras-torch", "keras-jax", "keras-tensorflow", "transformers"]
)
def test_a_fit_killed_twice_ends_as_one_that_was_not(backprop: CommandLine, framework: str) -> None:
    """Killed in a training epoch and in a validation: each time a survivor is there, and the end is bit-identical."""
    _dies_twice_and_ends(backprop, framework)


@pytest.mark.timeout(4 * LIMIT_S)
@pytest.mark.faults
def test_a_loop_with_fabric_killed_twice_ends_as_one_that_was_not(backprop: CommandLine) -> None:
    """The same of a script's own loop with Lightning Fabric."""
    _dies_twice_and_ends(backprop, "fabric")


@pytest.mark.faults
@pytest.mark.timeout(4 * LIMIT_S)
def test_ranks_of_which_one_is_killed_end_as_ones_that_were_not(backprop: CommandLine) -> None:
    """First the second rank is killed, then the first: the survivor holds the part of each, and both end bit-identical."""
    _dies_twice_and_ends(backprop, "ranks", TORCHRUN, "--nproc-per-node", "2")
