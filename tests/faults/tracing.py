"""strace as a tool of the tests: which system calls a save makes, and what happens when one of them goes
wrong.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from backprop_core.checkpoints.store import CheckpointStore
from backprop_core.testing.checkpoint_places import BLOBS
from backprop_core.testing.clock import FakeClock

from .saving import facts, plain, snapshot, states

ROOT = Path(__file__).parents[2]
TRACED = (
    "openat,write,writev,fsync,sync_file_range,close,rename,renameat,renameat2,link,linkat,mkdir,mkdirat,unlink,unlinkat,rmdir,statfs,newfstatat,fstat,"
    "lstat,stat,getdents64,read,access,faccessat2"
)
_LINE = re.compile(r"^(\w+)\(")


@dataclass(frozen=True, slots=True)
class Call:
    """One system call of the saving process: its name, and the how-manieth of that name it is."""

    name: str
    number: int

    def __str__(self) -> str:
        return f"{self.name}-{self.number}"


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a saving process ended: steps committed, steps failed with their messages, and its wait status."""

    committed: tuple[int, ...]
    failed: dict[int, str]
    status: int


class Saver:
    """A warm process whose forks save under strace."""

    def __init__(self, tmp: Path) -> None:
        self.tmp = tmp
        self.folder = tmp / "checkpoints"
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.faults.saving"],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def close(self) -> None:
        """End the process."""
        self._process.communicate()

    def calls(self) -> list[Call]:
        """Every system call with which a saving process touches the checkpoints' folder."""
        log = self.tmp / "strace.log"
        outcome = self._save(["-y", "-s", "0", "-e", f"trace={TRACED}", "-o", str(log)], "inline")
        assert outcome.committed == (2, 3, 4), outcome
        counts: Counter[str] = Counter()
        calls: list[Call] = []
        for line in log.read_text().splitlines():
            match = _LINE.match(line)
            if match is None:
                continue
            counts[match[1]] += 1
            if str(self.folder) in line:
                calls.append(Call(match[1], counts[match[1]]))
        return calls

    def broken(self, fault: str, call: Call, mode: str = "inline") -> Outcome:
        """Save into a prepared folder while strace does `fault` (`signal=KILL`, `error=EIO`) at one system
        call.
        """
        inject = f"inject={call.name}:{fault}:when={call.number}"
        return self._save(["-f", "-e", f"trace={call.name}", "-e", inject, "-o", "/dev/null"], mode)

    def _save(self, options: list[str], mode: str) -> Outcome:
        shutil.rmtree(self.folder, ignore_errors=True)
        CheckpointStore(self.folder, clock=FakeClock()).commit(snapshot(1), facts(1))
        progress = self.tmp / "progress"
        progress.unlink(missing_ok=True)
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(self.folder, progress, mode, file=self._process.stdin, flush=True)
        pid = int(self._process.stdout.readline())
        with subprocess.Popen(
            ["strace", *options, "-p", str(pid)], stderr=subprocess.PIPE, text=True
        ) as strace:
            assert strace.stderr is not None
            attached = strace.stderr.readline()
            assert "attached" in attached, attached
            os.kill(pid, signal.SIGUSR1)
            status = int(self._process.stdout.readline())
            strace.stderr.read()
        words = [line.split(" ", 2) for line in progress.read_text().splitlines()]
        committed = tuple(int(word[1]) for word in words if word[0] == "committed")
        return Outcome(committed, {int(word[1]): word[2] for word in words if word[0] == "failed"}, status)


def assert_nothing_lost(folder: Path, outcome: Outcome, what: object) -> int:
    """The newest committed state is restored bit for bit, nothing half is visible, and saving goes on. Gives
    its step.
    """
    store = CheckpointStore(folder, clock=FakeClock())
    told: list[str] = []
    loaded = store.load_newest(BLOBS, told=told.append)
    assert loaded is not None, what
    assert told == [], (what, told)
    assert loaded.info.step >= max((1, *outcome.committed)), (what, outcome)
    assert plain(loaded.states) == plain(states(loaded.info.step)), what
    for info in store.list():
        assert store.verify(info) == [], (what, info)
    store.sweep()
    left = [path.name for path in folder.iterdir() if not path.name.startswith("step-")]
    assert left == [], (what, left)
    store.commit(snapshot(9), facts(9))
    assert store.list()[0].step == 9, what
    return loaded.info.step
