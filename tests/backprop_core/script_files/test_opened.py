"""What is heard of files that are opened, in a fresh process: an audit hook cannot be taken out again."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

KEEPS = """
import os, tempfile, weakref
from backprop_core.script_files.opened import OpenedFiles
from backprop_core.script_files.scope import Scope

OpenedFiles(Scope([os.getcwd()], []), lambda path, in_place: None, lambda path, small: None).listen()

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


LOSES = """
import os, sys
from backprop_core.script_files.opened import OpenedFiles
from backprop_core.script_files.scope import Scope

for name in ("descriptor", "in_place", "appended"):
    with open(name, "w") as file:
        file.write("kept")
def loses(path, in_place):
    print(os.path.basename(path))
OpenedFiles(Scope([os.getcwd()], []), loses, lambda path, small: None).listen()
with open("appended", "a") as file:
    file.write("more")
with open("descriptor", "a") as file:
    os.ftruncate(file.fileno(), 0)
with open("in_place", "r+") as file:
    file.truncate(0)
"""


def test_files_that_are_cut_through_a_descriptor_or_changed_in_place_are_heard_of(tmp_path: Path) -> None:
    """os.ftruncate names a descriptor, and a file opened with "r+" may be cut or written over without another event."""
    done = subprocess.run(
        [sys.executable, "-c", LOSES], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=120
    )
    assert done.stdout == "descriptor\nin_place\n", done.stderr
