"""Which folder the tags and notes of a run go into."""

from __future__ import annotations

from pathlib import Path

from backprop_cli.opening import open_store, tell_warnings
from backprop_core.errors import UsageError


def labelled_folder(run: str) -> tuple[str, Path]:
    """The id and the folder of the run that is meant, which exists.

    Raises:
        RunNotFoundError: there is none.
        UsageError: it is the npm tool's, which has no folder.
    """
    store = open_store(write=False)
    record = store.load(run)
    tell_warnings(store)
    if record.foreign:
        raise UsageError(
            f"Run {record.id} was made by the npm tool and has no folder for tags and notes.",
            f"It gets one when it is resumed: backprop resume {record.id}",
        )
    return record.id, store.run_dir(record.id)
