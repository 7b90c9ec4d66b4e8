"""Begins to follow the files of a script whose loops are counted; loaded when such a script starts, so it imports little."""

from __future__ import annotations

import os

from backprop_core import contract
from backprop_core.script_files.rewind import ScriptFiles

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

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
    restarted = environ.get("TORCHELASTIC_RESTART_COUNT", "0") not in ("", "0")
    continues = restarted or environ.get(contract.RESUME) == "1"
    rank = environ.get("RANK", "")
    _files = ScriptFiles(
        os.path.join(run_dir, "files", f"rank-{rank}" if rank.isdigit() else ""),
        list(roots),
        [run_dir, environ.get(contract.HOME, ""), _local(environ.get(contract.CHECKPOINT_DIR, ""))],
        resuming=continues and _has_checkpoint(),
        continues=continues,
    )
    from backprop_core.session import attach_rules

    attach_rules.tell_when_a_session_opens(_files.session_opens)


def _local(place: str) -> str:
    return "" if "://" in place else place


def _has_checkpoint() -> bool:
    """Whether there may be one to go back to; the session will look more closely."""
    place = os.environ.get(contract.CHECKPOINT_DIR, "")
    if os.environ.get(contract.RESUME_FROM) or "://" in place:
        return True
    pending = [(place, 0)]
    while pending:
        folder, depth = pending.pop()
        try:
            names = os.listdir(folder)
        except OSError:
            continue
        if any(name.startswith("step-") for name in names):
            return True
        if depth < 2:  # of a run in a folder of others, and of a later training
            pending += [(os.path.join(folder, name), depth + 1) for name in names if not name.startswith(".")]
    return False
