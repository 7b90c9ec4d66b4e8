"""From what a person types, a run or a path, to the checkpoints that are meant."""

from __future__ import annotations

from pathlib import Path

import click

from backprop_cli.opening import open_store, tell_warnings
from backprop_core.checkpoints.names import parse_step_folder
from backprop_core.checkpoints.store import CheckpointStore
from backprop_core.checkpoints.store import open_store as open_checkpoints
from backprop_core.clock import SYSTEM
from backprop_core.errors import BackpropError
from backprop_core.quick_dataclass import dataclass
from backprop_core.runs.record import RunRecord


@dataclass(frozen=True, slots=True)
class Found:
    """The checkpoints that were meant.

    Attributes:
        stores: every place of the run, or the one of the path.
        only: the single checkpoint that was named, or None for all.
        place: the folder or address that was named, or None for a run.
        others: what the script announced itself, in formats that are not ours.
    """

    stores: tuple[CheckpointStore, ...]
    only: Path | None = None
    others: tuple[str, ...] = ()
    place: str | None = None


def find_checkpoints(run_or_path: str) -> Found:
    """What `run_or_path` means: a checkpoint, a folder of checkpoints, or a run.

    Raises:
        UsageError, RunNotFoundError: it means nothing.
        StoreError: the runs cannot be read.
    """
    if not run_or_path.strip():
        raise click.UsageError(
            "RUN|PATH is empty: name a run or a folder."
        )  # a shell variable that was never set
    if "://" in run_or_path:
        return _at(run_or_path.rstrip("/"))
    path = Path(run_or_path).expanduser()
    looks_like_a_path = len(path.parts) > 1 or run_or_path.startswith((".", "~"))
    if looks_like_a_path and not path.is_dir():
        raise click.UsageError(f"There is no folder {run_or_path}.")
    if looks_like_a_path:
        return _at(str(path.absolute()))
    try:
        runs = open_store(write=False)
        record = runs.load(run_or_path)
        tell_warnings(runs)
    except BackpropError:
        if path.is_dir():
            return _at(str(path.absolute()))
        if path.is_file():
            raise click.UsageError(
                f"{run_or_path} is a file: name a run, a checkpoint (step-...), or a folder of checkpoints."
            ) from None
        raise
    return _of_run(record, runs.checkpoints_dir(record))


def _at(place: str) -> Found:
    folder, _, name = place.rpartition("/")
    if parse_step_folder(name) or parse_step_folder(name.removeprefix("damaged-")):
        store = open_checkpoints(folder, clock=SYSTEM)
        return Found((store,), only=store.directory / name, place=place)
    return Found((open_checkpoints(place, clock=SYSTEM),), place=place)


def _of_run(record: RunRecord, home: Path) -> Found:
    """All places: where the run saves now, its further time boxes, and where else it is known to have
    saved.
    """
    asked = record.checkpoint_dir
    places = [asked if asked is not None and "://" in asked else str(home)]
    places += sorted(str(path) for path in home.glob("box-*") if path.is_dir()) if home.is_dir() else []
    others: list[str] = []
    for known in record.checkpoints:
        path = Path(known)
        if parse_step_folder(path.name) is None:
            others.append(known)
        elif str(path.parent) not in places:
            places.append(str(path.parent))
    return Found(tuple(open_checkpoints(place, clock=SYSTEM) for place in places), others=tuple(others))
