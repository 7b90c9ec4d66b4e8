"""A program that saves; what is traced, killed and lied to by the fault suite.

For each line `FOLDER PROGRESS MODE` on its input it forks a child, tells its pid, and when the child has ended its wait
status. The child waits for SIGUSR1 (so that strace can take hold of it first; everything is imported and warm by then,
and strace's counters count nothing but saves), then saves steps 2, 3 and 4 into FOLDER, which holds step 1 already.
PROGRESS gets a line a step, `committed N` or `failed N message`, by pwrite, which no test breaks. With the mode `inline`
there are no flushing threads: every system call happens in one order, and in one process of strace's.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import tempfile
import threading
import traceback
from pathlib import Path

from backprop_core.checkpoints.codec import Snapshot, capture
from backprop_core.checkpoints.manifest import CheckpointFacts
from backprop_core.checkpoints.store import CheckpointStore
from backprop_core.checkpoints.unchanged import Unchanged, Worth
from backprop_core.clock import SYSTEM, Clock
from backprop_core.errors import CheckpointWriteError
from backprop_core.outcome import SaveReason
from backprop_core.testing.checkpoint_places import BLOBS, Blob, blobs

STEPS = (2, 3, 4)


def states(step: int) -> dict[str, object]:
    """What is saved at `step`; the base of the model stays as it is, and is linked from the third save on."""
    return {
        "model": {"w": Blob(bytes([step]) * 2000), "b": Blob(b"b" * step), "base": Blob(b"base" * 1000)},
        "optimizer": {"state": {0: {"m": Blob(b"m" * 300)}}, "lr": 0.5**step, "betas": (0.9, -0.0)},
    }


def store_at(folder: Path, clock: Clock) -> CheckpointStore:
    """A store that shares files of a kilobyte already."""
    return CheckpointStore(folder, clock=clock, unchanged=Unchanged(Worth(array_bytes=1000, file_bytes=1000)))


def snapshot(step: int) -> Snapshot:
    """`states` taken apart."""
    return capture(states(step), BLOBS)


def facts(step: int) -> CheckpointFacts:
    """The facts of the save at `step`."""
    return CheckpointFacts("run", 1, step, 0, step, SaveReason.PERIODIC)


def plain(value: object) -> object:
    """A state with its blobs as bytes, for comparing."""
    if isinstance(value, Blob):
        return value.data
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    return [type(value).__name__, *map(plain, value)] if isinstance(value, list | tuple) else repr(value)


def save(store: CheckpointStore, progress: int) -> None:
    """Save all steps and tell how each went."""
    for step in STEPS:
        try:
            store.commit(snapshot(step), facts(step))
            line = f"committed {step}\n"
        except CheckpointWriteError as error:
            line = f"failed {step} {error}\n"
        os.pwrite(progress, line.encode(), os.fstat(progress).st_size)


def no_threads(thread: threading.Thread) -> None:
    """What a process that may not start threads sees."""
    raise RuntimeError("can't start new thread")


def warm_up() -> None:
    """Import what is imported late, on every path that the tests take."""
    with tempfile.TemporaryDirectory() as scratch:
        store = store_at(Path(scratch), SYSTEM)
        for step in (1, 2, 3, 4):
            store.commit(snapshot(step), facts(step))
        with contextlib.suppress(CheckpointWriteError):
            store.commit(blobs(1, broken=True), facts(5))


def begin(folder: str, progress_path: str, mode: str) -> int:
    """Fork a child that saves as soon as it gets SIGUSR1; its pid."""
    # Opened here: strace may take hold of the child before it has run a line, and is to meet saves alone.
    progress = os.open(progress_path, os.O_RDWR | os.O_CREAT, 0o600)
    child = os.fork()
    if child:
        os.close(progress)
        return child
    try:
        if mode == "inline":
            threading.Thread.start = no_threads  # type: ignore[method-assign,assignment]
        signal.sigwait({signal.SIGUSR1})
        save(store_at(Path(folder), SYSTEM), progress)
    except BaseException:
        traceback.print_exc()
        os._exit(1)
    os._exit(0)


def main() -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
    warm_up()
    for line in sys.stdin:
        child = begin(*line.split())
        print(child, flush=True)
        print(os.waitpid(child, 0)[1], flush=True)


if __name__ == "__main__":
    main()
