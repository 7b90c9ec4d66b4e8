"""The events log: what a crash, a full disk or a strange value does to it."""

from __future__ import annotations

import errno
import json
import math
import os
import signal
from pathlib import Path

import pytest

from backprop_core.runs.events import MAX_LINE_BYTES, EventLog, EventTail, highlights, read_events
from backprop_core.testing.clock import FakeClock
from tests.backprop_core.runs.conftest import Script, wait_until


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "events.jsonl"


def test_events_come_back_with_their_times(path: Path, clock: FakeClock) -> None:
    """What is appended is read again, in order, with wall and monotonic seconds."""
    log = EventLog(path, clock)
    log.append("session_started", pid=7, budget_s=600.0, deadline_wall=None)
    clock.advance(2.0)
    log.append("progress", step=1, loss=0.5)
    first, second = read_events(path)
    assert (first["kind"], first["pid"], first["wall"]) == ("session_started", 7, clock.wall() - 2.0)
    assert second["monotonic"] - first["monotonic"] == 2.0
    log.close()
    log.append("after")
    assert len(list(read_events(path))) == 2


def test_losses_that_json_has_no_word_for_survive(path: Path, clock: FakeClock) -> None:
    """nan and infinities are read back as such, and the file is strict JSON for other tools."""
    log = EventLog(path, clock)
    for loss in (math.nan, math.inf, -math.inf):
        log.append("progress", loss=loss, nested=[loss])
    nan, inf, minus = (event["loss"] for event in read_events(path))
    assert math.isnan(nan)
    assert (inf, minus) == (math.inf, -math.inf)
    for line in path.read_text().splitlines():
        json.loads(line, parse_constant=pytest.fail)


class Hostile:
    def __str__(self) -> str:
        raise RuntimeError("no text")


class Number:
    def __float__(self) -> float:
        return math.nan


def test_strange_values_never_raise(path: Path, clock: FakeClock) -> None:
    """Whatever a script logs, append returns; what has no text is counted as dropped and told in the next
    line.
    """
    log = EventLog(path, clock)
    loop: list[object] = []
    loop.append(loop)
    log.append("progress", loss=Number(), path=Path("a"), sets={1}, keys={(1, 2): 3})
    log.append("bad", value=Hostile())
    log.append("deep", value=loop)
    log.append("good", text="\ud800")
    first, deep, good = read_events(path)
    assert deep["value"] == ["(nested too deep)"]
    assert math.isnan(first["loss"])
    assert first["path"] == "a"
    assert log.dropped == 1
    assert deep["dropped_before"] == 1
    assert good["text"] == "\ud800"


def test_a_long_event_is_shortened(path: Path, clock: FakeClock) -> None:
    """One giant fact does not make a line that readers of the tail would have to seek for."""
    log = EventLog(path, clock)
    log.append("message", text="x" * 10**6, step=3)
    log.append("message", **{f"key{i}": "y" * 1999 for i in range(100)})
    first, second = read_events(path)
    assert first["shortened"] is True
    assert first["step"] == 3
    assert second["kind"] == "message"
    assert all(len(line) <= MAX_LINE_BYTES for line in path.read_bytes().splitlines())


def test_a_torn_last_line_is_passed_over_and_not_glued(path: Path, clock: FakeClock) -> None:
    """After a crash in the middle of a write, the torn line is skipped and the next event is whole."""
    EventLog(path, clock).append("one")
    with path.open("ab") as file:
        file.write(b'{"kind": "torn", "st')
    assert [event["kind"] for event in read_events(path)] == ["one"]
    EventLog(path, clock).append("two")
    assert [event["kind"] for event in read_events(path)] == ["one", "two"]


@pytest.mark.parametrize("cut", range(0, 60, 3))
def test_a_file_cut_anywhere_still_reads(path: Path, clock: FakeClock, cut: int) -> None:
    """Cut at any byte, the whole lines before the cut are all there."""
    log = EventLog(path, clock)
    log.append("one", step=1)
    size = path.stat().st_size
    log.append("two", step=2)
    with path.open("r+b") as file:
        file.truncate(size + cut)
    assert next(read_events(path))["kind"] == "one"


