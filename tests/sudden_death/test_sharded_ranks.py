"""Ranks that each hold a part of the model die of SIGKILL: all parts of one step are kept, or none."""

from __future__ import annotations

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
from tests.backprop_cli.commandline import CommandLine, wait_for

PLAIN, FRAMEWORKS = (Path(__file__).with_name(f"sharded_{name}.py") for name in ("script", "frameworks"))
TORCHRUN = str(Path(sys.executable).with_name("torchrun"))
LIMIT_S = 900
MOST_LOST = 60
"""Steps: a copy may be a hundred copies' time old, and on a crowded machine one takes tens of milliseconds."""


def _told(output: str) -> set[str]:
    """What the training came to, one line of each process."""
    return set(re.findall(r"^rank \d: \d+ batches, digest \w+$", output, re.MULTILINE))


def _last_batch(output: str) -> int:
    return int(re.findall(r"^batch (\d+)$", output, re.MULTILINE)[-1])


def _newest(backprop: CommandLine, count: int, *, only_survivor: bool) -> CheckpointInfo:
    """The newest checkpoint, whole: what was made of the ranks' copies, or a periodic one that is as new."""
    store = CheckpointStore(backprop.home / "runs/dies/checkpoints", clock=SYSTEM)
    newest = store.list()[0]
    assert newest.facts.reason.value in ("survivor", *["periodic"] * (not only_survivor))
    assert store.verify(newest) == []
    assert len(list(newest.path.glob("rank-*"))) == count
    return newest


@pytest.mark.faults
@pytest.mark.timeout(4 * LIMIT_S)
@pytest.mark.parametrize("framework", ["lightning", "trainer", "fabric"])
def test_frameworks_that_shard_end_as_if_nobody_had_died(backprop: CommandLine, framework: str) -> None:
    """One rank dies, then all, between periodic saves and in them: a whole checkpoint is found, and the end is the same."""
    _dies_and_ends(backprop, FRAMEWORKS, framework, 2, ("25:1", "45:all"), "-c", "0.3s")


@pytest.mark.faults
@pytest.mark.timeout(4 * LIMIT_S)
@pytest.mark.parametrize(
    ("layout", "count", "victims"),
    [
        ("fsdp", 2, ("25:1", "45:0")),
        ("fsdp", 2, ("25:all", "45:all+governor")),
        ("columns", 2, ("25:0+governor", "45:1")),
        ("fsdp", 4, ("25:2", "45:all")),
        ("hsdp", 4, ("25:3", "45:0+governor")),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, tuple) else str(value),
)
def test_ranks_that_die_end_as_ones_that_did_not(
    backprop: CommandLine, layout: str, count: int, victims: tuple[str, ...]
) -> None:
    """One rank, all, the governor too: the newest copy that all had is a checkpoint, and the end is bit-identical."""
    _dies_and_ends(backprop, PLAIN, layout, count, victims)


@pytest.mark.faults
@pytest.mark.timeout(4 * LIMIT_S)
def test_a_rank_that_hangs_costs_the_steps_since_the_last_copy(backprop: CommandLine) -> None:
    """At the deadline both are ended, and what they had in memory is saved; the box after that ends as an uncut training."""
    shutil.copy(PLAIN, backprop.folder / PLAIN.name)
    backprop.environment["OMP_NUM_THREADS"] = "1"
    launcher = (TORCHRUN, "--standalone", "--nproc-per-node", "2")
    uncut = subprocess.run(
        [*launcher, PLAIN.name, "fsdp"],
        cwd=backprop.folder,
        env=backprop.environment,
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )
    assert uncut.returncode == 0, uncut.stderr
    options = ("-m", "15s", "--budget-from", "training", "--grace", "3", "--run-id", "dies")
    words = (*launcher[1:], PLAIN.name, "fsdp", "30:1~")
    done = backprop("run", *options, "--exec", launcher[0], "--", *words, timeout=LIMIT_S)
    assert "the newest step that all processes have in memory is saved" in done.stderr
    survivor = _newest(backprop, 2, only_survivor=True)
    assert 3 <= survivor.step <= 30
    assert f"tep {survivor.step}" in done.stderr
    done = backprop("resume", "dies", "-m", "20", timeout=LIMIT_S)
    assert f"resumed from step {survivor.step}" in done.stderr
    assert _told(done.stdout) == _told(uncut.stdout) != set()


def _dies_and_ends(
    backprop: CommandLine, script: Path, layout: str, count: int, victims: tuple[str, ...], *options: str
) -> None:
    for name in ("sharded_script.py", script.name):
        shutil.copy(script.with_name(name), backprop.folder / name)
    backprop.environment["OMP_NUM_THREADS"] = "1"
    launcher = (TORCHRUN, "--standalone", "--nproc-per-node", str(count))
    uncut = subprocess.run(
        [*launcher, script.name, layout],
        cwd=backprop.folder,
        env=backprop.environment,
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )
    assert uncut.returncode == 0, uncut.stderr
    words = (script.name, layout, *victims)
    done = backprop(
        "run",
        "-m",
        "20",
        "--run-id",
        "dies",
        *options,
        "--exec",
        launcher[0],
        "--",
        *launcher[1:],
        *words,
        timeout=LIMIT_S,
    )
    for number, victim in enumerate(victims, start=1):
        if "governor" in victim:
            assert done.returncode == -signal.SIGKILL, done.stderr
            log = backprop.attempt_dir("dies", number) / "governor.jsonl"
            wait_for(lambda log=log: '"survived"' in log.read_text() or '"survivor"' in log.read_text())
            printed = (backprop.attempt_dir("dies", number) / "output.log").read_text()
        else:
            assert done.returncode == 1, done.stderr  # torchrun's own status
            printed = done.stdout
        survivor = _newest(backprop, count, only_survivor="-c" not in options)
        if "governor" not in victim and survivor.facts.reason.value == "survivor":
            assert f"tep {survivor.step}" in done.stderr
        last = _last_batch(printed)
        assert 0 <= last - survivor.step <= MOST_LOST, done.stderr
        done = backprop("resume", "dies", "-m", "20", timeout=LIMIT_S)
        assert f"resumed from step {survivor.step}" in done.stderr
    assert done.returncode == 0, done.stderr
    assert _told(done.stdout) == _told(uncut.stdout) != set()
