"""What happens in an attempt, one JSON object a line, appended by one process and readable while it grows."""

from __future__ import annotations

import os
import stat
import threading
from collections.abc import Collection, Iterator
from dataclasses import field
from pathlib import Path
from typing import Any

from backprop_core.clock import Clock
from backprop_core.events.kinds import CheckpointSaved, Ended, Event, SessionStarted
from backprop_core.own_descriptor import OwnDescriptor
from backprop_core.quick_dataclass import dataclass
from backprop_core.runs.atomic import open_regular
from backprop_core.strict_json import as_float, as_instant, as_object, as_place, as_whole, decode, encode

MAX_LINE_BYTES = 64 * 1024
_CHUNK_BYTES = 1024 * 1024
_LONG_TEXT = 2000

Line = dict[str, Any]
"""A decoded line; `kinds.read` makes an event of it."""


class EventLog:
    """The writing end of an events file.

    Every event has `kind`, `wall` (seconds since 1970), `monotonic` (seconds) and the facts of its kind. An
    append is one `write` of one line. It never raises: what cannot be written is counted in `dropped`, and
    the next line that gets through says so as `dropped_before`.
    """

    def __init__(self, path: Path, clock: Clock) -> None:
        self.path = path
        self.dropped = 0
        self._clock = clock
        self._lock = threading.Lock()
        self._descriptor: OwnDescriptor | None = None
        self._torn = False
        self._told = 0
        self._closed = False

    def write(self, event: Event) -> None:
        """Add one event now."""
        self.append(event.kind, **event.facts())

    def append(self, kind: str, /, **facts: object) -> None:
        """Add one line now: `write` is for what happens, this for what stands in no table of kinds. Values that JSON does
        not know are stored as numbers where possible, else as text.
        """
        event: dict[str, object] = {
            "kind": kind,
            "wall": self._clock.wall(),
            "monotonic": self._clock.monotonic(),
        }
        with self._lock:
            if self._closed:
                return
            try:
                self._write({**event, **facts})
            except (
                Exception
            ):  # a full disk, a folder that was removed, a value whose text raises: never the training's end
                self.dropped += 1

    def close(self) -> None:
        """Close the file; later appends do nothing."""
        with self._lock:
            self._closed = True
            descriptor, self._descriptor = self._descriptor, None
            if descriptor is not None:
                descriptor.close()

    def _write(self, event: dict[str, object]) -> None:
        if self.dropped > self._told:
            event["dropped_before"] = self.dropped - self._told
        line = encode(event).encode("ascii")
        if len(line) >= MAX_LINE_BYTES:
            line = encode(_shortened(event)).encode("ascii")
        if self._descriptor is None or not self._descriptor.is_ours:
            descriptor, self._torn = _open_for_append(self.path)
            self._descriptor = OwnDescriptor(descriptor)
        content = (b"\n" if self._torn else b"") + line + b"\n"
        written = os.write(self._descriptor.fd, content)
        self._torn = self._torn if written == 0 else written < len(content)
        if written < len(content):
            raise OSError("short write")
        self._told = self.dropped


