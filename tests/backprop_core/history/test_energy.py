"""Energy out of readings of power."""

from __future__ import annotations

import pytest

from backprop_core.history.energy import Energy, PowerMeter, over_attempts, together


def test_a_steady_power_is_its_product_with_time() -> None:
    """300 W for an hour, read once a second, are 300 Wh, and count as measured."""
    meter = PowerMeter()
    for second in range(3601):
        meter.power(float(second), 300.0)
    energy = meter.energy(3605.0)
    assert energy is not None
    assert energy.watt_hours == pytest.approx(300.0)
    assert (energy.measured, energy.word) == (True, "measured")


def test_time_without_readings_is_estimated_and_said_to_be() -> None:
    """A probe that was silent for half of the time leaves a gap that the mean power fills, and that is in the words."""
    meter = PowerMeter()
    for second in [*range(901), *range(2700, 3601)]:
        meter.power(float(second), 200.0)
    energy = meter.energy(3600.0)
    assert energy is not None
    assert energy.watt_hours == pytest.approx(200.0)
    assert energy.word == "estimated, with readings for 50% of the time"
    assert PowerMeter().energy(10.0) is None


def test_a_counter_that_begins_anew_loses_only_that_moment() -> None:
    """What a counter gained counts whatever the gap; where it falls, nothing is made up."""
    meter = PowerMeter()
    for at_s, joules in ((0.0, 5.0), (100.0, 3605.0), (200.0, 0.0), (300.0, 3600.0)):
        meter.counter(at_s, joules)
    assert meter.joules == 7200.0
    assert meter.covered_s == 200.0
    sources = [energy for energy in (meter.energy(200.0), meter.energy(400.0)) if energy is not None]
    both = together(sources)
    assert both is not None
    assert both.watt_hours == pytest.approx(2.0 + 4.0)
    assert both.measured is False
    assert together([]) is None


def test_a_box_without_readings_gets_the_mean_of_the_others() -> None:
    """100 s with 10 Wh and 300 s of which nothing is known are 40 Wh, estimated from a quarter of the time."""
    energy = over_attempts([(100.0, Energy(10.0, measured=True, share=1.0)), (300.0, None)])
    assert energy is not None
    assert energy.watt_hours == pytest.approx(40.0)
    assert energy.word == "estimated, with readings for 25% of the time"
    assert over_attempts([(100.0, None)]) is None
