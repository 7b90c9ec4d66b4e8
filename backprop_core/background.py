"""Threads that do one thing behind a training, and are over before the interpreter is.

A daemon thread that is in the middle of an import when the interpreter ends keeps the import lock for ever, and whatever is
imported after that (to print an ignored exception is enough) waits for it for ever.
"""

from __future__ import annotations

import atexit
import os
from collections.abc import Callable
from functools import cache
from threading import Thread
from typing import Any
from weakref import WeakSet

_AT_EXIT_S = 10.0
"""The longest that the end of the interpreter waits for one of them: numpy's import on a busy machine."""


def in_background(work: Callable[..., Any], name: str, *arguments: Any) -> Thread:
    """Call `work(*arguments)` in a thread named `name`, which the end of the interpreter waits for, at most 10 s."""
    thread = Thread(target=work, args=arguments, name=name, daemon=True)
    _at_work().add(thread)
    thread.start()
    return thread


@cache
def _at_work() -> WeakSet[Thread]:
    """The threads of this process that may not be over."""
    threads: WeakSet[Thread] = WeakSet()
    owner = os.getpid()

    def wait() -> None:
        if os.getpid() == owner:  # a forked child has none of them
            for thread in list(threads):
                thread.join(_AT_EXIT_S)

    atexit.register(wait)
    return threads
