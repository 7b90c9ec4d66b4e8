"""When the job that this process is part of will be ended by its scheduler.

Who says it: the user in `BACKPROP_DEADLINE`; SLURM in `SLURM_JOB_END_TIME` (seconds since 1970, see sbatch's manual page
under OUTPUT ENVIRONMENT VARIABLES), which version 22.05 of Debian 12 does not set; else the scheduler is asked: `squeue`,
PBS' `qstat`, LSF's `bjobs`, `flux`. A limit that an administrator changes is known at the next question.
"""

from __future__ import annotations

import json
import math
import os
import re
import subprocess
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime

from backprop_core import contract
from backprop_core.clock import SYSTEM, Clock, local_text
from backprop_core.errors import BudgetError
from backprop_core.launched_rank import launched_rank
from backprop_core.quick_dataclass import dataclass

MARGIN_S = 3.0
"""What a governor needs between the end of its script and that of the job, to write down how it ended."""
_TIMEOUT_S = 10.0
_ID = "{job}"
_DURATION = re.compile(r"(?:(\d+)-)?(?:(\d+):)?(\d+):(\d+)")


@dataclass(frozen=True, slots=True)
class JobEnd:
    """An instant in seconds since 1970, and who said so.

    Attributes:
        can_move: a scheduler can be asked again, and may tell another.
        in_minutes: it is told in whole minutes from the moment of the question.
    """

    wall: float
    source: str
    can_move: bool = False
    in_minutes: bool = False

    def at(self, clock: Clock) -> float:
        """The same on the monotonic clock."""
        return clock.monotonic() + self.wall - clock.wall()

    @property
    def text(self) -> str:
        """For people: the source and the instant in local time."""
        return f"{self.source} ({local_text(datetime.fromtimestamp(self.wall, tz=UTC).timestamp())})"


@dataclass(frozen=True, slots=True)
class Scheduler:
    """How one scheduler is asked for a job's end.

    Attributes:
        name: for people.
        variable: of the environment; it holds the job's id.
        question: the command, with `_ID` where the id stands.
        answer: its output as seconds since 1970, given what the clock says now; ValueError, KeyError or TypeError where it
            tells no end.
        in_minutes: that is so only to the minute.
        task: given the environment, the id of this task of an array of jobs, for which `variable` names all of them; else
            empty.
    """

    name: str
    variable: str
    question: Sequence[str]
    answer: Callable[[str, float], float]
    in_minutes: bool = False
    task: Callable[[Mapping[str, str]], str] = lambda environ: ""


def slurm_task(environ: Mapping[str, str]) -> str:
    """`12_3` for a task of an array, else empty. The last task has the array's own id, by which SLURM means all of them."""
    array, task = environ.get("SLURM_ARRAY_JOB_ID", ""), environ.get("SLURM_ARRAY_TASK_ID", "")
    return f"{array}_{task}" if array and task else ""


def _lsf_task(environ: Mapping[str, str]) -> str:
    job, index = environ.get("LSB_JOBID", ""), environ.get("LSB_JOBINDEX", "0")
    return f"{job}[{index}]" if index not in ("", "0") else ""


def _of_squeue(text: str, now: float) -> float:
    ends = [
        datetime.fromisoformat(line) for line in text.split()
    ]  # several for the parts of a heterogeneous job
    return min(ends).astimezone().timestamp()


def _of_qstat(text: str, now: float) -> float:
    (job,) = json.loads(text)["Jobs"].values()
    return float(job["stime_epoch"] if "stime_epoch" in job else _date(job["stime"])) + _duration(
        job["Resource_List"]["walltime"]
    )


def _of_bjobs(text: str, now: float) -> float:
    return now + _duration(text.split(maxsplit=1)[0] + ":00")  # hours and minutes that are left


def _of_flux(text: str, now: float) -> float:
    return now + float(text.strip())


SCHEDULERS = (
    Scheduler("SLURM", "SLURM_JOB_ID", ("squeue", "-h", "-j", _ID, "-o", "%e"), _of_squeue, task=slurm_task),
    Scheduler("PBS", "PBS_JOBID", ("qstat", "-f", "-F", "json", _ID), _of_qstat),
    Scheduler("LSF", "LSB_JOBID", ("bjobs", "-noheader", "-o", "time_left", _ID), _of_bjobs, True, _lsf_task),
    Scheduler("Flux", "FLUX_JOB_ID", ("flux", "job", "timeleft", _ID), _of_flux),
)


