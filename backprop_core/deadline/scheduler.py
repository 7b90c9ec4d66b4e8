"""When the job that this process is part of will be ended by its scheduler.

SLURM says it to a job in `SLURM_JOB_END_TIME` (seconds since 1970, see sbatch's manual page under OUTPUT ENVIRONMENT
VARIABLES). Version 22.05, which Debian 12 has, does not; there `squeue` is asked, whose `%e` is local time.
"""

from __future__ import annotations

import math
import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from backprop_core import contract
from backprop_core.clock import Clock, local_text

MARGIN_S = 3.0
"""What a governor needs between the end of its script and that of the job, to write down how it ended."""
_TIMEOUT_S = 10.0


@dataclass(frozen=True, slots=True)
class JobEnd:
    """An instant in seconds since 1970, and who said so."""

    wall: float
    source: str

    def at(self, clock: Clock) -> float:
        """The same on the monotonic clock."""
        return clock.monotonic() + self.wall - clock.wall()

    @property
    def text(self) -> str:
        """For people: the source and the instant in local time."""
        return f"{self.source} ({local_text(datetime.fromtimestamp(self.wall, tz=UTC).timestamp())})"


def job_end(environ: Mapping[str, str] = os.environ) -> JobEnd | None:
    """The end of this process's job; None outside of one, or where nobody tells it."""
    said = _number(environ.get("SLURM_JOB_END_TIME"))
    if said is not None:
        return JobEnd(said, "SLURM_JOB_END_TIME")
    job = environ.get("SLURM_JOB_ID", "")
    return _from_squeue(job, environ) if job.isascii() and job.isdigit() else None


def with_job_end(environ: Mapping[str, str]) -> Mapping[str, str]:
    """`environ` with the end of the job in `BACKPROP_JOB_END_WALL`, where only the scheduler itself could tell it.

    Of several ranks the first one asks: thousands of questions at once would hurt a scheduler, and all leave with the first.
    """
    known = any(environ.get(name) for name in (contract.JOB_END_WALL, contract.RUN_DIR, "SLURM_JOB_END_TIME"))
    if (
        known
        or not environ.get("SLURM_JOB_ID")
        or environ.get("RANK", environ.get("SLURM_PROCID", "0")) != "0"
    ):
        return environ
    job = job_end(environ)
    if job is None:
        return environ
    return {**environ, contract.JOB_END_WALL: repr(job.wall), contract.JOB_END_SOURCE: job.source}


def _from_squeue(job: str, environ: Mapping[str, str]) -> JobEnd | None:
    argv = ["squeue", "-h", "-j", job, "-o", "%e"]
    try:
        answer = subprocess.run(
            argv,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_TIMEOUT_S,
            check=True,
            env={**environ, "SLURM_TIME_FORMAT": "standard"},
        )
        wall = datetime.fromisoformat(answer.stdout.strip()).astimezone().timestamp()
    except (OSError, subprocess.SubprocessError, ValueError):  # not installed, no such job, "N/A", no limit
        return None
    return JobEnd(wall, f"the end of SLURM job {job}")


def _number(text: str | None) -> float | None:
    try:
        value = float(text or "")
    except ValueError:
        return None
    return value if math.isfinite(value) else None
