"""The end of a scheduler's job is a deadline for every script, and for the whole of a chain."""

from __future__ import annotations

import os
import time
from datetime import datetime
from pathlib import Path

import pytest

from backprop_core.deadline.scheduler import MARGIN_S, job_end, with_job_end
from tests.backprop_cli.commandline import CommandLine, end, wait_for
from tests.backprop_cli.sessions import STANDIN

PLAIN = "import time\nopen('began', 'a').write('x')\ntime.sleep(600)\n"


def _job_that_ends(backprop: CommandLine, in_s: float, how: str) -> float:
    """Put the command into a job; the end of that in seconds since 1970."""
    wall = float(int(time.time() + in_s))
    backprop.environment["SLURM_JOB_ID"] = "7"
    if how == "variable":
        backprop.environment["SLURM_JOB_END_TIME"] = str(int(wall))
    else:
        tools = backprop.folder / "bin"
        tools.mkdir()
        text = datetime.fromtimestamp(wall).isoformat()
        (tools / "squeue").write_text(f"#!/bin/sh\n[ \"$*\" = '-h -j 7 -o %e' ] && echo {text}\n")
        (tools / "squeue").chmod(0o755)
        backprop.environment["PATH"] = f"{tools}:{backprop.environment['PATH']}"
    return wall


@pytest.mark.parametrize("how", ["variable", "squeue"])
@pytest.mark.parametrize("script", [PLAIN, STANDIN], ids=["plain", "session"])
def test_everything_is_over_before_the_job_is(backprop: CommandLine, how: str, script: str) -> None:
    """A chain of long boxes ends before the job, begins no box behind it, and says what set the end."""
    backprop.script(script)
    backprop.environment["STANDIN_STEPS"] = "100000"
    wall = _job_that_ends(backprop, 5.0 + MARGIN_S + 3 * backprop.start_s, how)
    ran = backprop("run", "train.py", "-m", "5", "--until-done", "--total", "1h", "--run-id", "job")
    (attempt,) = backprop.record("job")["attempts"]
    assert attempt["ended_wall"] < wall
    assert attempt["outcome"] == "timeboxed"
    assert ran.returncode == 124
    source = "SLURM_JOB_END_TIME" if how == "variable" else "the end of SLURM job 7"
    assert f"set by {source}" in ran.stderr
    if script is STANDIN:
        assert "No further box starts before" in ran.stderr


def test_a_job_that_is_about_to_end_starts_nothing(backprop: CommandLine) -> None:
    """Status 75, and no run is left; an end that has passed long ago is another job's and counts nothing."""
    backprop.script(PLAIN)
    _job_that_ends(backprop, MARGIN_S, "variable")
    assert backprop("run", "train.py").returncode == 75
    assert backprop.runs() == []
    backprop.environment["SLURM_JOB_END_TIME"] = "1000"
    assert backprop("run", "train.py", "-m", "0.02").returncode == 124


def test_no_extension_reaches_beyond_the_job(backprop: CommandLine) -> None:
    """`extend` gives what there is, and says so."""
    backprop.script(PLAIN)
    box = backprop.box(4.0)
    wall = _job_that_ends(backprop, 8.0 + MARGIN_S + 3 * backprop.start_s, "variable")
    process = backprop.start("run", "train.py", "-m", box, "--run-id", "ext")
    try:
        wait_for((backprop.folder / "began").exists)
        assert backprop("extend", "ext", "1h").returncode == 0
        _, err = process.communicate(timeout=60)
    finally:
        end(process)
    assert "to the end of the scheduler's job" in err
    assert backprop.record("ext")["attempts"][0]["ended_wall"] < wall


