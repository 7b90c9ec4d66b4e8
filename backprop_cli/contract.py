"""What a script under `backprop run` is told through its environment: the variables that the session inside it reads."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from backprop_core import contract
from backprop_core.clock import Clock
from backprop_core.config.options import TRAINING
from backprop_core.config.sources import Settings
from backprop_core.deadline.scheduler import MARGIN_S, JobEnd
from backprop_core.quick_dataclass import dataclass
from backprop_core.resources.gpu_limit import limit_environ
from backprop_core.resources.samples import GpuSample
from backprop_core.runs.process import boot_id
from backprop_core.runs.seed import hash_seed, random_seed
from backprop_startup.path_entry import put_in_front


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
        total: seconds of `--total`, and the instant on the monotonic clock at which they are over; None without it.
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
    total: tuple[float, float] | None = None

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
        seed = "" if settings["framework"] == "none" else random_seed(self.run_dir)
        ours: dict[str, str | None] = {
            contract.HOME: str(self.home),
            contract.RUN_ID: self.run_id,
            contract.RUN_DIR: str(self.run_dir),
            contract.ATTEMPT: str(self.attempt),
            contract.DEADLINE_MONOTONIC: repr(self.deadline),
            contract.BOOT_ID: boot_id(),
            contract.DEADLINE_WALL: repr(clock.wall() + self.deadline - clock.monotonic()),
            contract.JOB_END_WALL: None if self.job is None else repr(self.job.wall - MARGIN_S),
            contract.JOB_END_SOURCE: None if self.job is None else f"{MARGIN_S:g} s before {self.job.source}",
            contract.BUDGET_S: repr(self.budget_s),
            contract.BUDGET_FROM_TRAINING: "1" if settings["budget-from"] == TRAINING else None,
            contract.TOTAL_S: None if self.total is None else repr(self.total[0]),
            contract.TOTAL_UNTIL_WALL: (
                None if self.total is None else repr(clock.wall() + self.total[1] - clock.monotonic())
            ),
            contract.REPLAY_SCHEDULE: settings["replay-schedule"],
            contract.GRACE_S: repr(settings["grace"]),
            contract.STRICT: "1" if settings["strict"] else None,
            contract.CHECKPOINT_EVERY_S: None if every is None else repr(every * 60.0),
            contract.RESUME: "1" if self.start.resume else None,
            contract.SCRIPT_RESUMES: "1" if self.start.script_resumes else None,
            contract.RESUME_FROM: self.start.resume_from,
            contract.CHECKPOINT_DIR: self.checkpoint_dir,
            contract.GOVERNOR_PID: str(os.getpid()),
            contract.ATTACH: settings["framework"],
            contract.GPU_MEMORY_LIMIT: limit,
            contract.NO_REWRITE: "1" if settings["rewrite"] == "none" else None,
            contract.RANDOM_SEED: seed or None,
            contract.KEEP_FILES: "1" if settings["keep-files"] else None,
            contract.REWRITE_PACKAGES: self._packages(settings),
        }
        environment = {**script_environment(base, ours), **granted}
        if seed:
            environment.setdefault("PYTHONHASHSEED", hash_seed(seed))
        environment |= limit_environ(limit, gpus, environment)
        if settings["framework"] != "none" or limit is not None:
            put_in_front(environment)
        return environment


def _module_of(argv: Sequence[str]) -> str:
    """The package of `python -m MODULE`, or nothing."""
    return argv[2].partition(".")[0] if list(argv[1:2]) == ["-m"] and len(argv) > 2 else ""


def script_environment(base: Mapping[str, str], ours: Mapping[str, str | None]) -> dict[str, str]:
    """An environment with our variables in it, and none that is left over from a governor around this one."""
    environment = {key: value for key, value in base.items() if key not in contract.OF_ONE_ATTEMPT}
    environment.update({key: value for key, value in ours.items() if value is not None})
    return environment
