"""Requests to an attempt that is going on: one small file in its folder, replaced whole by whoever asks.

The file keeps the latest requests, each with a serial number, so that two that come shortly after one
another both arrive. It is data from outside: whatever else it holds is passed over.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path

from backprop_core.clock import SYSTEM, Clock
from backprop_core.errors import UsageError
from backprop_core.quick_dataclass import dataclass
from backprop_core.runs.atomic import read_regular, replace_file
from backprop_core.runs.locks import FileLock
from backprop_core.strict_json import (
    JSON,
    as_list,
    as_number,
    as_object,
    as_text,
    as_whole,
    as_word,
    decode,
    encode,
)

CONTROL_FILE = "control.json"
SLEPT = "the script was stopped for that long"
"""Why a budget is extended by the time that the process was held by SIGSTOP: no step took that long."""
STARTED_UP = "starting up does not count"
"""Why a budget that counts from the first step is extended by what came before it."""
MAX_EXTEND_S = 366 * 24 * 3600.0
_FORMAT = 1
_KEPT = 32
_LIMIT_BYTES = 64 * 1024
_MAX_SERIAL = 2**53
_LOCK_TIMEOUT_S = 5.0


class Action(StrEnum):
    """What can be asked of an attempt."""

    STOP = "stop"
    PAUSE = "pause"
    CONTINUE = "continue"
    CHECKPOINT = "checkpoint"
    EXTEND = "extend"
    JOB_ENDS = "job_ends"


@dataclass(frozen=True, slots=True)
class MovedEnds:
    """The scheduler's job has got another end.

    Attributes:
        job_wall: when the script must be gone for it, in seconds since 1970.
        deadline_wall: when the governor's time box ends now.
    """

    job_wall: float
    deadline_wall: float


@dataclass(frozen=True, slots=True)
class ControlRequest:
    """One request.

    Attributes:
        action: what is asked.
        extend_s: seconds to add to the budget, for `extend` alone.
        serial: rises with every request of an attempt.
        why: a plain sentence from whoever asks, or empty. For `job_ends`: what the end is called.
        ends: for `job_ends` alone.
    """

    action: Action
    extend_s: float | None
    serial: int
    why: str = ""
    ends: MovedEnds | None = None


class ControlReader:
    """Gives every request once. A poll of an unchanged file is one `stat`."""

    def __init__(self, path: Path, clock: Clock = SYSTEM) -> None:
        self.path = path
        self._name = os.fspath(path)
        self._seen = 0
        self._signature: tuple[int, int, int] | None = None

    def poll(self) -> list[ControlRequest]:
        """The requests that came since the last call, oldest first. Never raises for what the file holds."""
        try:
            facts = os.stat(self._name)  # noqa: PTH116 - a Path.stat would triple the cost of a boundary
        except OSError:
            return []
        signature = (facts.st_mtime_ns, facts.st_ino, facts.st_size)
        if signature == self._signature:
            return []
        self._signature = signature
        fresh = [request for request in _requests(self.path) if request.serial > self._seen]
        if fresh:
            self._seen = fresh[-1].serial
        return fresh


def pause_asked(attempt_dir: Path) -> bool:
    """Whether an attempt is paused by a request, or will be as soon as it reads the request."""
    asked = [request.action for request in _requests(attempt_dir / CONTROL_FILE)]
    return next((a is Action.PAUSE for a in reversed(asked) if a in (Action.PAUSE, Action.CONTINUE)), False)


def send_control(
    attempt_dir: Path,
    action: Action | str,
    *,
    extend_s: float | None = None,
    why: str = "",
    ends: MovedEnds | None = None,
    clock: Clock = SYSTEM,
) -> ControlRequest:
    """Ask the attempt in `attempt_dir` for `action`; returns the request as it was written.

    Args:
        extend_s: seconds, above 0 and at most `MAX_EXTEND_S`; needed for `extend` and refused otherwise.
        ends: needed for `job_ends` and refused otherwise.

    Raises:
        UsageError: no such action, or an extension that makes no sense.
        StoreError: the file cannot be written.
    """
    if action not in list(Action):
        raise UsageError(
            f"{action!r} is not a request that a run understands.", f"Choose one of {', '.join(Action)}."
        )
    if (action == Action.EXTEND) != (extend_s is not None):
        raise UsageError("An extension needs a duration, and nothing else takes one.", "For example: 5m.")
    if extend_s is not None and not 0 < extend_s <= MAX_EXTEND_S:
        raise UsageError(
            f"A run cannot be extended by {extend_s:g} s.", "Give a positive duration of at most a year."
        )
    if (action == Action.JOB_ENDS) != (ends is not None):
        raise UsageError("The job's end comes with two instants.", "Only the governor tells it.")
    path = attempt_dir / CONTROL_FILE
    with FileLock(attempt_dir / "control.lock") as lock:
        lock.wait(clock, _LOCK_TIMEOUT_S)
        earlier = _requests(path)
        # Wall milliseconds keep the serial rising even when the file was damaged and its numbers are lost.
        serial = max(earlier[-1].serial + 1 if earlier else 1, int(clock.wall() * 1000))
        request = ControlRequest(Action(action), extend_s, serial, why, ends)
        kept = [_to_json(item) for item in [*earlier, request][-_KEPT:]]
        replace_file(path, encode({"format_version": _FORMAT, "requests": kept}).encode(), lasting=False)
    return request


def _to_json(request: ControlRequest) -> JSON:
    return {
        "serial": request.serial,
        "action": request.action.value,
        "extend_s": request.extend_s,
        "why": request.why,
        **({} if request.ends is None else asdict(request.ends)),
    }


def _requests(path: Path) -> list[ControlRequest]:
    """The requests in `path` that make sense, by serial."""
    try:
        content = decode(read_regular(path, _LIMIT_BYTES))
    except (OSError, ValueError):
        return []
    items = as_list(as_object(content).get("requests"))
    found = {request.serial: request for request in map(_request, items) if request is not None}
    return [found[serial] for serial in sorted(found)]


def _request(item: object) -> ControlRequest | None:
    content = as_object(item)
    serial = as_whole(content.get("serial"), least=1, most=_MAX_SERIAL)
    action = as_word(Action, content.get("action"))
    if serial is None or action is None:
        return None
    extend_s = as_number(content.get("extend_s"))
    if action is Action.EXTEND and (extend_s is None or not 0 < extend_s <= MAX_EXTEND_S):
        return None
    ends = _ends(content) if action is Action.JOB_ENDS else None
    if action is Action.JOB_ENDS and ends is None:
        return None
    why = (as_text(content.get("why")) or "")[:500]
    return ControlRequest(action, extend_s if action is Action.EXTEND else None, serial, why, ends)


def _ends(content: Mapping[str, JSON]) -> MovedEnds | None:
    job_wall, deadline_wall = as_number(content.get("job_wall")), as_number(content.get("deadline_wall"))
    return None if job_wall is None or deadline_wall is None else MovedEnds(job_wall, deadline_wall)
