"""Several governors of one run, as `srun backprop run` starts them: the first one's is the run, the others follow."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator

import pytest

from backprop_cli.tasks import Task
from tests.backprop_cli.commandline import DEADLINE_S, CommandLine, end, wait_for
from tests.backprop_cli.sessions import STANDIN
from tests.backprop_cli.test_notices import GCP, GCP_NOTICE, Metadata, served

FOLLOWS = """
import os, signal, time
from pathlib import Path

number, attempt = os.environ["SLURM_PROCID"], os.environ["BACKPROP_ATTEMPT"]
told = " ".join(os.environ[f"BACKPROP_{name}"] for name in ("RUN_ID", "ATTEMPT", "GOVERNOR_PID"))
Path(f"told-{number}-{attempt}").write_text(told)
if number != "0":  # a rank that leaves with the first one
    heard = []
    signal.signal(signal.SIGTERM, lambda *_: heard.append(1))
    while not heard and not Path(f"over-{attempt}").exists():
        time.sleep(0.02)
    Path(f"rank-1-ended-{attempt}").write_text("signal" if heard else "with the first")
    raise SystemExit(0)
"""


class Step:
    """Two tasks of one srun step."""

    def __init__(self, line: CommandLine) -> None:
        self.line = line
        line.script(FOLLOWS + STANDIN)
        self.tasks: list[subprocess.Popen[str]] = []

    def start(self, rank: int, *words: str) -> subprocess.Popen[str]:
        step = {
            "SLURM_JOB_ID": "7",
            "SLURM_STEP_ID": "0",
            "SLURM_STEP_NUM_TASKS": "2",
            "SLURM_PROCID": str(rank),
        }
        step |= {"SLURM_JOB_END_TIME": "4000000000"}
        self.line.environment |= step
        self.tasks.append(self.line.start("run", "train.py", *words))
        return self.tasks[-1]

    def told(self, rank: int, attempt: int) -> list[str]:
        path = self.line.folder / f"told-{rank}-{attempt}"
        wait_for(lambda: path.exists() and path.read_text())
        return path.read_text().split()

    def ends(self) -> tuple[list[int], list[str]]:
        said = [task.communicate(timeout=DEADLINE_S)[1] for task in self.tasks]
        return [task.returncode for task in self.tasks], said


@pytest.fixture
def step(backprop: CommandLine) -> Iterator[Step]:
    made = Step(backprop)
    yield made
    for task in made.tasks:
        end(task)


def test_tasks_of_one_step_are_one_run(step: Step) -> None:
    """Each starts its script in the same attempt; a ghost run of the second ended with 124 and stopped the first's."""
    step.line.environment["STANDIN_STEPS"] = "200"
    for rank in (1, 0):
        step.start(rank, "-m", "4")
    first, second = step.told(0, 1), step.told(1, 1)
    assert first[:2] == second[:2]
    assert first[2] != second[2], "each script knows the governor of its own host"
    wait_for(lambda: step.line.record(first[0])["status"] == "completed")
    (step.line.folder / "over-1").touch()
    statuses, said = step.ends()
    assert statuses == [0, 0], said
    assert len(step.line.runs()) == 1
    assert f"task 1 of 2: follows run {first[0]} of task 0" in said[0]
    assert (step.line.folder / "rank-1-ended-1").read_text() == "with the first"
    assert "time box" not in said[0]


def test_a_signal_to_a_follower_reaches_its_script_and_the_status_is_the_runs(step: Step) -> None:
    """The scheduler warns all tasks: each governor asks its own script, and all end with the first one's status."""
    step.line.environment["STANDIN_STEPS"] = "100000"
    for rank in (1, 0):
        step.start(rank, "-m", "4", "--timeboxed-exit-code", "85")
    events = step.line.attempt_dir(step.told(0, 1)[0]) / "events.jsonl"
    step.told(1, 1)
    wait_for(lambda: events.exists() and "session_started" in events.read_text())
    for task in step.tasks:
        os.kill(task.pid, signal.SIGTERM)
    statuses, said = step.ends()
    assert statuses == [85, 85], said
    assert (step.line.folder / "rank-1-ended-1").read_text() == "signal"


def test_a_notice_to_a_follower_reaches_its_script(step: Step) -> None:
    """The cloud takes the second host away: the governor there asks its own script to save and end."""
    step.line.environment["STANDIN_STEPS"] = "100000"
    step.start(0, "-m", "4")
    with served(Metadata(dict(GCP.answers), GCP.needs)) as service:
        step.start(1, "-m", "4", "--watch-spot", f"gcp={service.address}")
        step.told(1, 1)
        service.answers[GCP_NOTICE[0]] = GCP_NOTICE[1]
        ended = step.line.folder / "rank-1-ended-1"
        wait_for(lambda: ended.exists() and ended.read_text())
    os.kill(step.tasks[0].pid, signal.SIGTERM)
    statuses, said = step.ends()
    assert ended.read_text() == "signal"
    assert statuses == [0, 0], said
    assert "task 1: Google Cloud will reclaim this machine within 30 s." in said[1]


def test_a_task_with_a_run_of_its_own_does_not_follow(step: Step) -> None:
    """Tasks that name different runs are different experiments."""
    step.line.environment["STANDIN_STEPS"] = "20"
    (step.line.folder / "over-1").touch()
    step.start(0, "-m", "4", "--run-id", "a")
    step.start(1, "-m", "4", "--run-id", "b")
    statuses, said = step.ends()
    assert statuses == [0, 0], said
    assert {run["id"] for run in step.line.runs()} == {"a", "b"}


def test_what_is_a_task_of_several() -> None:
    """Tasks of srun and mpirun, by step; a batch script, a single task and a script of ours are none."""
    srun = {"SLURM_JOB_ID": "7", "SLURM_STEP_ID": "1", "SLURM_STEP_NUM_TASKS": "4", "SLURM_PROCID": "3"}
    assert Task.of_process(srun) == Task("slurm-7.1.0", 3, 4)
    again = Task.of_process({**srun, "SLURM_RESTART_COUNT": "2"})
    assert again is not None
    assert again.name == "slurm-7.1.2"
    assert Task.of_process({**srun, "SLURM_STEP_NUM_TASKS": "1"}) is None
    assert Task.of_process({**srun, "BACKPROP_RUN_DIR": "/x"}) is None
    assert Task.of_process({"SLURM_JOB_ID": "7", "SLURM_PROCID": "0", "SLURM_NTASKS": "4"}) is None
    mpi = {"PMIX_NAMESPACE": "a/b", "OMPI_COMM_WORLD_RANK": "0", "OMPI_COMM_WORLD_SIZE": "2"}
    assert Task.of_process(mpi) == Task("mpi-a_b", 0, 2)
    assert Task.of_process({}) is None
