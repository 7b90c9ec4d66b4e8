"""What is heard of files that are opened, in a fresh process: an audit hook cannot be taken out again."""

from __future__ import annotations

import subprocess
import sys

KEEPS = """
import os, tempfile, weakref
from backprop_core.script_files.opened import OpenedFiles
from backprop_core.script_files.scope import Scope

OpenedFiles(Scope([os.getcwd()], []), lambda path, in_place: None, lambda path: None).listen()

class Optimizer:
    pass

def step():
    optimizer = Optimizer()
    with tempfile.TemporaryFile() as file:
        os.truncate(file.fileno(), 8)
    return weakref.ref(optimizer)

print(step()())
"""


def test_an_event_that_cannot_be_placed_keeps_nothing_of_the_script() -> None:
    """A descriptor has no path: the error, had it been kept, would keep the frames of all callers with their variables."""
    done = subprocess.run(
        [sys.executable, "-c", KEEPS], capture_output=True, text=True, check=False, timeout=120
    )
    assert done.stdout == "None\n", done.stderr
