"""Loops with accelerate whose model FSDP2 shards over ranks: unmodified under the command, and in a box of their own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from safetensors.torch import load_file

from backprop_core.checkpoints.store import open_store
from backprop_core.clock import SYSTEM
from tests.backprop_cli.commandline import CommandLine
from tests.backprop_startup.cutting import cut, resumed, whole, with_environment

FOLDER = Path(__file__).parent
TORCHRUN = (str(Path(sys.executable).with_name("torchrun")), "--nproc-per-node", "2")
pytestmark = [pytest.mark.faults, pytest.mark.timeout(900)]


def test_an_unmodified_script_ends_as_the_uncut_one(backprop: CommandLine) -> None:
    """Cut and resumed, each step of each rank leaves the uncut weights, optimizer and random numbers, and comes once."""
    script = FOLDER / "sharded_accelerate.py"
    with_environment(backprop, OMP_NUM_THREADS="1")
    uncut = whole(backprop, script, "whole.x", "0", launcher=TORCHRUN)
    assert uncut.returncode == 0, uncut.stderr
    traces = [backprop.folder / f"cut.{rank}" for rank in (0, 1)]

    def is_under_way() -> bool:
        return all(trace.exists() and len(trace.read_text().splitlines()) >= 9 for trace in traces)

    cut(backprop, "cut", script, "cut.x", "0.3", launcher=TORCHRUN, when=is_under_way)
    assert all(9 <= len(trace.read_text().splitlines()) < 24 for trace in traces)
    done = resumed(backprop, "cut")
    for rank, trace in enumerate(traces):
        assert trace.read_text() == (backprop.folder / f"whole.{rank}").read_text(), done.stderr
    assert "cannot be kept" not in done.stderr
    store = open_store(backprop.home / "runs" / "cut" / "checkpoints", clock=SYSTEM)
    assert all(store.verify(info) == [] and list(info.path.glob("rank-*")) for info in store.list())
    exported = backprop("export", "cut", "--to", "exported")
    assert exported.returncode == 0, exported.stderr
    names = {f"{layer}.{kind}" for layer in (0, 3, 4) for kind in ("weight", "bias")}
    assert load_file(backprop.folder / "exported" / "model.safetensors").keys() == names


def test_a_loop_in_a_box_of_its_own_ends_as_the_uncut_one(backprop: CommandLine) -> None:
    """A SIGTERM to one rank, between two windows of accumulation, stops both; each goes on with its own samples."""
    script = FOLDER / "sharded_accelerate_box.py"
    with_environment(backprop, OMP_NUM_THREADS="1")
    for words in (("whole", "0"), ("cut", "10"), ("cut", "0")):
        command = [*TORCHRUN, str(script), str(backprop.folder), *words]
        done = subprocess.run(
            command, env=backprop.environment, cwd=backprop.folder, capture_output=True, text=True, check=False,
            timeout=240,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr[-3000:]
        assert done.stdout.count("preempted" if words[1] == "10" else "completed") == 2
    for rank in (0, 1):
        uncut, pieces = ((backprop.folder / f"{name}.{rank}").read_text() for name in ("whole", "cut"))
        assert pieces == uncut
