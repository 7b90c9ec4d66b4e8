"""The end of a process whose time is over."""

from __future__ import annotations

import atexit
import os
import sys
import threading
from contextlib import suppress
from typing import NoReturn

from backprop_core.session.child_process import parent_pid, wait_for_parent, wait_when_all_is_done


def leave_process() -> NoReturn:
    """End the process with status 0, as the governor expects of a session that has left in time.

    The script's `finally` blocks and everybody's exit handlers run. What is left out is the interpreter's own taking down
    of every module, which lasts a second and more with a framework loaded, and is of no use to anybody. A child of
    `multiprocessing` waits before that for the end of the process that would go on as if the training were over.

    Raises:
        SystemExit: in the main thread. From another one the process ends here and now.
    """
    last = _Last()
    if threading.current_thread() is not threading.main_thread():
        if (parent := parent_pid()) is not None:
            wait_for_parent(parent)
        last.words()  # SystemExit would end this thread alone, and the main one go on as if the training were over
    if parent_pid() is None:
        atexit.register(last.words)
    else:
        wait_when_all_is_done()
    raise SystemExit(0)


class _Last:
    """Registered last, so called first: it has the other handlers called and then ends the process."""

    def __init__(self) -> None:
        self._pid = os.getpid()
        self._called = False

    def words(self) -> None:
        if self._called or os.getpid() != self._pid or hasattr(sys, "last_value"):
            return  # an error on the way out is shown, and ends the process, as ever
        self._called = True
        atexit._run_exitfuncs()
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError, ValueError, AttributeError):
                stream.flush()
        os._exit(0)
