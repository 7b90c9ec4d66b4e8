"""What `--checkpoint-glob` finds while a run goes on, and which of it is complete.

A file is complete when it has not changed for two seconds and no process of the run has it open for writing. Complete ones
are remembered at once, so that a governor that is killed leaves them in the record. When the script was killed, what it was
still writing is told from what it had finished.
"""

from __future__ import annotations

import glob
import os
from collections.abc import Callable, Collection, Iterator
from pathlib import Path

from backprop_cli.checkpoints import is_there
from backprop_core.clock import Clock
from backprop_core.config.sources import Settings
from backprop_core.quick_dataclass import dataclass

QUIET_S = 2.0
LOOK_EVERY_S = 1.0
_PAUSE_PER_LOOK = 300.0
"""A pattern that is dear to look for (`**` in a large tree) is looked for seldomer."""
_KEPT = 20
_MOST_ENTRIES = 10_000

Written = Callable[[], Collection[str]]
"""The files that processes of the run have open for writing."""


@dataclass(frozen=True, slots=True)
class State:
    """A file or folder at one look; equal when nothing was written. Instants in nanoseconds since 1970."""

    newest_ns: int
    nbytes: int
    entries: int


@dataclass(slots=True)
class _Seen:
    state: State
    since: float
    complete: bool = False
    written_to: bool = False


class Matches:
    """Watches one pattern during one attempt.

    Args:
        cwd: the folder that a relative pattern is meant from.
        pattern: as for the shell, with `**`.
        since_wall: when the attempt began, seconds since 1970; what is older is another's.
        clock: the time.
        written: asked before a file is called complete.
    """

    def __init__(self, cwd: Path, pattern: str, since_wall: float, clock: Clock, written: Written) -> None:
        self._cwd = cwd
        self._pattern = pattern
        self._since_ns = int(since_wall * 1e9)
        self._clock = clock
        self._written = written
        self._seen: dict[str, _Seen] = {}
        self._next_at = clock.monotonic()

    @classmethod
    def wanted_by(cls, settings: Settings, cwd: Path, clock: Clock, written: Written) -> Matches | None:
        """For the pattern that the user has named, from now on; None where there is none."""
        pattern = settings["checkpoint-glob"]
        return cls(cwd, pattern, clock.wall(), clock, written) if pattern else None

    def look(self) -> list[str]:
        """What has become complete since the last look, oldest first; cheap when it is not yet time for another."""
        now = self._clock.monotonic()
        if now < self._next_at:
            return []
        quiet = [path for path in self._update(now) if not self._seen[path].complete]
        written = self._written() if quiet else ()
        for path in quiet:
            seen = self._seen[path]
            seen.written_to = _is_written(path, written)
            seen.complete = not seen.written_to
        took_s = self._clock.monotonic() - now
        self._next_at = now + max(LOOK_EVERY_S, _PAUSE_PER_LOOK * took_s)
        return self._in_order(path for path in quiet if self._seen[path].complete)

    def at_end(self, *, killed: bool) -> tuple[list[str], list[str]]:
        """When no process of the run is left: what may be half-written, and what is complete, each oldest first.

        Args:
            killed: a signal ended the script; one that ended by itself has finished its files.
        """
        quiet = self._update(self._clock.monotonic())
        for path in quiet:
            seen = self._seen[path]
            seen.complete = seen.complete or not seen.written_to
        whole = [path for path, seen in self._seen.items() if seen.complete or not killed]
        torn = [path for path in self._seen if path not in whole]
        return self._in_order(torn)[-_KEPT:], self._in_order(whole)[-_KEPT:]

    def _update(self, now: float) -> list[str]:
        """Take in what is there now; the paths of what has been quiet for long enough."""
        states = dict(_states(self._cwd, self._pattern, self._since_ns))
        known, self._seen = self._seen, {}
        for path, state in states.items():
            before = known.get(path)
            changed = before is None or before.state != state
            self._seen[path] = _Seen(state, now) if before is None or changed else before
        wall_ns = self._clock.wall() * 1e9
        return [
            path
            for path, seen in self._seen.items()
            # By its own time where that can be trusted (the file system of another machine may have another clock).
            if now - seen.since >= QUIET_S
            or (path in known and seen.since < now and wall_ns - seen.state.newest_ns >= QUIET_S * 1e9)
        ]

    def _in_order(self, paths: Iterator[str] | Collection[str]) -> list[str]:
        return sorted(paths, key=lambda path: (self._seen[path].state.newest_ns, path))


def _states(cwd: Path, pattern: str, since_ns: int) -> Iterator[tuple[str, State]]:
    for name in glob.glob(pattern, root_dir=cwd, recursive=True):  # noqa: PTH207 - a Path refuses absolute patterns
        path = cwd / name
        try:
            state = state_of(path)
        except OSError:
            continue
        if state.newest_ns >= since_ns and is_there(path):
            yield str(path), state


def state_of(path: Path) -> State:
    """What a file or folder is now. Raises OSError if it cannot be looked at."""
    facts = path.stat()
    newest, nbytes, entries = facts.st_mtime_ns, facts.st_size, 1
    if path.is_dir():
        for folder, _, names in os.walk(path):
            for name in names:
                inner = os.lstat(os.path.join(folder, name))  # noqa: PTH118 - once a second
                newest, nbytes, entries = max(newest, inner.st_mtime_ns), nbytes + inner.st_size, entries + 1
            if entries > _MOST_ENTRIES:
                break
    return State(newest, nbytes, entries)


def _is_written(path: str, written: Collection[str]) -> bool:
    if not written:
        return False
    real = os.path.realpath(path)
    return any(name == real or name.startswith(real + os.sep) for name in written)
