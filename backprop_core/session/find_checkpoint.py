"""Which checkpoint an attempt goes on from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from backprop_core import contract
from backprop_core.checkpoints.arrays import Translator
from backprop_core.checkpoints.manifest import CheckpointFacts
from backprop_core.checkpoints.store import Loaded, open_store
from backprop_core.clock import SYSTEM, Clock
from backprop_core.errors import BackpropError, UsageError
from backprop_core.session.enrolment import Enrolment
from backprop_core.session.run_folder import run_folder
from backprop_core.session.settings import SessionSettings

_WHAT_TO_GIVE = "Give a checkpoint's folder (step-...), or a folder of checkpoints."


def load_for(
    enrolment: Enrolment,
    translators: Sequence[Translator],
    warn: Callable[[str], None],
    suits: Callable[[CheckpointFacts], bool] = lambda facts: True,
) -> Loaded | None:
    """The checkpoint asked for by path, else the newest good one of a run that is resumed which `suits`, else None.

    Raises:
        UsageError: nothing is at the path that was asked for, or the run is completed and has no checkpoint left.
        CheckpointDamagedError: the one asked for by path is damaged; another was not asked for.
    """
    if enrolment.resume_from is not None:
        return load_path(enrolment.resume_from, translators, warn)
    if not enrolment.resuming:
        return None
    loaded = enrolment.checkpoints.load_newest(translators, told=warn, of_run=enrolment.run_id, suits=suits)
    if loaded is None and enrolment.box == 1:  # a later training of the process may not have been reached
        if enrolment.completed:
            raise UsageError(
                f"Run {enrolment.run_id} is already completed, and none of its checkpoints can be restored.",
                "Give another run=, or resume=False to start it from scratch.",
            )
        warn(f"Run {enrolment.run_id} has no checkpoint that can be restored, so it STARTS FROM SCRATCH.")
    return loaded


def newest_facts(settings: SessionSettings, clock: Clock) -> CheckpointFacts | None:
    """Of the checkpoint that a session under a governor would go on from, without opening one; None if it cannot be told."""
    environ = settings.environ
    asked = environ.get(contract.RESUME_FROM, "").rstrip("/")
    parent, _, name = asked.rpartition("/")
    try:
        if name.startswith("step-"):
            found = [info for info in open_store(parent or ".", clock=clock).list() if info.path.name == name]
        else:
            place = asked or environ.get(contract.CHECKPOINT_DIR, "")
            found = list(run_folder(place, environ.get(contract.RUN_ID, ""), settings, clock).own)
    except BackpropError:
        return None
    return found[0].facts if found else None


def load_path(path: str, translators: Sequence[Translator], warn: Callable[[str], None]) -> Loaded:
    """The checkpoint at `path`, a folder or an address that fsspec knows; the newest good one of those that it holds.

    Raises:
        UsageError: nothing is there.
        CheckpointDamagedError: the one that `path` names is damaged.
    """
    if "://" not in path and not _is_folder(path):
        raise UsageError(f"There is no checkpoint at {path[:200]}.", _WHAT_TO_GIVE)
    parent, _, name = path.rstrip("/").rpartition("/")
    if name.startswith("step-"):
        return open_store(parent or ".", clock=SYSTEM).load(Path(path), translators)
    loaded = open_store(path, clock=SYSTEM).load_newest(translators, told=warn)
    if loaded is None:
        raise UsageError(f"There is no checkpoint in {path}.", _WHAT_TO_GIVE)
    return loaded


def _is_folder(path: str) -> bool:
    try:
        return Path(path).is_dir()
    except (OSError, ValueError):  # a name that no file system takes
        return False
