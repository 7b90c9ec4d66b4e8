"""What a git checkout differs from its commit in: asked of git itself, bounded in size and time."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from backprop_core.clock import Clock
from backprop_core.provenance.bounded_output import Printed, printed_by
from backprop_core.quick_dataclass import dataclass
from backprop_core.runs.provenance import git_commit

MOST_DIFF_BYTES = 256 * 1024
MOST_UNTRACKED = 100
PATIENCE_S = 1.0
"""A checkout of a hundred thousand files takes longer; a start does not wait for it."""
_NO_SURPRISES = ("--no-optional-locks", "-c", "core.fsmonitor=false", "-c", "core.quotePath=false")


@dataclass(frozen=True, slots=True)
class GitState:
    """A checkout at one moment.

    Attributes:
        commit: in hex; None where it has none yet.
        diff: what tracked files differ in from it; empty where they do not. None where that is not known.
        untracked: untracked files and does not ignore, the first `MOST_UNTRACKED`.
        note: what is missing here and why; empty where nothing is.
    """

    commit: str | None
    diff: str | None = None
    untracked: tuple[str, ...] = ()
    note: str = ""


def git_state(folder: Path, clock: Clock) -> GitState | None:
    """The state of the checkout around `folder`; None outside of one. Takes `PATIENCE_S` at most, and never raises."""
    if not any(_exists(place / ".git") for place in (folder, *folder.parents)):
        return None
    commit, program = git_commit(folder), shutil.which("git")
    if program is None:
        return GitState(commit, note="git is not installed, so changes since the commit are unknown.")
    if commit is None:
        return GitState(None, note="The repository has no commit yet.")
    deadline = clock.monotonic() + PATIENCE_S
    compare = ("diff", "--no-ext-diff", "--no-textconv", "--no-color", "HEAD")
    diff = _ask(program, folder, compare, MOST_DIFF_BYTES, deadline, clock)
    others = ("ls-files", "--others", "--exclude-standard", "-z")
    names = _ask(program, folder, others, MOST_DIFF_BYTES, deadline, clock)
    untracked = [name.decode("utf-8", "replace") for name in names.data.split(b"\0") if name]
    notes = [f"{what} is not known: {asked.trouble}." for what, asked in _both(diff, names) if asked.trouble]
    if not diff.whole:
        notes.append(f"Only the first {MOST_DIFF_BYTES // 1024} KiB of the diff are kept.")
    if len(untracked) > MOST_UNTRACKED or not names.whole:
        notes.append(f"Only {MOST_UNTRACKED} of the untracked files are listed.")
    return GitState(
        commit,
        None if diff.trouble else diff.data.decode("utf-8", "replace"),
        tuple(untracked[:MOST_UNTRACKED]),
        " ".join(notes),
    )


def _both(diff: Printed, names: Printed) -> list[tuple[str, Printed]]:
    return [("What has changed since the commit", diff), ("Which files are untracked", names)]


def _ask(
    program: str, folder: Path, words: tuple[str, ...], most_bytes: int, deadline: float, clock: Clock
) -> Printed:
    environ = {**os.environ, "GIT_TERMINAL_PROMPT": "0", "LC_ALL": "C"}
    argv = (program, *_NO_SURPRISES, *words)
    return printed_by(argv, folder, environ, most_bytes=most_bytes, deadline=deadline, clock=clock)


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:
        return False
