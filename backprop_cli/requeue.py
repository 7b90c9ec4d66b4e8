"""`--requeue`: a job under SLURM that trains for longer than one job may last, from one requeue to the next.

The same line runs in the first job and in each that follows: it starts the run or continues it, trains until the job ends or
is warned, and puts the job into the queue again as long as that gains something.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from dataclasses import replace

from backprop_core.config.options import YEAR_MIN
from backprop_core.config.sources import Setting, Settings
from backprop_core.deadline.scheduler import slurm_task
from backprop_core.errors import UsageError
from backprop_core.governor.order import Observer
from backprop_core.governor.verdict import EXIT_NOTHING_TO_RESUME, EXIT_UNFINISHED, Verdict
from backprop_core.outcome import Outcome
from backprop_core.quick_dataclass import dataclass
from backprop_core.runs.record import RunRecord

_TIMEOUT_S = 60.0
_ENDS = frozenset({Outcome.TIMEBOXED, Outcome.PREEMPTED})
"""What the next job goes on from. Whoever stops a run himself does not want it back."""
_IN_VAIN_IN_A_ROW = 3
"""A job that is warned before its first step may have been started on a busy machine; one that always is would come back
for ever."""


@dataclass(frozen=True, slots=True)
class SlurmJob:
    """The job that this process is part of.

    Attributes:
        number: what SLURM calls this job alone: `12`, or `12_3` for a task of an array.
        run_id: what its run is called where the user names none: the same after each requeue.
    """

    number: str
    run_id: str

    @staticmethod
    def of_process(environ: Mapping[str, str] = os.environ) -> SlurmJob:
        """Raises UsageError outside of a SLURM job."""
        number = environ.get("SLURM_JOB_ID", "")
        if not (number.isascii() and number.isdigit()):
            raise UsageError(
                "--requeue needs a SLURM job, and SLURM_JOB_ID is not set.",
                "Use it in a script for sbatch. Other schedulers requeue by exit status: 'backprop docs scale'.",
            )
        number = slurm_task(environ) or number
        return SlurmJob(number, f"slurm-{number.replace('_', '-')}")

    def wants_back(self, verdict: Verdict) -> bool:
        """Whether a box that ended so is to be followed by another job."""
        return verdict.outcome in _ENDS

    def after(
        self, verdict: Verdict, *, gained: bool, in_vain: int, how_to_go_on: str, observer: Observer
    ) -> Verdict:
        """Requeue the job where the run is to go on; the verdict with the status that says what became of it.

        Args:
            verdict: how the last box ended.
            gained: this job has brought the training further.
            in_vain: so many of the run's last attempts, this one included, were preempted before their first step.
            how_to_go_on: a sentence for where the job does not come back.
            observer: who is told.
        """
        if not self.wants_back(verdict):
            return verdict
        if not gained and not 0 < in_vain < _IN_VAIN_IN_A_ROW:
            why = "it made no progress, and the next would not either"
            if in_vain:
                why = f"{in_vain} times in a row it was preempted before its first step"
            elif verdict.exit_status == EXIT_NOTHING_TO_RESUME:
                why = "it left nothing to resume from"
            observer.say(f"Job {self.number} is not requeued: {why}. {how_to_go_on}".rstrip())
            return replace(verdict, exit_status=EXIT_UNFINISHED)
        verdict = replace(verdict, exit_status=EXIT_UNFINISHED)
        state = _said_by("squeue", "-h", "-j", self.number, "-o", "%T")
        if state.ok and state.text not in ("RUNNING", "SUSPENDED"):  # cancelled, or SLURM itself requeues it
            observer.say(f"Job {self.number} is {state.text or 'gone'}, so it is not requeued from here.")
            return verdict
        done = _said_by("scontrol", "requeue", self.number)
        if done.ok:
            observer.say(f"Job {self.number} was requeued and continues there.")
        else:
            observer.say(
                f"Job {self.number} could not be requeued: {done.text} It needs '#SBATCH --requeue', or submit the same "
                "script again with the same --run-id."
            )
        return verdict


def preempted_in_vain(record: RunRecord) -> int:
    """How many of the run's last attempts, in a row, a scheduler ended before their first step."""
    count = 0
    for attempt in reversed(record.attempts):
        if attempt.outcome is not Outcome.PREEMPTED or attempt.steps:
            break
        count += 1
    return count


def as_long_as_the_job(settings: Settings) -> Settings:
    """Settings whose box lasts until the job ends, unless the user has named a length."""
    if settings.by_name["max-run-minutes"].origin != "default":
        return settings
    whole = Setting(YEAR_MIN, "default")
    return Settings({**settings.by_name, "max-run-minutes": whole})


@dataclass(frozen=True, slots=True)
class _Answer:
    ok: bool
    text: str


def _said_by(*argv: str) -> _Answer:
    try:
        told = subprocess.run(
            argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False
        )
    except (OSError, subprocess.SubprocessError) as error:
        return _Answer(False, f"{type(error).__name__}: {error}.")
    text = (told.stdout if told.returncode == 0 else told.stderr or told.stdout).strip()
    return _Answer(told.returncode == 0, " ".join(text.split()))