def job_end(environ: Mapping[str, str] = os.environ, *, again: bool = False) -> JobEnd | None:
    """The end of this process's job; None outside of one, or where nobody tells it.

    Args:
        environ: of the process.
        again: it may have been changed since the job began, so the scheduler is asked although the environment tells it.

    Raises:
        BudgetError: `BACKPROP_DEADLINE` is no instant.
    """
    named = environ.get(contract.DEADLINE)
    if named:
        return JobEnd(_instant(named), contract.DEADLINE)
    said = _number(environ.get("SLURM_JOB_END_TIME"))
    asked = asked_scheduler(environ) if said is None or again else None
    return JobEnd(said, "SLURM_JOB_END_TIME", True) if asked is None and said is not None else asked


def with_job_end(environ: Mapping[str, str]) -> Mapping[str, str]:
    """`environ` with the end of the job in `BACKPROP_JOB_END_WALL`, where only the scheduler itself could tell it.

    Of several ranks the first one asks: thousands of questions at once would hurt a scheduler, and all leave with the first.
    """
    known = (contract.JOB_END_WALL, contract.RUN_DIR, "SLURM_JOB_END_TIME")
    rank = launched_rank(environ)
    first = environ.get("SLURM_PROCID", "0") == "0" if rank is None else rank == 0
    if any(map(environ.get, known)) or not first:
        return environ
    job = job_end(environ)
    if job is None:
        return environ
    return {**environ, contract.JOB_END_WALL: repr(job.wall), contract.JOB_END_SOURCE: job.source}


def asked_scheduler(environ: Mapping[str, str] = os.environ) -> JobEnd | None:
    """The end of this process's job as its scheduler tells it now; None where it does not. Takes up to 10 s."""
    for one in SCHEDULERS:
        job = environ.get(one.variable, "") and (one.task(environ) or environ[one.variable])
        if not job or not re.fullmatch(r"[\w.\[\]-]+", job) or job.startswith("-"):
            continue
        try:
            told = subprocess.run(
                [job if word == _ID else word for word in one.question],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=_TIMEOUT_S,
                check=True,
                env={**environ, "SLURM_TIME_FORMAT": "standard"},
            )
            wall = one.answer(told.stdout, SYSTEM.wall())
        except (OSError, subprocess.SubprocessError, ValueError, KeyError, TypeError, IndexError):
            continue  # not installed, no such job, "N/A", no limit
        if math.isfinite(wall):
            return JobEnd(wall, f"the end of {one.name} job {job}", True, one.in_minutes)
    return None


def _instant(text: str) -> float:
    """Seconds since 1970 of `BACKPROP_DEADLINE`."""
    number = _number(text)
    if number is not None:
        return number
    try:
        found = datetime.fromisoformat(text.strip())
    except ValueError:
        found = None
    if found is None or found.tzinfo is None:
        raise BudgetError(
            f"{contract.DEADLINE}={text!r} is not a point in time.",
            'Give seconds since 1970 ("date -d ... +%s") or a time with its zone, such as 2026-11-29T18:00:00+01:00.',
        )
    return found.timestamp()


def _duration(text: str) -> float:
    """Seconds of `[days-][hours:]minutes:seconds`."""
    found = _DURATION.fullmatch(str(text).strip())
    if found is None:
        raise ValueError(text)
    days, hours, minutes, seconds = (int(part or 0) for part in found.groups())
    return ((days * 24.0 + hours) * 60 + minutes) * 60 + seconds


def _date(text: str) -> float:
    """Seconds since 1970 of a date as `ctime` writes it, or of a number."""
    number = _number(str(text))
    if number is not None:
        return number
    return datetime.strptime(str(text).strip(), "%a %b %d %H:%M:%S %Y").astimezone().timestamp()


def _number(text: str | None) -> float | None:
    try:
        value = float(text or "")
    except ValueError:
        return None
    return value if math.isfinite(value) else None
