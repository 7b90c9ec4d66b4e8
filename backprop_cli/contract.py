"""What a script under `backprop run` is told through its environment: the variables that the session inside it reads."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from backprop_core.clock import Clock
from backprop_core.config.sources import Settings
from backprop_core.deadline.scheduler import MARGIN_S, JobEnd
from backprop_core.resources.gpu_limit import limit_environ
from backprop_core.resources.samples import GpuSample
from backprop_core.runs.process import boot_id
from backprop_startup.path_entry import put_in_front

_OURS = (
    "HOME RUN_ID RUN_DIR ATTEMPT DEADLINE_MONOTONIC BOOT_ID DEADLINE_WALL BUDGET_S GRACE_S "
    "CHECKPOINT_EVERY_S RESUME RESUME_FROM CHECKPOINT_DIR GOVERNOR_PID FRAMEWORK "
    "GPU_MEMORY_LIMIT GPU_MEMORY_TOTAL SCRIPT_RESUMES JOB_END_WALL JOB_END_SOURCE STRICT "
    "NO_REWRITE REWRITE_PACKAGES"
)
CONTRACT_VARIABLES = tuple(f"BACKPROP_{name}" for name in _OURS.split())
"""What a script is told; none of it is passed on from a governor around this one."""


@dataclass(frozen=True, slots=True)
class Start:
    """How an attempt begins.

    Args:
        argv: the whole command of the script.
        resume: continue from what the run has saved.
        resume_from: a checkpoint named by the user, or the newest that is not in the run's own store; or
            None.
        checkpoint: where the attempt goes on, for people; None for the beginning.
        script_resumes: the script is handed a checkpoint of its own, so a session it did not ask for restores nothing.
    """

    argv: Sequence[str]
    resume: bool = False
    resume_from: str | None = None
    checkpoint: str | None = None
    script_resumes: bool = False


@dataclass(frozen=True, slots=True)
class Contract:
    """One attempt as its script has to know it.

    Args:
        run_id, home, run_dir, checkpoint_dir, attempt: where it is kept.
        start: how it begins.
        deadline: instant on the monotonic clock.
        budget_s: seconds from its beginning to the deadline.
        job: when the scheduler will end all of it, which no pause puts off; or None.
    """

    run_id: str
    home: Path
    run_dir: Path
    checkpoint_dir: str
    attempt: int
    start: Start
    deadline: float
    budget_s: float
    job: JobEnd | None = None

    def _packages(self, settings: Settings) -> str | None:
        """Installed packages whose loops are counted: those that the user named, and that of the module that is run."""
        named = "" if settings["rewrite"] in (None, "none") else settings["rewrite"]
        return ",".join(name for name in (named, _module_of(self.start.argv)) if name) or None

    def environment(
        self,
        base: Mapping[str, str],
        settings: Settings,
        granted: Mapping[str, str],
        gpus: Sequence[GpuSample],
        clock: Clock,
    ) -> dict[str, str]:
        """The script's environment: `base`, with what the session inside needs to know.

        Args:
            granted: variables that give it its GPUs.
            gpus: those GPUs, for `-g`.
        """
        every, limit = settings["checkpoint-every-minutes"], settings["gpu-memory-limit"]
        ours: dict[str, str | None] = {
            "BACKPROP_HOME": str(self.home),
            "BACKPROP_RUN_ID": self.run_id,
            "BACKPROP_RUN_DIR": str(self.run_dir),
            "BACKPROP_ATTEMPT": str(self.attempt),
            "BACKPROP_DEADLINE_MONOTONIC": repr(self.deadline),
            "BACKPROP_BOOT_ID": boot_id(),
            "BACKPROP_DEADLINE_WALL": repr(clock.wall() + self.deadline - clock.monotonic()),
            "BACKPROP_JOB_END_WALL": None if self.job is None else repr(self.job.wall - MARGIN_S),
            "BACKPROP_JOB_END_SOURCE": None
            if self.job is None
            else f"{MARGIN_S:g} s before {self.job.source}",
            "BACKPROP_BUDGET_S": repr(self.budget_s),
            "BACKPROP_GRACE_S": repr(settings["grace"]),
            "BACKPROP_STRICT": "1" if settings["strict"] else None,
            "BACKPROP_CHECKPOINT_EVERY_S": None if every is None else repr(every * 60.0),
            "BACKPROP_RESUME": "1" if self.start.resume else None,
            "BACKPROP_SCRIPT_RESUMES": "1" if self.start.script_resumes else None,
            "BACKPROP_RESUME_FROM": self.start.resume_from,
            "BACKPROP_CHECKPOINT_DIR": self.checkpoint_dir,
            "BACKPROP_GOVERNOR_PID": str(os.getpid()),
            "BACKPROP_FRAMEWORK": settings["framework"],
            "BACKPROP_GPU_MEMORY_LIMIT": limit,
            "BACKPROP_NO_REWRITE": "1" if settings["rewrite"] == "none" else None,
            "BACKPROP_REWRITE_PACKAGES": self._packages(settings),
        }
        environment = {**script_environment(base, ours), **granted}
        environment |= limit_environ(limit, gpus, environment)
        if settings["framework"] != "none" or limit is not None:
            put_in_front(environment)
        return environment


def _module_of(argv: Sequence[str]) -> str:
    """The package of `python -m MODULE`, or nothing."""
    return argv[2].partition(".")[0] if list(argv[1:2]) == ["-m"] and len(argv) > 2 else ""


def script_environment(base: Mapping[str, str], ours: Mapping[str, str | None]) -> dict[str, str]:
    """An environment with our variables in it, and none that is left over from a governor around this one."""
    environment = {key: value for key, value in base.items() if key not in CONTRACT_VARIABLES}
    environment.update({key: value for key, value in ours.items() if value is not None})
    return environment