def test_what_is_no_end_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Outside of a job, without squeue, and where it tells no time; only the first rank asks."""
    monkeypatch.setenv("PATH", str(tmp_path))
    assert job_end({}) is None
    assert job_end({"SLURM_JOB_ID": "7"}) is None
    assert job_end({"SLURM_JOB_ID": "; rm"}) is None
    tool = tmp_path / "squeue"
    tool.write_text("#!/bin/sh\necho N/A\n")
    tool.chmod(0o755)
    assert job_end({"SLURM_JOB_ID": "7", "PATH": str(tmp_path)}) is None
    tool.write_text("#!/bin/sh\necho 2030-01-01T00:00:00\n")
    found = with_job_end({"SLURM_JOB_ID": "7", "PATH": str(tmp_path)})
    assert float(found["BACKPROP_JOB_END_WALL"]) == datetime(2030, 1, 1).timestamp()
    assert "BACKPROP_JOB_END_WALL" not in with_job_end({"SLURM_JOB_ID": "7", "RANK": "1"})


@pytest.mark.parametrize(
    ("variable", "tool", "answer", "left_s"),
    [
        (
            "PBS_JOBID",
            "qstat",
            '{"Jobs": {"7.pbs": {"stime": 1000, "Resource_List": {"walltime": "01:00:00"}}}}',
            3600,
        ),
        ("LSB_JOBID", "bjobs", "1:30 L", 5400),
        ("FLUX_JOB_ID", "flux", "120.5", 120.5),
    ],
)
def test_each_scheduler_is_asked_in_its_own_way(
    tmp_path: Path, variable: str, tool: str, answer: str, left_s: float
) -> None:
    """PBS tells start and wall time, LSF hours and minutes that are left, Flux seconds; what cannot be read is no end."""
    path = tmp_path / tool
    path.write_text(f"#!/bin/sh\nfor word; do :; done; [ \"$word\" = 7 ] && echo '{answer}'\n")
    path.chmod(0o755)
    began = 1000.0 if tool == "qstat" else time.time()
    found = job_end({variable: "7", "PATH": f"{tmp_path}:{os.environ['PATH']}"})
    assert found is not None
    assert found.source.endswith("job 7")
    assert left_s <= found.wall - began < left_s + 60
    path.write_text("#!/bin/sh\necho nothing of use\n")
    assert job_end({variable: "7", "PATH": f"{tmp_path}:{os.environ['PATH']}"}) is None


def test_a_deadline_that_the_user_names_holds_for_all(backprop: CommandLine) -> None:
    """BACKPROP_DEADLINE is an instant with its zone, or seconds since 1970; anything else is one sentence and status 2."""
    found = job_end({"BACKPROP_DEADLINE": "1970-01-01T01:00:10+01:00", "SLURM_JOB_END_TIME": "5"})
    assert found is not None
    assert found.wall == 10.0
    backprop.script(PLAIN)
    backprop.environment["BACKPROP_DEADLINE"] = str(time.time() + 4.0 + MARGIN_S + 2 * backprop.start_s)
    ran = backprop("run", "train.py", "-m", "5")
    assert ran.returncode == 124
    assert "set by BACKPROP_DEADLINE" in ran.stderr
    backprop.environment["BACKPROP_DEADLINE"] = "tomorrow"
    refused = backprop("run", "train.py")
    assert refused.returncode == 2
    assert "is not a point in time" in refused.stderr
    assert "Traceback" not in refused.stderr


@pytest.mark.parametrize(
    ("task", "tool", "asked", "others", "own"),
    [
        (
            {"SLURM_JOB_ID": "7", "SLURM_ARRAY_JOB_ID": "7", "SLURM_ARRAY_TASK_ID": "3"},
            "squeue",
            "7_3",
            "2030-01-01T00:00:00\n2030-01-01T01:00:00",
            "2030-01-01T02:00:00",
        ),
        ({"LSB_JOBID": "7", "LSB_JOBINDEX": "3"}, "bjobs", "7[3]", "1:00 L\n2:00 L", "3:00 L"),
    ],
    ids=["slurm", "lsf"],
)
def test_a_task_of_an_array_has_an_end_of_its_own(
    tmp_path: Path, task: dict[str, str], tool: str, asked: str, others: str, own: str
) -> None:
    """The variable of the job's id names all tasks of an array, or all but the last: the end of this one is asked for."""
    path = tmp_path / tool
    path.write_text(
        f'#!/bin/sh\ncase "$*" in *"{asked}"*) echo "{own}";; *) printf "%s\\n" "{others}";; esac\n'
    )
    path.chmod(0o755)
    found = job_end({**task, "PATH": f"{tmp_path}:{os.environ['PATH']}"})
    assert found is not None
    assert found.source.endswith(f"job {asked}")
    expected = (
        datetime(2030, 1, 1, 2).astimezone().timestamp() if tool == "squeue" else time.time() + 3 * 3600
    )
    assert abs(found.wall - expected) < 60
