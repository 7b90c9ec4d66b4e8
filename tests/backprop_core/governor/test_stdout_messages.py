from __future__ import annotations

import time
from itertools import pairwise
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from backprop_core.governor.stdout_messages import LONGEST_LINE, MOST_CHECKPOINTS, Listener

SAID = b'text\n{"step": 7, "loss": 0.5}\n{"event": "checkpoint_saved", "path": "a/b.pt"}\nmore'


@given(cuts=st.lists(st.integers(0, len(SAID)), max_size=8))
def test_lines_are_understood_however_the_stream_is_cut(cuts: list[int]) -> None:
    """The same facts come out wherever the pipe happens to cut the bytes."""
    listener = Listener(Path("/work"))
    places = [0, *sorted(cuts), len(SAID)]
    for begin, end in pairwise(places):
        listener.feed(SAID[begin:end])
    assert (listener.heard.step, listener.heard.loss) == (7, 0.5)
    assert list(listener.heard.checkpoints) == ["/work/a/b.pt"]


@given(data=st.binary(max_size=300))
def test_no_bytes_raise(data: bytes) -> None:
    """Whatever a script prints, listening to it does not fail."""
    listener = Listener(Path("/work"))
    listener.feed(data + b"\n{" + data + b"}\n")


def test_an_endless_line_takes_no_memory_and_the_next_is_understood() -> None:
    """A line beyond the limit is dropped as it comes; the one behind it counts again."""
    listener = Listener(Path("/work"))
    for _ in range(100):
        listener.feed(b"{" * LONGEST_LINE)
    listener.feed(b'}\n{"step": 1}\n')
    assert listener.heard.step == 1


def test_a_checkpoint_said_again_moves_to_the_end() -> None:
    """The newest announcement is the last of the list, and nothing stands there twice."""
    listener = Listener(Path("/work"))
    for name in ("a", "b", "a"):
        listener.feed(b'{"event": "checkpoint_saved", "path": "%s"}\n' % name.encode())
    assert list(listener.heard.checkpoints) == ["/work/b", "/work/a"]


def test_numbers_that_are_none_are_passed_over() -> None:
    """Booleans, huge integers and infinities are neither a step nor a loss."""
    listener = Listener(Path("/work"))
    for line in (
        b'{"step": true, "loss": false}',
        b'{"step": 1e400, "loss": Infinity}',
        b'{"step": 99999999999999999999999, "loss": ' + b"9" * 400 + b"}",
        b'{"step": 1.5, "loss": "0.1"}',
        b'{"event": "checkpoint_saved", "path": "\\ud800"}',
        b'[{"step": 1}]',
    ):
        listener.feed(line + b"\n")
    assert (listener.heard.step, listener.heard.loss, [*listener.heard.checkpoints]) == (None, None, [])


def test_a_flood_of_checkpoints_is_heard_in_linear_time_and_bounded_memory() -> None:
    """The second half of 20,000 announcements costs what the first did, and the newest thousand are kept."""
    listener = Listener(Path("/work"))
    took = []
    for half in range(2):
        data = b"".join(
            b'{"event": "checkpoint_saved", "path": "c%d.pt"}\n' % n
            for n in range(half * 10_000, (half + 1) * 10_000)
        )
        began = time.process_time()
        fresh = listener.feed(data)
        took.append(time.process_time() - began)
        assert fresh[-1] == f"/work/c{(half + 1) * 10_000 - 1}.pt"
    assert took[1] < 3 * took[0] + 0.5
    assert len(listener.heard.checkpoints) == MOST_CHECKPOINTS
    assert next(reversed(listener.heard.checkpoints)) == "/work/c19999.pt"