class EventTail:
    """Follows an events file: `poll` gives what was added since, whole lines only."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._name = os.fspath(path)
        self._offset = 0
        self._rest = b""
        self._inode = 0

    def poll(self) -> list[Line]:
        """The events added since the last call, at most about a megabyte at a time; [] while there is no
        file.
        """
        try:
            facts = os.stat(self._name)  # noqa: PTH116 - four times a second
            if facts.st_size == self._offset and facts.st_ino == self._inode:
                return []
            file = open_regular(self._name)
        except OSError:
            return []
        with file:
            facts = os.fstat(file.fileno())
            if facts.st_size < self._offset or facts.st_ino != self._inode:  # replaced or cut: begin anew
                self._offset, self._rest, self._inode = 0, b"", facts.st_ino
            file.seek(self._offset)
            chunk = file.read(_CHUNK_BYTES)
        self._offset += len(chunk)
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        if len(self._rest) > _CHUNK_BYTES:
            self._rest = b""
        return [event for event in map(_parsed, lines) if event is not None]


@dataclass(slots=True)
class Highlights:
    """The latest facts of an attempt, as its events tell them."""

    step: int | None = None
    loss: float | None = None
    values: dict[str, float] = field(default_factory=dict)
    checkpoints: list[str] = field(default_factory=list)
    last_wall: float | None = None
    finished: Line | None = None


def read_events(path: Path) -> Iterator[Line]:
    """The events in `path`, oldest first; torn, foreign and undecodable lines are passed over, a missing
    file is empty.
    """
    try:
        file = open_regular(path)
    except OSError:
        return
    with file:
        while line := file.readline(_CHUNK_BYTES):
            event = _parsed(line)
            if event is not None:
                yield event


def read_kinds(path: Path, kinds: Collection[str]) -> list[Line]:
    """The events of some kinds, oldest first, out of a file that gains a line a second: the others are not even parsed."""
    words = [encode(kind).encode() for kind in kinds]
    found = []
    try:
        with open_regular(path) as file:
            while line := file.readline(_CHUNK_BYTES):
                if any(word in line for word in words):
                    event = _parsed(line)
                    if event is not None and event["kind"] in kinds:
                        found.append(event)
    except OSError:
        return []
    return found


def highlights(path: Path, *, last_bytes: int = 256 * 1024) -> Highlights:
    """What the last `last_bytes` of an events file say; cheap enough for a table of running runs."""
    found = Highlights()
    for event in last_events(path, last_bytes=last_bytes):
        _take(found, event)
    return found


def last_events(path: Path, *, last_bytes: int) -> list[Line]:
    """The events in the last `last_bytes` of an events file, oldest first."""
    try:
        with open_regular(path) as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - last_bytes))
            lines = file.read(last_bytes).split(b"\n")
    except OSError:
        return []
    return [event for event in map(_parsed, lines) if event is not None]


def _take(found: Highlights, event: Line) -> None:
    step, loss = as_whole(event.get("step")), as_float(event.get("loss"))
    found.step = found.step if step is None else step
    found.loss = found.loss if loss is None else loss
    for key, value in as_object(event.get("values")).items():
        if (number := as_float(value)) is not None:
            found.values[key] = number
    if event["kind"] == CheckpointSaved.kind and (path := as_place(event.get("path"))) is not None:
        found.checkpoints.append(path)
    if event["kind"] == SessionStarted.kind:
        found.finished = None  # a later box in the same process
    if event["kind"] == Ended.kind:
        found.finished = event
        last = as_place(event.get("checkpoint"))
        if last is not None and last not in found.checkpoints:
            found.checkpoints.append(last)
    found.last_wall = as_instant(event.get("wall")) or found.last_wall


def _parsed(line: bytes) -> Line | None:
    if not line.startswith(b"{") or len(line) > MAX_LINE_BYTES:
        return None
    try:
        event = decode(line)
    except ValueError:
        return None
    return event if isinstance(event, dict) and isinstance(event.get("kind"), str) else None


def _open_for_append(path: Path) -> tuple[int, bool]:
    """A descriptor, and whether the file ends in the middle of a line."""
    flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK
    descriptor = os.open(path, flags, 0o644)
    facts = os.fstat(descriptor)
    if not stat.S_ISREG(facts.st_mode):
        os.close(descriptor)
        raise OSError(f"{path} is not a regular file")
    torn = facts.st_size > 0 and os.pread(descriptor, 1, facts.st_size - 1) != b"\n"
    return descriptor, torn


def _shortened(event: dict[str, object]) -> dict[str, object]:
    """`event` with what made it too long cut off, so that readers of a tail never have to seek far."""
    short: dict[str, object] = {"shortened": True}
    for key, value in event.items():
        text = value if isinstance(value, str) else encode(value)
        short[key] = value if len(text) <= _LONG_TEXT else text[:_LONG_TEXT]
    return (
        short
        if len(encode(short)) < MAX_LINE_BYTES
        else {key: event[key] for key in ("kind", "wall", "monotonic")}
    )
