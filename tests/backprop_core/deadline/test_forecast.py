"""Upper bounds from what was seen."""

from __future__ import annotations

import math
import random

from hypothesis import example, given
from hypothesis import strategies as st

from backprop_core.deadline.forecast import (
    STEP_MARGIN,
    UNSEEN_WRITE_BYTES_PER_S,
    WINDOW,
    DurationWindow,
    Forecast,
    Phase,
)

NONSENSE = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)
DURATIONS = st.lists(st.floats(1e-6, 1e3), min_size=1, max_size=120)


@given(DURATIONS)
def test_the_window_knows_its_two_longest(durations: list[float]) -> None:
    """The longest kept at hand is what sorting the newest 32 gives, a lone outlier left out."""
    window = DurationWindow()
    for duration in durations:
        window.observe(duration)
    recent = sorted(durations[-WINDOW:])
    expected = recent[-1]
    if len(recent) >= 4 and recent[-1] > 4 * recent[-2]:
        expected = recent[-2]
    assert window.longest() == expected


def test_the_first_slow_step_is_forgotten() -> None:
    """A first step that compiles for 30 s does not weigh on the bound for plain steps of 0.1 s."""
    forecast = Forecast()
    forecast.observe_gap(Phase.FIRST, 30.0)
    for _ in range(5):
        forecast.observe_gap(Phase.PLAIN, 0.1)
    assert forecast.gap_bound_s(Phase.PLAIN) < 0.2


def test_a_lone_spike_does_not_cost_thirty_steps() -> None:
    """One step of 20 times the others leaves the bound where it was."""
    forecast = Forecast()
    for step in range(60):
        forecast.observe_gap(Phase.PLAIN, 2.0 if step == 50 else 0.1)
    assert forecast.gap_bound_s(Phase.PLAIN) < 0.2


def test_a_rhythm_is_expected_from_the_third_on() -> None:
    """A long gap every 25 steps is reserved for just before it comes, and not in between."""
    forecast = Forecast()
    for step in range(1, 100):
        forecast.observe_gap(Phase.PLAIN, 3.0 if step % 25 == 0 else 0.1)
    assert forecast.gap_bound_s(Phase.PLAIN) > 3.0  # step 100 comes next
    forecast.observe_gap(Phase.PLAIN, 3.0)
    for _ in range(10):
        forecast.observe_gap(Phase.PLAIN, 0.1)
    assert forecast.gap_bound_s(Phase.PLAIN) < 0.2


def test_drift_is_followed() -> None:
    """Steps that grow by 1% each stay under the bound made from the ones before."""
    forecast, step_s = Forecast(), 0.1
    for _ in range(200):
        forecast.observe_gap(Phase.PLAIN, step_s)
        step_s *= 1.01
        assert step_s <= forecast.gap_bound_s(Phase.PLAIN)


def test_phases_do_not_mix() -> None:
    """A validation of 5 s raises the bound for validations alone."""
    forecast = Forecast()
    for _ in range(10):
        forecast.observe_gap(Phase.PLAIN, 0.1)
    forecast.observe_gap(Phase.VALIDATION, 5.0)
    assert forecast.gap_bound_s(Phase.VALIDATION) >= 5.0
    assert forecast.gap_bound_s(Phase.PLAIN) < 0.2


def test_before_any_save_the_size_decides() -> None:
    """With nothing seen, a save is expected at the speed of a slow disk; a seen one replaces that."""
    forecast = Forecast()
    assert forecast.save_bound_s(10**9) >= 10**9 / UNSEEN_WRITE_BYTES_PER_S
    forecast.observe_save(10**9, 1.0)
    assert 1.0 < forecast.save_bound_s(10**9) < 1.25
    assert forecast.save_bound_s(2 * 10**9) > 2.0


def test_the_fewer_saves_were_seen_the_less_is_known() -> None:
    """One save of a short while may be exceeded by half; three say enough; minutes do not vary by half."""
    forecast = Forecast()
    unsure = [forecast.unsure_save_s(10**8)]
    for _ in range(3):
        forecast.observe_save(10**8, 0.6)
        unsure.append(forecast.unsure_save_s(10**8))
    assert forecast.save_bound_s(10**8) + unsure[1] >= 1.5 * 0.6
    assert unsure[1] > unsure[2] > 0.0
    assert unsure[0] == unsure[3] == 0.0
    forecast = Forecast()
    forecast.observe_save(10**10, 60.0)
    assert forecast.unsure_save_s(10**10) < 0.5


def test_a_disk_that_varies_gets_a_wider_margin() -> None:
    """After saves of 1 s and 2 s the bound is more than 12% above the longest."""
    forecast = Forecast()
    for seconds in (1.0, 2.0, 1.2):
        forecast.observe_save(10**8, seconds)
    assert forecast.save_bound_s(10**8) > 2.0 * 1.3


def test_what_was_measured_comes_back_as_prior() -> None:
    """The next attempt begins with the longest durations and the saves of this one."""
    forecast = Forecast()
    for _ in range(5):
        forecast.observe_gap(Phase.PLAIN, 0.25)
    forecast.observe_save(1000, 0.5)
    later = Forecast()
    later.learn({**forecast.measured(), "exit_s": 0.8})
    assert math.isclose(later.gap_bound_s(Phase.PLAIN), 0.25 * STEP_MARGIN)
    assert later.save_bound_s(1000) >= 0.5
    assert later.exit_bound_s() >= 0.8


@given(NONSENSE)
@example([[0.0, 1.6e302]])
def test_a_record_of_nonsense_is_left_out(nonsense: object) -> None:
    """Whatever the record holds where durations belong, learning from it raises nothing and gives finite bounds."""
    forecast = Forecast()
    forecast.learn({"longest_s": nonsense, "saves": nonsense, "exit_s": nonsense})
    assert math.isfinite(forecast.gap_bound_s(Phase.PLAIN))
    assert math.isfinite(forecast.save_bound_s(10**6))
    assert math.isfinite(forecast.exit_bound_s())


def test_bounds_hold_as_often_as_promised() -> None:
    """Of lognormal steps at most one in 33 exceeds the bound made before it, as the theorem says."""
    rng, forecast, over = random.Random(5), Forecast(), 0
    for step in range(5_000):
        duration = 0.1 * rng.lognormvariate(0.0, 0.3)
        if step > WINDOW:
            over += duration > forecast.gap_bound_s(Phase.PLAIN)
        forecast.observe_gap(Phase.PLAIN, duration)
    assert over / 5_000 < 1 / 33