def test_junk_lines_are_passed_over(path: Path, clock: FakeClock) -> None:
    """Bytes that are no events, a hole of NULs and a nesting bomb do no harm."""
    path.write_bytes(
        b"\xff\xfe\n[1]\n{}\n" + b"\0" * 5000 + b"\n" + b'{"kind":' + b"[" * 60000 + b"\n" + b'{"kind":1}\n'
    )
    EventLog(path, clock).append("good")
    assert [event["kind"] for event in read_events(path)] == ["good"]
    assert [event["kind"] for event in EventTail(path).poll()] == ["good"]


def test_a_full_disk_is_counted_not_raised(
    path: Path, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ENOSPC, also in the middle of a line, never raises; afterwards the log goes on, whole, and says what
    it lost.
    """
    log = EventLog(path, clock)
    log.append("one")
    real = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: real(fd, data[:10]))
    log.append("half")

    def full(fd: int, data: bytes) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    log.append("none")
    monkeypatch.setattr(os, "write", real)
    log.append("two")
    events = list(read_events(path))
    assert [event["kind"] for event in events] == ["one", "two"]
    assert events[1]["dropped_before"] == 2
    assert log.dropped == 2


@pytest.mark.parametrize("place", ["/dev/full", "/proc/none/events.jsonl"])
def test_a_place_that_cannot_be_written_never_raises(place: str, clock: FakeClock) -> None:
    """A log in an impossible place counts, and training goes on."""
    log = EventLog(Path(place), clock)
    log.append("one")
    assert log.dropped == 1


def test_a_pipe_in_the_place_of_the_log_does_not_hang(path: Path, clock: FakeClock) -> None:
    """A fifo of that name is refused at once, for writing and for following."""
    os.mkfifo(path)
    log = EventLog(path, clock)
    log.append("one")
    assert log.dropped == 1
    assert EventTail(path).poll() == []


def test_a_tail_gives_whole_lines_once(path: Path, clock: FakeClock) -> None:
    """A tail waits for the newline, gives each event once, and begins anew when the file is replaced."""
    tail = EventTail(path)
    assert tail.poll() == []
    log = EventLog(path, clock)
    log.append("one")
    with path.open("ab") as file:
        file.write(b'{"kind": "tw')
    assert [event["kind"] for event in tail.poll()] == ["one"]
    with path.open("ab") as file:
        file.write(b'o"}\n')
    assert [event["kind"] for event in tail.poll()] == ["two"]
    assert tail.poll() == []
    path.unlink()
    EventLog(path, clock).append("new")
    assert [event["kind"] for event in tail.poll()] == ["new"]


def test_highlights_are_the_latest_news(path: Path, clock: FakeClock) -> None:
    """Step, loss, checkpoints and the end are found in the tail of a long log."""
    log = EventLog(path, clock)
    for step in range(3000):
        log.append("progress", step=step, loss=1.0 / (step + 1))
    log.append("checkpoint_saved", path="/c/step-2999", step=2999)
    log.append("progress", step=True, loss=None)
    log.append("session_finished", outcome="timeboxed", step=2999)
    found = highlights(path, last_bytes=4096)
    assert (found.step, found.loss, found.checkpoints) == (2999, 1.0 / 3000, ["/c/step-2999"])
    assert found.finished is not None
    assert highlights(path.with_name("none")).step is None


WRITER = """
import sys
from pathlib import Path
from backprop_core.clock import SYSTEM
from backprop_core.runs.events import EventLog
log = EventLog(Path(sys.argv[1]), SYSTEM)
step = 0
while True:
    log.append("progress", step=step, text="x" * 200)
    step += 1
"""


def test_a_killed_writer_leaves_whole_events(path: Path, script: Script) -> None:
    """SIGKILL in the middle of a flood of events loses at most the one being written."""
    process = script(WRITER, str(path))
    wait_until(lambda: path.exists() and path.stat().st_size > 100_000)
    process.send_signal(signal.SIGKILL)
    process.wait()
    steps = [event["step"] for event in read_events(path)]
    assert steps == list(range(len(steps)))
    assert len(steps) > 100
