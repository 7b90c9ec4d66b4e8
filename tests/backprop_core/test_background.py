"""Threads behind a training and the end of the interpreter."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ENDS_AT_ONCE = """
import threading
from backprop_core.background import in_background

class Printed:  # printing an exception that is ignored imports
    def __del__(self):
        raise RuntimeError("late")

def work():
    importing.set()
    import numpy
    print("imported", flush=True)

kept, importing = Printed(), threading.Event()
in_background(work, "importer")
importing.wait()
"""


def test_the_interpreter_ends_although_a_thread_is_importing(tmp_path: Path) -> None:
    """Work that has begun behind a script is over before its end, and holds no import lock for ever."""
    script = tmp_path / "ends.py"
    script.write_text(ENDS_AT_ONCE)
    done = subprocess.run(
        [sys.executable, str(script)], check=False, capture_output=True, text=True, timeout=120
    )
    assert (done.returncode, done.stdout) == (0, "imported\n"), done.stderr
    assert "RuntimeError: late" in done.stderr


def test_a_forked_child_waits_for_no_thread_of_its_parent(tmp_path: Path) -> None:
    """A child has none of the parent's threads, and ends at once."""
    script = tmp_path / "forks.py"
    script.write_text(
        "import os, sys, threading\n"
        "from backprop_core.background import in_background\n"
        "over = threading.Event()\n"
        "in_background(over.wait, 'waits')\n"
        "child = os.fork()\n"
        "if not child:\n    sys.exit(7)\n"
        "print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), over.is_set())\n"
        "over.set()\n"
    )
    done = subprocess.run(
        [sys.executable, str(script)], capture_output=True, text=True, timeout=120, check=True
    )
    assert done.stdout == "7 False\n"
