"""How often the ranks of a training talk."""

from __future__ import annotations

from typing import Any

import pytest

from backprop_torch.agreement_interval import batches_to_next_talk


class _Session:
    """A session with steps of a given length and much time left."""

    def __init__(self, step_s: float, left_s: float, grace_s: float = 30.0, mean_s: float = 0.0) -> None:
        self.steps = 100
        self.mean_step_s = mean_s
        self.settings = type("S", (), {"grace_s": grace_s})
        self.requests = type("R", (), {"signalled": False})
        self.forecast = type("F", (), {"longest_step_s": lambda _: step_s})()
        self.pacer = type("P", (), {"save_s": lambda _: 0.5, "exit_s": lambda _: 0.5})()
        self.remaining_s = lambda: left_s


def test_talk_costs_less_than_a_thousandth_of_the_steps() -> None:
    """With steps of 50 ms and 0.8 ms for a talk it takes under 0.1% of the time, and comes thick near the end."""
    far: Any = _Session(0.05, 1000.0)
    assert 0.0008 / (batches_to_next_talk(far, 0.0008, 1) * 0.05) < 0.001
    near: Any = _Session(0.05, 1.2)
    assert batches_to_next_talk(near, 0.0008, 1) == 1
    over, talks, left_s = 0, 0, 1000.0
    while left_s > 1.1:
        batches = batches_to_next_talk(_Session(0.05, left_s), 0.0008, 1)  # type: ignore[arg-type]
        talks, left_s = talks + 1, left_s - batches * 0.05
        over = max(over, int(left_s < 1.0))
    assert over == 0
    assert talks * 0.0008 / 1000 < 0.001


@pytest.mark.parametrize(("grace_s", "heard_within_s"), [(30.0, 3.0), (4.0, 1.0), (0.0, 0.25)])
def test_a_stop_signal_is_heard_while_its_grace_lasts(grace_s: float, heard_within_s: float) -> None:
    """Where short steps make talk dear, it comes within a quarter of the grace and 3 s, four times a second at most."""
    step_s, slow_talk_s = 0.002, 0.02
    session: Any = _Session(step_s, 10_000.0, grace_s)
    assert batches_to_next_talk(session, slow_talk_s, 1) * step_s == pytest.approx(heard_within_s)


def test_what_lies_between_two_talks_is_not_one_long_step() -> None:
    """The forecast knows a gap of 40 steps as one of 2 s: the next talk is as far off, unless the deadline is near."""
    far: Any = _Session(2.0, 1000.0, mean_s=0.05)
    assert batches_to_next_talk(far, 0.004, 1) == pytest.approx(3.0 / 0.0625, abs=1)
    near: Any = _Session(2.0, 10.0, mean_s=0.05)
    assert batches_to_next_talk(near, 0.004, 1) == 2
