"""What a real SLURM does to jobs that run: another time limit, arrays, a warning signal, a node that goes down."""

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
    pytest.mark.timeout(400),
]
STEP_S = 0.1


@pytest.fixture
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    made = Cluster(tmp_path_factory.mktemp("slurm"))
    try:
        made.start()
        yield made
    finally:
        made.stop()


def _submitted(cluster: Cluster, line: CommandLine, train_s: float, *options: str) -> str:
    """The id of a job that trains for so long in all."""
    steps = int(train_s / STEP_S)
    line.script(f"""
        import time, backprop
        seen = []
        with backprop.timebox(seen=seen) as box:
            for step in box.steps({steps}):
                seen.append(step)
                time.sleep({STEP_S})
        print("whole", seen == list(range({steps})), flush=True)
        """)
    line.script(
        f"#!/bin/bash\n#SBATCH --requeue --open-mode=append --output=%x.log\n"
        f"exec {sys.executable} -m backprop_cli run train.py --requeue\n",
        "job.sh",
    )
    return cluster.submit(*options, "job.sh", cwd=line.folder, environment=line.environment)


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder


def _outcomes(line: CommandLine, run: str) -> list[str]:
    """Of its attempts so far; none where it has not begun."""
    path = line.home / "runs" / run / "run.json"
    record: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {"attempts": []}
    return [attempt["outcome"] for attempt in record["attempts"]]


def _trains(line: CommandLine, run: str) -> bool:
    events = line.home / "runs" / run / "attempts" / "1" / "events.jsonl"
    return events.exists() and "training_started" in events.read_text()


def test_a_longer_limit_is_noticed_in_the_box_and_each_task_of_an_array_is_a_run(
    tmp_path: Path, cluster: Cluster
) -> None:
    """Of two tasks whose training is longer than their minute, the one that is given another ends in its first box."""
    line = CommandLine(tmp_path)
    array = _submitted(cluster, line, 65.0, "--time=1", "--array=1-2", "--job-name=array")
    longer, kept = (f"slurm-{array}-{task}" for task in (1, 2))
    wait_for(lambda: _trains(line, longer) and _trains(line, kept))
    cluster.said("scontrol", "update", f"JobId={array}_1", "TimeLimit=4")
    wait_for(lambda: cluster.over(f"{array}_1", f"{array}_2"), 300.0)
    log = (line.folder / "array.log").read_text()
    assert _outcomes(line, longer) == ["completed"], log
    assert _outcomes(line, kept) == ["timeboxed", "completed"], log
    assert "The job's end was moved: the end of SLURM job" in log
    assert log.count("whole True") == 2


def test_a_warning_signal_and_a_dead_node_lead_to_the_next_job(tmp_path: Path, cluster: Cluster) -> None:
    """USR1 to the batch shell means save, end and requeue; after a dead node SLURM requeues, and the same line goes on."""
    warned_line, dead_line = (CommandLine(_made(tmp_path / name)) for name in ("warned", "dead"))
    options = ("--signal=B:USR1@590", "--time=10", "--job-name=warned", "-wn1")
    warned = _submitted(cluster, warned_line, 30.0, *options)
    dead = _submitted(cluster, dead_line, 30.0, "--time=10", "--job-name=dead", "-wn2")
    wait_for(lambda: _trains(dead_line, f"slurm-{dead}"))
    wait_for((dead_line.home / "runs" / f"slurm-{dead}" / "checkpoints").exists)
    cluster.said("scontrol", "update", "NodeName=n2", "State=DOWN", "Reason=test")
    wait_for(lambda: cluster.state(dead) == "PENDING", 60.0)
    died = dead_line.folder / "dead.log"
    wait_for(
        lambda: "is not requeued from here" in died.read_text(), 60.0
    )  # else the node is taken for broken
    wait_for(lambda: cluster.said("squeue", "-h", "-t", "COMPLETING") == "", 60.0)
    cluster.said("scontrol", "update", "NodeName=n2", "State=RESUME")
    wait_for(lambda: _outcomes(warned_line, f"slurm-{warned}")[:1] == ["preempted"])
    cluster.said("scontrol", "update", f"JobId={warned}", "TimeLimit=60")  # its next box is warned much later
    wait_for(lambda: cluster.over(warned, dead), 250.0)
    log = (warned_line.folder / "warned.log").read_text()
    assert _outcomes(warned_line, f"slurm-{warned}") == ["preempted", "completed"], log
    assert "whole True" in log
    log = died.read_text()
    outcomes = _outcomes(dead_line, f"slurm-{dead}")
    assert len(outcomes) == 2, log
    assert outcomes[-1] == "completed", log
    assert "whole True" in log
