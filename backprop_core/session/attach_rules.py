"""Whether backprop joins a script that has never heard of it, and which of several ways does.

`backprop run` names in BACKPROP_FRAMEWORK what may attach. The start-up hook and the frameworks' own entry points ask here
first; without `backprop run` they do nothing. This module is all that such a process loads, so it imports next to nothing.
"""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False  # typing itself would cost every start 8 ms
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_MAY_ATTACH: Mapping[str, frozenset[str]] = {
    "auto": frozenset({"pytorch", "lightning", "keras", "transformers"}),
    "pytorch": frozenset({"pytorch", "transformers"}),
    "lightning": frozenset({"lightning"}),
    "keras": frozenset({"keras"}),
    "tensorflow": frozenset({"keras"}),
    "transformers": frozenset({"transformers"}),
    "none": frozenset(),
}

_standing_by: Callable[[], None] | None = None
_sessions = 0


def may_attach(framework: str, *, every_rank: bool = False, environ: Mapping[str, str] = os.environ) -> bool:
    """Whether this process is a script under `backprop run` to which the adapter of `framework` may attach itself.

    Not in the workers of a data loader or another pool.

    Args:
        every_rank: the adapter knows how several processes of one training agree; otherwise only the first is attached to.
    """
    if not environ.get("BACKPROP_RUN_DIR") or not environ.get("BACKPROP_ATTEMPT"):
        return False
    if framework not in _MAY_ATTACH.get(environ.get("BACKPROP_FRAMEWORK", "none"), ()):
        return False
    return not _serves_another_process() and (every_rank or environ.get("RANK", "0") == "0")


def _serves_another_process() -> bool:
    process = sys.modules.get("multiprocessing.process")
    if process is not None and process.parent_process() is not None:
        return True
    return any("multiprocessing" in word or "loky" in word for word in sys.orig_argv[1:4])


def stand_by(step_aside: Callable[[], None]) -> None:
    """Something waits for a training of any kind; `step_aside` is called when a session is opened by somebody else."""
    global _standing_by
    _standing_by = step_aside


def a_session_was_opened() -> bool:
    """Whether this process has or had a session: then nobody need wait for another training in it."""
    return _sessions > 0


def session_opens() -> None:
    """A session opens in this process: whoever stood by steps aside."""
    global _standing_by, _sessions
    _sessions += 1
    step_aside, _standing_by = _standing_by, None
    if step_aside is not None:
        step_aside()


def give_up(framework: str, error: BaseException) -> None:
    """One line about what kept backprop from attaching itself; the script goes on, governed from outside."""
    what = " ".join(str(error).split()) or "no message"
    try:
        print(
            f"backprop: could not attach to {framework}: {type(error).__name__}: {what[:300]} "
            "The script goes on, governed from outside.",
            file=sys.stderr,
            flush=True,
        )
    except (OSError, ValueError, AttributeError):  # a closed standard error is no reason to stop a training
        return
