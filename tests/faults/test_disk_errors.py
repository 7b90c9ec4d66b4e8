"""(b) A disk that says no, at every system call; (c) a disk that is full."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from .tracing import ROOT, Call, Saver, assert_nothing_lost

WORDS = {"ENOSPC": "the disk is full", "EIO": "input/output error", "EDQUOT": "quota", "EROFS": "read-only"}


@pytest.mark.faults
@pytest.mark.parametrize("error", sorted(WORDS))
def test_an_error_at_any_system_call_is_told_and_loses_nothing(saver: Saver, error: str) -> None:
    """Each call fails once: the save says why or succeeds, the older one stays, and the next save works."""
    told = 0
    for call in saver.calls():
        if (
            call.name not in ("write", "writev", "fsync", "rename", "openat", "mkdir", "close")
            and error != "EIO"
        ):
            continue
        outcome = saver.broken(f"error={error}", call)
        assert outcome.status == 0, (call, outcome)
        assert len(outcome.failed) + len(outcome.committed) == 3, (call, outcome)
        assert len(outcome.failed) <= 1, (call, outcome)
        for message in outcome.failed.values():
            told += WORDS[error] in message
        assert_nothing_lost(saver.folder, outcome, (call, outcome))
        if call.name in ("write", "writev", "mkdir"):
            assert len(outcome.failed) == 1, (call, outcome)
    assert told >= 20


@pytest.mark.parametrize("error", sorted(WORDS))
@pytest.mark.parametrize("call", [Call("write", 4), Call("fsync", 3), Call("mkdir", 1)], ids=str)
def test_a_failed_save_is_told_and_loses_nothing(saver: Saver, error: str, call: Call) -> None:
    """Some of those errors, fast enough for every day."""
    outcome = saver.broken(f"error={error}", call)
    assert outcome.status == 0, outcome
    for message in outcome.failed.values():
        assert WORDS[error] in message
    assert outcome.failed
    assert_nothing_lost(saver.folder, outcome, call)


@pytest.mark.parametrize("error", sorted(WORDS))
def test_threads_that_fail_to_flush_fail_the_save(saver: Saver, error: str) -> None:
    """The first fsync of every thread fails: every save says why, and the older checkpoint is still there."""
    outcome = saver.broken(f"error={error}", Call("fsync", 1), "threads")
    assert outcome.status == 0, outcome
    assert set(outcome.failed) == {2, 3, 4}
    assert all(WORDS[error] in message for message in outcome.failed.values())
    assert assert_nothing_lost(saver.folder, outcome, error) == 1


FULL = """
import os, sys
from pathlib import Path
from backprop_core.checkpoints import local_place
from backprop_core.checkpoints.store import CheckpointStore
from backprop_core.clock import SYSTEM
from backprop_core.errors import CheckpointWriteError
from backprop_core.testing.checkpoint_places import BLOBS, blobs
from tests.faults.saving import facts
folder = Path(sys.argv[1])
if sys.argv[2] == "unforeseen":
    local_place._free_bytes = lambda path: None
store = CheckpointStore(folder / "checkpoints", clock=SYSTEM)
store.commit(blobs(1), facts(1))
ballast = folder / "ballast"
ballast.write_bytes(bytes(12_000_000))
for _ in range(3):
    try:
        store.commit(blobs(2), facts(2))
    except CheckpointWriteError as error:
        print(error)
    else:
        sys.exit("a full disk was not noticed")
    assert [p.name for p in (folder / "checkpoints").iterdir()] == ["step-000000000001"]
ballast.unlink()
store.commit(blobs(3), facts(3))
loaded = store.load_newest(BLOBS, told=sys.exit)
assert loaded.info.step == 3 and loaded.states["model"]["w"].data == bytes([3]) * 9_000_000
assert store.verify(loaded.info) == []
"""


@pytest.mark.parametrize("mode", ["foreseen", "unforeseen"])
def test_a_full_disk_is_told_and_the_older_checkpoint_stays(tmp_path: Path, mode: str) -> None:
    """On a tmpfs of 24 MB: refused with the sizes before a byte is written, or, where the file system does
    not say how much is free, with the reason; nothing half stays, and when there is room again saving goes
    on.
    """
    script = f'mount -t tmpfs -o size=24m none "{tmp_path}" && exec "{sys.executable}" -c "$PROGRAM" "{tmp_path}" {mode}'
    run = subprocess.run(
        ["unshare", "-rm", "sh", "-c", script],
        env={"PROGRAM": FULL, "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    lines = run.stdout.splitlines()
    assert len(lines) == 3
    assert all(("MB are free" if mode == "foreseen" else "the disk is full") in line for line in lines), lines
