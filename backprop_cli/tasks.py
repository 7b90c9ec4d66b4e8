"""Several governors of one run: `srun backprop run train.py` starts one for each task, on each node.

The first task's governor is the run's. It tells the others, through a file in `$BACKPROP_HOME`, which attempt has begun,
what the script has to know, and how much time is left; it holds no instant of a clock, because clocks of hosts differ. The
others start their own script in the same attempt, pass signals on, end it in time, and tidy up on their own host.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, field
from pathlib import Path
from typing import Any

from backprop_core import contract
from backprop_core.errors import StoreError
from backprop_core.quick_dataclass import dataclass
from backprop_core.runs.atomic import replace_file
from backprop_core.strict_json import as_float, as_object, as_text, as_whole

_FOLDER = "tasks"
_LARGEST_BYTES = 1 << 20
_TELL_AGAIN_S = 0.5
"""A deadline that has moved by less is not worth a word."""


@dataclass(frozen=True, slots=True)
class Task:
    """One of several tasks that a launcher has started with the same command.

    Attributes:
        name: of the step they belong to, for people; unique among all steps, requeued ones included.
        rank: which of them this process is, from 0.
        count: how many there are.
    """

    name: str
    rank: int
    count: int

    @staticmethod
    def of_process(environ: Mapping[str, str] = os.environ) -> Task | None:
        """This process's task; None where it is alone, or runs inside a script of ours."""
        if environ.get(contract.RUN_DIR):
            return None
        for name, rank, count in (_of_srun(environ), _of_mpirun(environ)):
            if name and rank.isdecimal() and count.isdecimal() and int(count) > 1:
                return Task(re.sub(r"[^A-Za-z0-9_.-]", "_", name)[:100], int(rank), int(count))
        return None

    def file(self, home: Path) -> Path:
        """Where the first task leaves word for the others."""
        return home / _FOLDER / f"{self.name}.json"


def _of_srun(environ: Mapping[str, str]) -> tuple[str, str, str]:
    job, step = environ.get("SLURM_JOB_ID", ""), environ.get("SLURM_STEP_ID", "")
    name = f"slurm-{job}.{step}.{environ.get('SLURM_RESTART_COUNT', '0')}" if job and step else ""
    return name, environ.get("SLURM_PROCID", ""), environ.get("SLURM_STEP_NUM_TASKS", "")


def _of_mpirun(environ: Mapping[str, str]) -> tuple[str, str, str]:
    job = environ.get("PMIX_NAMESPACE", "")
    return (
        f"mpi-{job}" if job else "",
        environ.get("OMPI_COMM_WORLD_RANK", ""),
        environ.get("OMPI_COMM_WORLD_SIZE", ""),
    )


@dataclass(frozen=True, slots=True)
class Word:
    """What the first task tells.

    Attributes:
        run_id, attempt, attempt_dir: what runs.
        budget_s: seconds that the attempt was given.
        left_s: seconds to its deadline when this was written; None while it is paused.
        told: the variables that a script is told.
        status: the exit status with which the first task has ended; None while it runs.
    """

    run_id: str
    attempt: int
    attempt_dir: str
    budget_s: float
    left_s: float | None
    told: Mapping[str, str] = field(default_factory=dict)
    status: int | None = None

    @staticmethod
    def read(path: Path) -> Word | None:
        """The newest; None where there is none that can be read."""
        try:
            with path.open("rb") as file:
                text = json.loads(file.read(_LARGEST_BYTES))
        except (OSError, ValueError):
            return None
        entries: Mapping[str, Any] = as_object(text)
        run_id, attempt, folder = (
            as_text(entries.get("run_id")),
            as_whole(entries.get("attempt")),
            entries.get("attempt_dir"),
        )
        if run_id is None or attempt is None or not isinstance(folder, str):
            return None
        told = {str(key): str(value) for key, value in as_object(entries.get("told")).items()}
        return Word(
            run_id,
            attempt,
            folder,
            as_float(entries.get("budget_s")) or 0.0,
            as_float(entries.get("left_s")),
            {key: value for key, value in told.items() if key in contract.OF_ONE_ATTEMPT},
            as_whole(entries.get("status")),
        )


class FirstTask:
    """The run's own governor tells the others how things stand. A file that cannot be written costs the run nothing."""

    def __init__(self, task: Task, home: Path) -> None:
        self._path = task.file(home)
        self._word: Word | None = None
        self._deadline: float | None = None

    def attempt_begins(self, word: Word, deadline: float) -> None:
        """An attempt begins; `deadline` is on this host's monotonic clock."""
        self._deadline = deadline
        self._write(word)

    def look(self, now: float, deadline: float) -> None:
        """Tell where the deadline has moved; infinity means that the run is paused."""
        word = self._word
        known = self._deadline
        if word is None or known is None or abs(deadline - known) < _TELL_AGAIN_S or deadline == known:
            return
        self._deadline = deadline
        left_s = None if deadline == float("inf") else deadline - now
        self._write(Word(word.run_id, word.attempt, word.attempt_dir, word.budget_s, left_s, word.told))

    def ended(self, status: int) -> None:
        """This task ends, and no further attempt begins."""
        word = self._word
        if word is not None:
            self._write(Word(word.run_id, word.attempt, word.attempt_dir, word.budget_s, 0.0, {}, status))

    def _write(self, word: Word) -> None:
        self._word = word
        with suppress(OSError, StoreError):
            self._path.parent.mkdir(mode=0o700, exist_ok=True)
            replace_file(self._path, json.dumps(asdict(word)).encode(), mode=0o600, lasting=False)
