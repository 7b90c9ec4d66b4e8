"""Runs the main script to its end as Python would: the same traceback, the same exit status, the same last signal."""

from __future__ import annotations

import atexit
import os
import signal
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import CodeType, TracebackType
    from typing import Any, NoReturn

_interrupted = False
_AS_PYTHON_CALLS_IT = compile("exec(code, names)", "sys", "exec")
"""A warning that is meant for whoever called the script says "sys:1", as it does where nobody did."""


def run_to_its_end(code: CodeType, names: dict[str, Any]) -> None:
    """Execute the script. An exception that it lets out is told without our frames, a refusal of ours in one line."""
    atexit.register(_end_by_interrupt)  # the first to be registered is the last to run
    try:
        exec(_AS_PYTHON_CALLS_IT, {"__name__": __name__, "code": code, "names": names})
    except SystemExit:
        raise
    except BaseException as error:
        if _says_all_itself(error):
            from backprop_core.own_line import print_line

            print_line(str(error))
            raise SystemExit(1) from None
        own = error.__traceback__
        for _ in range(2):
            own = own.tb_next if own is not None else None
        tell_and_leave(error, own)


def _says_all_itself(error: BaseException) -> bool:
    """Whether it is our word that a checkpoint does not fit the script, or that strictly nothing may be lost: where in the
    framework that was found helps nobody.
    """
    errors = sys.modules.get("backprop_core.errors")
    return errors is not None and isinstance(error, errors.StateMismatchError | errors.UnkeptStateError)


def tell_and_leave(error: BaseException, trace: TracebackType | None) -> NoReturn:
    """What Python does with an exception that nobody caught.

    Raises:
        SystemExit: always; with status 1, and for Ctrl-C the process then ends by that signal.
    """
    global _interrupted
    error.__traceback__ = trace
    sys.last_type, sys.last_value, sys.last_traceback = type(error), error, trace
    vars(sys)["last_exc"] = error  # from Python 3.12 on
    sys.excepthook(type(error), error, trace)
    _interrupted = isinstance(error, KeyboardInterrupt)
    raise SystemExit(1)


def _end_by_interrupt() -> None:
    if _interrupted:
        for stream in (sys.stdout, sys.stderr):
            try:
                stream.flush()
            except (OSError, ValueError, AttributeError):
                continue
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGINT)
