"""The right to write one run: one process at a time, freed by the kernel when that process dies."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Any, Self

from backprop_core.clock import Clock, local_text
from backprop_core.errors import RunBusyError, StoreError
from backprop_core.runs.atomic import read_regular
from backprop_core.runs.locks import FileLock, is_locked
from backprop_core.runs.process import ProcessIdentity
from backprop_core.strict_json import as_instant, as_object, decode, encode

LOCK_FILE = "lock"
_TRIES = 5  # somebody who only looks whether the run is held takes the lock for some microseconds
_TRY_S = 0.02


class RunHold:
    """Held from construction by `take` until `release`, or until the process is gone."""

    def __init__(self, run_id: str, run_dir: Path, lock: FileLock) -> None:
        self.run_id = run_id
        self.run_dir = run_dir
        self._lock = lock

    @property
    def held(self) -> bool:
        return self._lock.held

    @staticmethod
    def take(run_id: str, run_dir: Path, clock: Clock) -> RunHold:
        """Hold the run in `run_dir`.

        Raises:
            RunBusyError: another process, or this one, holds it; names the pid.
            StoreError: the lock file cannot be made.
        """
        lock = FileLock(run_dir / LOCK_FILE)
        for attempt in range(_TRIES):
            if attempt:
                clock.sleep(_TRY_S)
            if lock.acquire():
                lock.write_text(encode({**ProcessIdentity.own().to_json(), "since_wall": clock.wall()}))
                return RunHold(run_id, run_dir, lock)
        raise _busy(run_id, run_dir)

    def check(self, run_dir: Path) -> None:
        """Raise StoreError unless this is a hold, still held, of the run in `run_dir`."""
        if not self.held or self.run_dir != run_dir:
            raise StoreError(
                f"Run {self.run_id} is no longer held by this process.", "Hold it again before writing."
            )

    def release(self) -> None:
        """Let others hold the run. Harmless when done twice."""
        self._lock.write_text("")
        self._lock.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


def busy_with(run_id: str, process: ProcessIdentity, since_wall: float | None) -> RunBusyError:
    """The error for a run that `process` works on."""
    since = f" since {local_text(since_wall)}" if since_wall else ""
    return RunBusyError(
        f"Run {run_id} is in use by process {process.pid}{since}.",
        f"Wait for it to end, end it with 'backprop stop {run_id}', or start another run.",
    )


def holder_of(run_dir: Path) -> ProcessIdentity | None:
    """The process that holds the run now, where it is known."""
    return ProcessIdentity.from_json(_note(run_dir)) if is_locked(run_dir / LOCK_FILE) else None


def held_since(run_dir: Path) -> float | None:
    """When the run was last held, seconds since 1970, where it is known."""
    return as_instant(as_object(_note(run_dir)).get("since_wall"))


def _note(run_dir: Path) -> Any:
    try:
        return decode(read_regular(run_dir / LOCK_FILE, 4096))
    except (OSError, ValueError):
        return None


def _busy(run_id: str, run_dir: Path) -> RunBusyError:
    note = _note(run_dir)
    holder = ProcessIdentity.from_json(note)
    if holder is None:
        return RunBusyError(
            f"Run {run_id} is in use by another process.", "Wait for it to end, or use another --run-id."
        )
    return busy_with(run_id, holder, held_since(run_dir))
