"""Process identities."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from dataclasses import replace

import pytest

from backprop_core.runs.process import Life, ProcessIdentity
from tests.backprop_core.runs.conftest import Script, dead_process, wait_until


def test_own_process_is_alive_and_survives_json() -> None:
    """An identity written and read again still names the living process."""
    own = ProcessIdentity.own()
    assert own.alive()
    again = ProcessIdentity.from_json(own.to_json())
    assert again == own


def test_a_killed_process_is_gone() -> None:
    """After SIGKILL and reaping, the identity is not alive."""
    assert dead_process().life() is Life.GONE


def test_a_zombie_is_gone(script: Script) -> None:
    """A process that is dead but not yet waited for does not count as alive."""
    process = script("input()")
    identity = ProcessIdentity.of(process.pid)
    assert identity.alive()
    os.kill(process.pid, signal.SIGKILL)
    wait_until(lambda: not identity.alive())


def test_a_reused_pid_is_not_the_same_process() -> None:
    """The same pid with another start time is somebody else."""
    own = ProcessIdentity.own()
    assert replace(own, started=own.started - 10.0).life() is Life.GONE


def test_reboots_and_other_machines_are_told_apart() -> None:
    """Another boot of this host is gone; another host or container cannot be seen from here."""
    own = ProcessIdentity.own()
    assert replace(own, boot_id="another-boot/1").life() is Life.GONE
    assert replace(own, boot_id="another-boot/1", host="node17").life() is Life.ELSEWHERE
    other_container = replace(own, boot_id=own.boot_id.partition("/")[0] + "/4711")
    assert other_container.life() is Life.ELSEWHERE


def test_a_process_never_seen_is_gone() -> None:
    """Naming a pid that does not exist gives an identity that is not alive."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    assert not ProcessIdentity.of(process.pid).alive()


@pytest.mark.parametrize(
    "junk",
    [
        None, [], "x", {}, {"pid": "1"}, {"pid": True, "started": 1.0, "boot_id": "b"},
        {"pid": -1, "started": 1.0, "boot_id": "b"}, {"pid": 2**40, "started": 1.0, "boot_id": "b"},
        {"pid": 5, "started": "now", "boot_id": "b"}, {"pid": 5, "started": 1.0, "boot_id": 7},
    ],
)  # fmt: skip
def test_junk_is_no_identity(junk: object) -> None:
    """A note in a lock file may hold anything: what makes no sense names nobody."""
    assert ProcessIdentity.from_json(junk) is None
