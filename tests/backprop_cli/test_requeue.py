"""`--requeue`: one line in a script for sbatch, from job to job, where SLURM is played by two small programs."""

from __future__ import annotations

import signal
import time

import pytest

from backprop_core.deadline.scheduler import MARGIN_S
from tests.backprop_cli.commandline import CommandLine, wait_for
from tests.backprop_cli.sessions import STANDIN


def _slurm(backprop: CommandLine, job_s: float, *, state: str = "RUNNING", requeues: bool = True) -> None:
    """A job that ends in `job_s`; what is requeued is written down."""
    tools = backprop.folder / "bin"
    tools.mkdir(exist_ok=True)
    (tools / "squeue").write_text(f'#!/bin/sh\ncase "$*" in *%T*) echo {state};; *) exit 1;; esac\n')
    (tools / "scontrol").write_text(
        f'#!/bin/sh\necho "$*" >> {backprop.folder}/asked\n{"exit 0" if requeues else "echo Not allowed >&2; exit 1"}\n'
    )
    for tool in tools.iterdir():
        tool.chmod(0o755)
    backprop.environment |= {
        "SLURM_JOB_ID": "7",
        "SLURM_JOB_END_TIME": str(int(time.time() + job_s)),
        "PATH": f"{tools}:{backprop.environment['PATH']}",
        "STANDIN_STEPS": "100000",
    }


def test_a_job_puts_itself_into_the_queue_until_the_script_completes(backprop: CommandLine) -> None:
    """The same line begins the run in the first job and ends it in the second; each box lasts as long as its job."""
    backprop.script(STANDIN)
    _slurm(backprop, 3.0 + MARGIN_S + 3 * backprop.start_s)
    first = backprop("run", "train.py", "--requeue")
    assert first.returncode == 124
    assert (backprop.folder / "asked").read_text() == "requeue 7\n"
    assert "time box of as long as the job" in first.stderr
    record = backprop.record("slurm-7")
    assert [attempt["outcome"] for attempt in record["attempts"]] == ["timeboxed"]
    backprop.environment["STANDIN_STEPS"] = str(record["last_step"] + 5)
    backprop.environment["SLURM_JOB_END_TIME"] = str(int(time.time() + 600))
    second = backprop("run", "train.py", "--requeue")
    assert second.returncode == 0, second.stderr
    assert backprop.record("slurm-7")["status"] == "completed"
    assert (backprop.folder / "asked").read_text() == "requeue 7\n"


@pytest.mark.parametrize(
    ("state", "script", "said"),
    [
        ("COMPLETING", STANDIN, "Job 7 is COMPLETING, so it is not requeued"),
        ("RUNNING", "import time; time.sleep(600)", "left nothing to resume from"),
    ],
)
def test_what_was_cancelled_or_gained_nothing_is_not_requeued(
    backprop: CommandLine, state: str, script: str, said: str
) -> None:
    """A job that its owner cancels stays cancelled, and one that got nowhere does not come back for ever."""
    backprop.script(script)
    _slurm(backprop, 2.0 + MARGIN_S + 3 * backprop.start_s, state=state)
    ran = backprop("run", "train.py", "--requeue")
    assert ran.returncode == 124
    assert said in ran.stderr
    assert not (backprop.folder / "asked").exists()


def test_a_job_that_is_warned_before_its_first_step_comes_back_but_not_for_ever(
    backprop: CommandLine,
) -> None:
    """That it has made no progress is not its fault: it is requeued; the third time in a row it is not, which is said."""
    backprop.script("import time; from pathlib import Path; Path('up').touch(); time.sleep(600)")
    _slurm(backprop, 600.0)
    up, asked = backprop.folder / "up", backprop.folder / "asked"
    for time_in_row in (1, 2, 3):
        up.unlink(missing_ok=True)
        job = backprop.start("run", "train.py", "--requeue", "--grace", "20")
        wait_for(up.exists)
        job.send_signal(signal.SIGUSR1)
        _, said = job.communicate(timeout=120)
        assert job.returncode == 124, said
        requeued = min(time_in_row, 2)
        assert asked.read_text() == "requeue 7\n" * requeued, said
    assert "Job 7 is not requeued: 3 times in a row it was preempted before its first step." in said
    assert [one["outcome"] for one in backprop.record("slurm-7")["attempts"]] == ["preempted"] * 3


def test_what_slurm_refuses_is_said_with_what_to_do(backprop: CommandLine) -> None:
    """A job of an array has a run of its own; a requeue that is not allowed names the line that the script lacks."""
    backprop.script(STANDIN)
    _slurm(backprop, 2.0 + MARGIN_S + 3 * backprop.start_s, requeues=False)
    backprop.environment |= {"SLURM_ARRAY_JOB_ID": "5", "SLURM_ARRAY_TASK_ID": "2"}
    ran = backprop("run", "train.py", "--requeue")
    assert ran.returncode == 124
    assert "could not be requeued: Not allowed It needs '#SBATCH --requeue'" in ran.stderr
    assert backprop.record("slurm-5-2")["status"] == "timeboxed"
    del backprop.environment["SLURM_JOB_ID"]
    outside = backprop("run", "train.py", "--requeue")
    assert outside.returncode == 2
    assert "--requeue needs a SLURM job" in outside.stderr
