"""Requests to a running attempt."""

from __future__ import annotations

import json
import os
import random
from pathlib import Path

import pytest

from backprop_core.errors import StoreError, UsageError
from backprop_core.runs.control import CONTROL_FILE, Action, ControlReader, send_control
from backprop_core.testing.clock import FakeClock
from tests.backprop_core.runs.conftest import Script


def test_each_request_arrives_once_in_order(tmp_path: Path, clock: FakeClock) -> None:
    """Two requests between two polls both arrive, oldest first, and never again."""
    reader = ControlReader(tmp_path / CONTROL_FILE, clock)
    assert reader.poll() == []
    send_control(tmp_path, "pause", clock=clock, why="too hot")
    send_control(tmp_path, Action.CONTINUE, clock=clock)
    send_control(tmp_path, "extend", extend_s=300.0, clock=clock)
    got = reader.poll()
    assert [request.action for request in got] == ["pause", "continue", "extend"]
    assert got[0].why == "too hot"
    assert got[2].extend_s == 300.0
    assert reader.poll() == []
    send_control(tmp_path, "stop", clock=clock)
    assert [request.action for request in reader.poll()] == ["stop"]
    late = ControlReader(tmp_path / CONTROL_FILE, clock)
    assert len(late.poll()) == 4


def test_serials_rise_also_over_a_damaged_file_and_a_clock_set_back(tmp_path: Path, clock: FakeClock) -> None:
    """A reader that has seen requests sees the one that follows a damaged file or a clock that went back."""
    reader = ControlReader(tmp_path / CONTROL_FILE, clock)
    first = send_control(tmp_path, "pause", clock=clock)
    assert len(reader.poll()) == 1
    clock.jump_wall(-3600.0)
    second = send_control(tmp_path, "continue", clock=clock)
    assert second.serial > first.serial
    assert len(reader.poll()) == 1
    clock.jump_wall(3601.0)
    (tmp_path / CONTROL_FILE).write_bytes(b"\0garbage")
    assert reader.poll() == []
    send_control(tmp_path, "stop", clock=clock)
    assert [request.action for request in reader.poll()] == ["stop"]


HOSTILE = [
    b"", b"{", b"null", b"[]", b"{}", b'{"requests": 5}', b'{"requests": [null, 5, [], {}]}', b"\xff" * 100,
    b'{"requests": [{"serial": 1, "action": "rm -rf"}]}',
    b'{"requests": [{"serial": 1, "action": ["stop"]}]}',
    b'{"requests": [{"serial": true, "action": "stop"}]}',
    b'{"requests": [{"serial": -1, "action": "stop"}]}',
    b'{"requests": [{"serial": 1e99, "action": "stop"}]}',
    b'{"requests": [{"serial": 99999999999999999999999, "action": "stop"}]}',
    b'{"requests": [{"serial": 1, "action": "extend"}]}',
    b'{"requests": [{"serial": 1, "action": "extend", "extend_s": -5}]}',
    b'{"requests": [{"serial": 1, "action": "extend", "extend_s": NaN}]}',
    b'{"requests": [{"serial": 1, "action": "extend", "extend_s": 1e308}]}',
    b'{"requests": ' + b"[" * 60_000, b"[" * 200_000, b"9" * 60_000,
]  # fmt: skip


@pytest.mark.parametrize("content", HOSTILE, ids=lambda content: content[:30].decode("latin-1"))
def test_hostile_content_asks_for_nothing(tmp_path: Path, clock: FakeClock, content: bytes) -> None:
    """Whatever lies in the file, nothing is raised and nothing is asked; a real request still gets
    through.
    """
    (tmp_path / CONTROL_FILE).write_bytes(content)
    reader = ControlReader(tmp_path / CONTROL_FILE, clock)
    assert reader.poll() == []
    send_control(tmp_path, "checkpoint", clock=clock)
    assert [request.action for request in reader.poll()] == ["checkpoint"]


def test_a_good_request_among_bad_ones_arrives(tmp_path: Path, clock: FakeClock) -> None:
    """Bad entries are passed over one by one."""
    good = {"serial": 7, "action": "stop", "why": 5}
    (tmp_path / CONTROL_FILE).write_text(json.dumps({"requests": [{"serial": 9}, good, "x"]}))
    assert [request.serial for request in ControlReader(tmp_path / CONTROL_FILE, clock).poll()] == [7]


def test_torn_content_never_raises(tmp_path: Path, clock: FakeClock) -> None:
    """Cut at any byte or with bytes changed at random, the file is read without an exception."""
    send_control(tmp_path, "extend", extend_s=60.0, clock=clock)
    whole = (tmp_path / CONTROL_FILE).read_bytes()
    reader = ControlReader(tmp_path / CONTROL_FILE, clock)
    rng = random.Random(5)
    for cut in range(len(whole)):
        torn = bytearray(whole[:cut])
        if torn:
            torn[rng.randrange(len(torn))] = rng.randrange(256)
        (tmp_path / CONTROL_FILE).write_bytes(torn)
        reader.poll()


def test_pipes_folders_and_giants_do_not_hang(tmp_path: Path, clock: FakeClock) -> None:
    """A fifo, a folder or a huge file of that name is nothing to read."""
    path = tmp_path / CONTROL_FILE
    os.mkfifo(path)
    assert ControlReader(path, clock).poll() == []
    path.unlink()
    path.mkdir()
    assert ControlReader(path, clock).poll() == []
    path.rmdir()
    with path.open("wb") as file:
        file.truncate(10**9)
    assert ControlReader(path, clock).poll() == []


@pytest.mark.parametrize(
    ("action", "extend_s"),
    [
        ("fly", None),
        ("extend", None),
        ("stop", 5.0),
        ("extend", 0.0),
        ("extend", -1.0),
        ("extend", float("nan")),
    ],
)
def test_requests_that_make_no_sense_are_refused(
    tmp_path: Path, clock: FakeClock, action: str, extend_s: float | None
) -> None:
    """The sender is told at once, and nothing is written."""
    with pytest.raises(UsageError):
        send_control(tmp_path, action, extend_s=extend_s, clock=clock)
    assert not (tmp_path / CONTROL_FILE).exists()


def test_an_attempt_that_is_gone_is_a_store_error(tmp_path: Path, clock: FakeClock) -> None:
    """Asking an attempt whose folder was removed says so."""
    with pytest.raises(StoreError):
        send_control(tmp_path / "gone", "stop", clock=clock)


SENDER = """
import sys
from pathlib import Path
from backprop_core.runs.control import send_control
for _ in range(5):
    send_control(Path(sys.argv[1]), "checkpoint", why=sys.argv[2])
"""


def test_concurrent_senders_lose_nothing(tmp_path: Path, script: Script) -> None:
    """Four processes that ask at the same time are all heard."""
    senders = [script(SENDER, str(tmp_path), str(number)) for number in range(4)]
    assert [sender.wait() for sender in senders] == [0] * 4
    got = ControlReader(tmp_path / CONTROL_FILE).poll()
    assert sorted(request.why for request in got) == sorted("0123" * 5)
    assert len({request.serial for request in got}) == 20
