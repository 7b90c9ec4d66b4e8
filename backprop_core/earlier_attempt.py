"""What a script's process can tell of attempts before it, before a session is opened: loaded when a script starts."""

from __future__ import annotations

import os

from backprop_core import contract

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping


def goes_on(environ: Mapping[str, str] = os.environ) -> bool:
    """Whether the run had an attempt before this one, or torchrun has started this worker again."""
    restarted = environ.get("TORCHELASTIC_RESTART_COUNT", "0") not in ("", "0")
    return restarted or environ.get(contract.RESUME) == "1"


def may_go_back(environ: Mapping[str, str] = os.environ) -> bool:
    """Whether there may be a checkpoint to go back to; the session will look more closely."""
    place = environ.get(contract.CHECKPOINT_DIR, "")
    if environ.get(contract.RESUME_FROM):
        return True
    if "://" in place:
        return goes_on(environ)
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
