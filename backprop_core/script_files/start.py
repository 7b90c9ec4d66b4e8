"""Begins to follow the files of a script whose loops are counted; loaded when such a script starts, so it imports little."""

from __future__ import annotations

import os

from backprop_core import contract
from backprop_core.earlier_attempt import goes_on, may_go_back
from backprop_core.launched_rank import launched_rank

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from backprop_core.script_files.rewind import ScriptFiles

_files: ScriptFiles | None = None


def current() -> ScriptFiles | None:
    """The files of this process's script; None where they are left alone."""
    return _files


def begin(roots: Iterable[str]) -> None:
    """Follow the files below `roots` from now on, unless the user wants them left alone. Raises what goes wrong."""
    global _files
    environ = os.environ
    run_dir = environ.get(contract.RUN_DIR, "")
    if (
        _files is not None
        or environ.get(contract.KEEP_FILES)
        or not run_dir
        or environ.get(contract.SCRIPT_RESUMES)
    ):
        return
    continues = goes_on()
    rank = launched_rank(environ)
    from backprop_core.script_files.rewind import ScriptFiles  # late: every session asks this module

    _files = ScriptFiles(
        os.path.join(run_dir, "files", "" if rank is None else f"rank-{rank}"),
        list(roots),
        [run_dir, environ.get(contract.HOME, ""), _local(environ.get(contract.CHECKPOINT_DIR, ""))],
        resuming=continues and may_go_back(),
        continues=continues,
        hides=rank is None,
    )


def _local(place: str) -> str:
    return "" if "://" in place else place
