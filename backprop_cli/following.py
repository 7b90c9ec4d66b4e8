"""Which part this command has where a launcher has started it several times: the first task's, or a follower's."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from backprop_core.clock import SYSTEM
from backprop_core.runs.home import backprop_home

if TYPE_CHECKING:
    from backprop_cli.tasks import FirstTask
    from backprop_core.config.sources import Settings

_COUNTS = ("SLURM_STEP_NUM_TASKS", "OMPI_COMM_WORLD_SIZE")


def follows() -> bool:
    """Whether this process is a task of several, and not the first."""
    if not any(map(os.environ.get, _COUNTS)):
        return False
    from backprop_cli.tasks import Task

    task = Task.of_process()
    return task is not None and task.rank > 0


def first_of_tasks(home: Path) -> FirstTask | None:
    """What tells the others, where this process is the first of several tasks."""
    if not any(map(os.environ.get, _COUNTS)):
        return None
    from backprop_cli.tasks import FirstTask, Task

    task = Task.of_process()
    return FirstTask(task, home) if task is not None and task.rank == 0 else None


def follow_first_task(argv: Sequence[str], cwd: str, settings: Settings, own_run: str | None) -> int | None:
    """Follow the first task to its end; the exit status. None where this process is alone, the first, or has its own run.

    Raises:
        UsageError: the first task's run was not found.
    """
    if not follows():
        return None
    from backprop_cli.display import Display
    from backprop_cli.follow import Follower
    from backprop_cli.tasks import Task

    task = Task.of_process()
    assert task is not None
    follower = Follower(task, backprop_home(), argv, cwd, settings, SYSTEM, Display(live=False))
    return follower.run(own_run)
