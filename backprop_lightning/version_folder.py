"""The folder `version_N` that a logger makes at each start, and ModelCheckpoint follows: all attempts of a run share one.

Otherwise a resumed ModelCheckpoint forgets the best model, because it lies in a folder that is not its own any more, and
keeps one file too many. A version that the script has chosen itself stays.
"""

from __future__ import annotations

import contextlib
import csv
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

_NAME = "version_"
_EVENTS = "events.out.tfevents."


def capture(trainer: Any) -> list[dict[str, Any]]:
    """Which folder each logger writes into."""
    return [
        {"kind": type(logger).__name__, "root": str(root), "version": logger._version}
        for logger, root in _numbered(trainer)
    ]


def restore(trainer: Any, saved: Sequence[dict[str, Any]]) -> list[str]:
    """Lead the loggers back, before anybody has asked where they write; what was done, as sentences.

    To be called when Lightning has made the loggers' writers, and before ModelCheckpoint looks where they write.
    """
    told = []
    waiting = list(saved)
    for logger, root in _numbered(trainer):
        own = next(
            (s for s in waiting if s["kind"] == type(logger).__name__ and s["root"] == str(root)), None
        )
        if own is None:
            continue
        waiting.remove(own)
        before, fresh = own["version"], logger._version
        if before < fresh == _next(root, besides=fresh):
            made, old = root / f"{_NAME}{fresh}", root / f"{_NAME}{before}"
            _lead(logger, before, old)
            if trainer.is_global_zero:
                _bring_configuration(trainer, made, old)
                _remove(made)
            told.append(f"Logs continue in {old}, as in earlier attempts.")
    return told


def _numbered(trainer: Any) -> Iterator[tuple[Any, Path]]:
    """The loggers that have such a folder on this machine."""
    for logger in trainer.loggers:
        root = getattr(logger, "root_dir", None)
        version = getattr(logger, "_version", None)
        if isinstance(root, str | os.PathLike) and type(version) is int and "://" not in str(root):
            yield logger, Path(root).absolute()


def _next(root: Path, *, besides: int) -> int:
    """The number that Lightning would make up where `besides` was not there."""
    numbers = [path.name.removeprefix(_NAME) for path in root.glob(f"{_NAME}*")] if root.is_dir() else []
    return max((int(n) for n in numbers if n.isdigit() and int(n) != besides), default=-1) + 1


def _lead(logger: Any, version: int, folder: Path) -> None:
    writer = getattr(logger, "_experiment", None)
    logger._version = version
    if writer is None:
        return
    if hasattr(writer, "metrics_file_path"):  # CSVLogger's: a new one would delete the rows that are there
        writer.log_dir = str(folder)
        writer.metrics_file_path = str(folder / Path(writer.metrics_file_path).name)
        with (
            contextlib.suppress(OSError, StopIteration),
            Path(writer.metrics_file_path).open(newline="") as file,
        ):
            writer.metrics_keys = next(csv.reader(file))
        return
    writer.close()
    logger._experiment = None


def _bring_configuration(trainer: Any, made: Path, old: Path) -> None:
    """LightningCLI writes its configuration at each start and takes one that is there for another run's."""
    for callback in trainer.callbacks:
        if any(kind.__name__ == "SaveConfigCallback" for kind in type(callback).__mro__):
            callback.overwrite = True
            name = getattr(callback, "config_filename", "config.yaml")
            with contextlib.suppress(OSError):
                (made / name).replace(old / name)


def _remove(made: Path) -> None:
    """The folder of this start, unless something was written into it that is not just a beginning."""
    with contextlib.suppress(OSError):
        events = list(made.iterdir())
        if all(path.name.startswith(_EVENTS) and path.stat().st_size < 1024 for path in events):
            for path in events:
                path.unlink()
            made.rmdir()
