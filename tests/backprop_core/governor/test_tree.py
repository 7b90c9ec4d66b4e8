from __future__ import annotations

import os
import subprocess
import sys
import threading

from backprop_core.governor import kernel
from backprop_core.governor.tree import members

# pid: (parent, session, state). 10 is the governor in session 5, 20 the script, 30 the keeper.
TABLE = {
    1: (0, 1, "S"),
    5: (1, 5, "S"),
    10: (5, 5, "S"),
    20: (10, 20, "S"),
    21: (20, 20, "S"),
    22: (21, 22, "S"),
    30: (10, 30, "S"),
    40: (10, 41, "S"),
    50: (10, 5, "S"),
    60: (1, 20, "S"),
    70: (1, 70, "S"),
}


def test_a_family_is_descendants_session_and_orphans() -> None:
    """Workers with a session of their own, orphans of the session, and those handed to the governor belong to it."""
    assert members(TABLE, 20, governor=10, spared=[30]) == {20, 21, 22, 40, 60}


def test_without_a_governor_orphans_elsewhere_are_nobodys() -> None:
    """The keeper, to whom nothing is handed, sees descendants and session only."""
    assert members(TABLE, 20, governor=None) == {20, 21, 22, 60}


def test_a_family_whose_root_is_gone_is_still_found() -> None:
    """After the script itself has ended its session and its orphans are found."""
    rest = {pid: row for pid, row in TABLE.items() if pid != 20}
    assert members(rest, 20, governor=10, spared=[30]) == {21, 22, 40, 60}


def test_the_kernels_lists_find_children_of_every_thread() -> None:
    """A child that another thread has started, in a session of its own, is a descendant; a stranger is not."""
    started: list[subprocess.Popen[bytes]] = []

    def start() -> None:
        started.append(
            subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, start_new_session=True)
        )

    done = threading.Event()
    thread = threading.Thread(target=lambda: (start(), done.wait()))
    thread.start()
    while not started:
        pass
    try:
        found = kernel.descendants(os.getpid())
        assert found is not None
        assert {os.getpid(), started[0].pid} <= found
        assert 1 not in found
    finally:
        started[0].communicate(b"\n")
        done.set()
        thread.join()


_ORPHANS = """
import os, subprocess
from backprop_core.governor import kernel
from backprop_core.governor.tree import Family

kernel.become_subreaper()
read, write = os.pipe()
orphan = f"(sh -c 'echo $$ >&{write}; exit 0' & exit 0) & exit 0"
script = subprocess.Popen(["sh", "-c", f"{orphan}"], start_new_session=True, pass_fds=[write])
os.close(write)
orphan = int(os.fdopen(read).read())  # the end of the file: all who could write are gone
family = Family(script.pid, governor=os.getpid())
while os.path.exists(f"/proc/{orphan}"):
    if kernel.dead_child() == script.pid:
        script.wait()
    family.reap()
own = subprocess.Popen(["sh", "-c", "exit 3"])
while not kernel.dead_child():
    pass
family.reap()
print(own.wait())
"""


def test_dead_orphans_are_reaped_and_own_children_are_left_to_their_waiters() -> None:
    """The governor keeps no zombie of a script, and takes no exit status from whoever in it has started a child."""
    ran = subprocess.run(
        [sys.executable, "-c", _ORPHANS], capture_output=True, text=True, timeout=240, check=True
    )
    assert ran.stdout == "3\n"
