"""A script of three lines for sbatch trains for longer than a job may last, and is preempted in between."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.backprop_cli.commandline import CommandLine, wait_for
from tests.slurm.cluster import Cluster

pytestmark = [
    pytest.mark.faults,
    pytest.mark.timeout(600),
]

STEPS, STEP_S = 1100, 0.1
"""More than a job of a minute has time for and what comes before the preemption."""
TRAINING = f"""
import time, backprop
seen = []
with backprop.timebox(seen=seen) as box:
    for step in box.steps({STEPS}):
        seen.append(step)
        time.sleep({STEP_S})
print("outcome", box.outcome, "whole", seen == list(range({STEPS})), flush=True)
"""


@pytest.fixture
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    made = Cluster(tmp_path_factory.mktemp("slurm"))
    try:
        made.start()
        yield made
    finally:
        made.stop()


def test_a_job_of_any_length_completes(tmp_path: Path, cluster: Cluster) -> None:
    """Preempted once, ended by its time limit once, it requeues itself, and each step is trained exactly once."""
    line = CommandLine(tmp_path)
    line.script(TRAINING)
    line.script(f"#!/bin/bash\n#SBATCH --time=1 --requeue --open-mode=append --output=job.log\n"
                f"exec {sys.executable} -m backprop_cli run train.py --requeue\n", "job.sh")  # fmt: skip
    job, log = (
        cluster.submit("job.sh", cwd=line.folder, environment=line.environment),
        line.folder / "job.log",
    )
    wait_for(lambda: log.exists() and "steps fit into this box" in log.read_text())
    cluster.submit("-phigh", "-N2", "--exclusive", "-o/dev/null", "--wrap", "sleep 1", cwd=line.folder)
    wait_for(lambda: cluster.over(job), 500.0)
    record: dict[str, Any] = json.loads((line.home / "runs" / f"slurm-{job}" / "run.json").read_text())
    outcomes = [one["outcome"] for one in record["attempts"]]
    assert (outcomes[0], outcomes[-1]) == ("preempted", "completed")
    assert set(outcomes[1:-1]) == {"timeboxed"}
    assert "outcome completed whole True" in log.read_text()


TWO_TASKS = """
import os, time
from pathlib import Path
me = os.environ["SLURM_PROCID"]
Path(f"told-{me}").write_text(os.environ["BACKPROP_RUN_ID"] + " " + os.environ["BACKPROP_ATTEMPT"])
if me == "0":
    import backprop
    with backprop.timebox() as box:
        for step in box.steps(20):
            time.sleep(0.05)
    while not Path("told-1").exists():
        time.sleep(0.05)
    Path("over").touch()
while not Path("over").exists():
    time.sleep(0.05)
"""


def test_tasks_of_one_srun_step_are_one_run(tmp_path: Path, cluster: Cluster) -> None:
    """Two tasks on two nodes, each with a governor: one run, one attempt, and a status of 0 for the step."""
    line = CommandLine(tmp_path)
    line.script(TWO_TASKS)
    command = f"srun -N2 -n2 {sys.executable} -m backprop_cli run train.py -m 4; echo status $? > ended"
    cluster.submit(
        "-N2", "-n2", "-t2", "-ojob.log", "--wrap", command, cwd=line.folder, environment=line.environment
    )
    ended = line.folder / "ended"
    wait_for(lambda: ended.exists() and ended.read_text())
    assert ended.read_text().split() == ["status", "0"], (line.folder / "job.log").read_text()
    told = {(line.folder / f"told-{rank}").read_text() for rank in (0, 1)}
    assert len(told) == 1
    assert len(line.runs()) == 1
