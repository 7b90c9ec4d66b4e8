"""A process that `multiprocessing` has started: how it learns of its own end, and how it ends when its time is over.

It ends without the exit handlers of `atexit`, and the process that started it takes its exit for the end of the work. So a
child whose training was cut off waits until the governor has ended the one that waits for it.
"""

from __future__ import annotations

import atexit
import os
import sys
from collections.abc import Callable
from contextlib import suppress

from backprop_core import contract
from backprop_core.clock import SYSTEM, Clock

_LOOK_EVERY_S = 0.05
_LAST = -1_000
"""Priority of what is done when all else is done; multiprocessing leaves out what has none."""
_EARLY = 100


def parent_pid() -> int | None:
    """The process that has started this one by `multiprocessing`, or None."""
    process = sys.modules.get("multiprocessing.process")
    parent = None if process is None else process.parent_process()
    return None if parent is None else parent.pid


def when_process_ends(call: Callable[[], None]) -> Callable[[], None]:
    """Have `call` made when the process ends by itself; what is returned takes that back."""
    if parent_pid() is None:
        atexit.register(call)
        return lambda: atexit.unregister(call)
    from multiprocessing.util import Finalize

    ending = Finalize(None, call, exitpriority=_EARLY)
    return ending.cancel


def error_that_ends_process() -> BaseException | None:
    """In a call of `when_process_ends`: what nobody has caught, or None for an ordinary end."""
    if parent_pid() is None:
        return getattr(sys, "last_value", None)
    error = sys.exc_info()[1]
    return None if isinstance(error, SystemExit) and error.code in (None, 0) else error


def wait_when_all_is_done() -> None:
    """In a child under a governor: come to no end before the process that waits for it has been ended."""
    parent = parent_pid()
    if parent is not None and os.environ.get(contract.GOVERNOR_PID):
        from multiprocessing.util import Finalize

        Finalize(None, wait_for_parent, args=(parent,), exitpriority=_LAST)


def wait_for_parent(parent: int, clock: Clock = SYSTEM) -> None:
    """Until the process `parent` is gone, or the governor that would end it."""
    with suppress(ValueError):
        governor = int(os.environ.get(contract.GOVERNOR_PID, ""))
        while _is_there(parent) and _is_there(governor):
            clock.sleep(_LOOK_EVERY_S)


def _is_there(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True
