"""A training that the kernel kills for want of memory, for real: in a memory cgroup of its own."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.backprop_cli.commandline import CommandLine
from tests.sudden_death.test_sudden_death import newest

LIMIT_BYTES = 300 << 20
SCRIPT = """
    import os, sys, time
    from pathlib import Path
    import numpy as np
    Path(os.environ["GROUP"], "cgroup.procs").write_text(str(os.getpid()))
    import backprop

    class Model:
        def __init__(self): self.arrays = [np.zeros(250_000) for _ in range(6)]
        def state_dict(self): return {str(n): array for n, array in enumerate(self.arrays)}
        def load_state_dict(self, state):
            for n, array in enumerate(self.arrays): array[...] = state[str(n)]

    model, hoard = Model(), []
    with backprop.timebox(model=model) as box:
        for step in box.steps(100_000):
            time.sleep(0.02)
            for array in model.arrays: array += 1
            if step > 200: hoard.append(np.ones(2_000_000))
"""


def _groups() -> Path | None:
    """Where memory cgroups can be made: of version 1, or the root of version 2."""
    for place, limit in (
        ("/sys/fs/cgroup/memory", "memory.limit_in_bytes"),
        ("/sys/fs/cgroup", "memory.max"),
    ):
        trial = Path(place) / f"backprop-trial-{os.getpid()}"
        try:
            trial.mkdir()
        except OSError:
            continue
        found = (trial / limit).exists()
        trial.rmdir()
        if found:
            return Path(place)
    return None


@pytest.fixture
def group() -> Iterator[Path]:
    place = _groups()
    if place is None:
        pytest.skip("no memory cgroup can be made here")
    made = place / f"backprop-test-{os.getpid()}"
    made.mkdir()
    limit = made / "memory.limit_in_bytes"
    (limit if limit.exists() else made / "memory.max").write_text(str(LIMIT_BYTES))
    with suppress(OSError):
        (made / "memory.swap.max").write_text("0")
    yield made
    made.rmdir()


def test_a_training_that_runs_out_of_memory_leaves_its_last_steps(backprop: CommandLine, group: Path) -> None:
    """The kernel kills a training that hoards memory: the last line says so, and what was copied before is a checkpoint."""
    backprop.script(SCRIPT)
    backprop.environment["GROUP"] = str(group)
    done = backprop("run", "train.py", "-m", "10", "--run-id", "oom")
    assert done.returncode == 137, done.stderr
    left = newest(backprop, "oom")
    assert left["reason"] == "survivor"
    assert left["step"] >= 3
    assert "out of memory" in done.stderr


def test_a_chain_ends_after_it_ran_out_of_memory_twice(backprop: CommandLine, group: Path) -> None:
    """The same wall at the same place: the second time the chain ends, says so, and names the memory."""
    backprop.script(SCRIPT.replace("step > 200", "step > 60"))
    backprop.environment["GROUP"] = str(group)
    done = backprop("run", "train.py", "-m", "10", "--run-id", "wall", "--until-done")
    assert done.returncode == 137, done.stderr
    assert [attempt["outcome"] for attempt in backprop.record("wall")["attempts"]] == ["failed", "failed"]
    assert done.stderr.count("out of memory") >= 2
    assert "died suddenly twice in a row" in done.stderr
    assert newest(backprop, "wall")["reason"] == "survivor"
