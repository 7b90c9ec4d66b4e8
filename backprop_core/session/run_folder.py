"""Which folder a run's checkpoints lie in. Each checkpoint names its run, so a run is found by what is in its folder.

That is true where our home is another one than last time (Colab, a pod with a volume), where several runs were given one
folder, and where somebody has tidied by hand.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from backprop_core.checkpoints.manifest import CheckpointInfo
from backprop_core.checkpoints.store import CheckpointStore, open_store
from backprop_core.clock import Clock
from backprop_core.errors import UsageError, shown
from backprop_core.quick_dataclass import dataclass
from backprop_core.runs.atomic import write_error
from backprop_core.session.settings import SessionSettings


@dataclass(frozen=True, slots=True)
class RunFolder:
    """The folder of one run's checkpoints.

    Attributes:
        directory: a folder, or an address of an object store.
        checkpoints: the store in it.
        own: the run's checkpoints that are there, newest first.
        stranger: the run that the folder above this one belongs to, or empty.
    """

    directory: str
    checkpoints: CheckpointStore
    own: Sequence[CheckpointInfo]
    stranger: str = ""


def run_folder(directory: str, run_id: str, settings: SessionSettings, clock: Clock) -> RunFolder:
    """The folder of run `run_id` at `directory`, or below it where that holds other runs.

    Raises:
        CheckpointError: it cannot be listed.
        UsageError: an address that needs a library which is not installed, or a folder that cannot be made.
    """
    if settings.checkpoint_dir is not None and "://" not in directory:
        _make(directory)
    checkpoints = open_checkpoints(directory, settings, clock)
    present = checkpoints.list()
    own = [info for info in present if info.facts.run_id == run_id]
    if own:
        return RunFolder(directory, checkpoints, own)
    below = f"{directory.rstrip('/')}/{run_id}"
    checkpoints_below = open_checkpoints(below, settings, clock)
    own = [info for info in checkpoints_below.list() if info.facts.run_id == run_id]
    if own or present:
        stranger = present[0].facts.run_id if present else ""
        return RunFolder(below, checkpoints_below, own, stranger)
    return RunFolder(directory, checkpoints, own)


def _make(directory: str) -> None:
    """Make the folder that was asked for: whether that is possible is known now, and not at the first save."""
    try:
        Path(directory).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        what = "it is a file" if isinstance(error, FileExistsError) else error.strerror or str(error)
        raise UsageError(
            f"checkpoint_dir={shown(directory)} cannot be used: {what}.",
            "Give a folder that you can write to.",
        ) from error


def open_checkpoints(directory: str, settings: SessionSettings, clock: Clock) -> CheckpointStore:
    """The store at `directory`, which keeps what the user asked for."""
    return open_store(directory, clock=clock, keep=settings.keep, keep_every=settings.keep_every)


def box_folder(whole: RunFolder, box: int, run_id: str, settings: SessionSettings, clock: Clock) -> RunFolder:
    """Where the `box`-th training of a process has its checkpoints; the first has the run's folder itself."""
    if box == 1:
        return whole
    directory = f"{whole.directory.rstrip('/')}/box-{box}"
    checkpoints = open_checkpoints(directory, settings, clock)
    own = [info for info in checkpoints.list() if info.facts.run_id == run_id]
    return RunFolder(directory, checkpoints, own)


def set_aside(folder: RunFolder, number: int) -> Path:
    """Move the run's checkpoints, those of later trainings too, and nothing else, into a folder beside them; returns it.

    Args:
        number: of the attempt that begins afresh.

    Raises:
        UsageError: nothing can be moved in an object store.
        StoreError: the folder cannot be written.
    """
    if "://" in folder.directory:
        raise UsageError(
            f"{folder.directory} holds checkpoints of run {folder.own[0].facts.run_id}.",
            "Give another checkpoint_dir, or resume it.",
        )
    aside, again = Path(folder.directory, f"before-attempt-{number}"), 1
    while os.path.lexists(aside):
        again += 1
        aside = aside.with_name(f"before-attempt-{number}-{again}")
    try:
        aside.mkdir()
        later = [path for path in Path(folder.directory).glob("box-*") if path.name[4:].isdigit()]
        for path in (*(info.path for info in folder.own), *later):
            path.rename(aside / path.name)
    except OSError as error:
        raise write_error(aside, error) from error
    return aside


def moved(path: str, folder: RunFolder, aside: Path) -> str:
    """Where the checkpoint at `path` is after `set_aside`."""
    asked = Path(path).absolute()
    return next((str(aside / info.path.name) for info in folder.own if info.path == asked), path)
