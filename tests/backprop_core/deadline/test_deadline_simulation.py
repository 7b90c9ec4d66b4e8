"""Ten thousand boxes in simulated time: none late, nothing wasted, for every kind of step time."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backprop_core.deadline.decision import BoundaryAction, Decision
from backprop_core.deadline.forecast import Forecast, Phase
from backprop_core.session import conduct
from backprop_core.testing.simulation import FOREVER, SimulatedEnding, World, simulate

Steps = Callable[[random.Random, float], Iterator[float]]


def constant(rng: random.Random, mean_s: float) -> Iterator[float]:
    return itertools.repeat(mean_s)


def lognormal(rng: random.Random, mean_s: float) -> Iterator[float]:
    while True:
        yield mean_s * rng.lognormvariate(0.0, 0.25)


def drifting(rng: random.Random, mean_s: float) -> Iterator[float]:
    for step in itertools.count():
        yield mean_s * (1 + 0.002 * step) * rng.uniform(0.97, 1.03)


def jittery(rng: random.Random, mean_s: float) -> Iterator[float]:
    while True:
        yield mean_s * rng.uniform(0.3, 1.7)


def slow_start(rng: random.Random, mean_s: float) -> Iterator[float]:
    yield mean_s * 15
    while True:
        yield mean_s * rng.uniform(0.95, 1.05)


def with_rhythm(rng: random.Random, mean_s: float) -> Iterator[float]:
    """A validation every k steps that nobody announces."""
    every = rng.randint(20, 60)
    for step in itertools.count(1):
        yield mean_s * (12 if step % every == 0 else rng.uniform(0.9, 1.1))


def spiking(rng: random.Random, mean_s: float) -> Iterator[float]:
    while True:
        yield mean_s * (20 if rng.random() < 0.02 else rng.uniform(0.9, 1.1))


def hanging(rng: random.Random, mean_s: float) -> Iterator[float]:
    steps = rng.randint(5, 400)
    for _ in range(steps):
        yield mean_s * rng.uniform(0.9, 1.1)
    yield FOREVER


SMOOTH: list[Steps] = [constant, lognormal, drifting, jittery, slow_start]
ROUGH: list[Steps] = [with_rhythm, spiking, hanging]


def box(
    steps: Steps, seed: int, forecast: Forecast | None = None, *, governed: bool = True
) -> SimulatedEnding:
    rng = random.Random(seed)
    budget_s = rng.choice([3.0, 10.0, 60.0, 600.0])
    mean_s = budget_s * rng.choice([0.003, 0.008, 0.02])
    save_s = min(budget_s / 3, 10 ** rng.uniform(-3, 1.5))
    world = World(
        steps(rng, mean_s),
        save=lambda: save_s * rng.uniform(0.95, 1.05),
        exit=lambda: rng.uniform(0.1, 0.3),
        copy=save_s * 0.03,
        state_bytes=int(save_s * 500e6) + 1000,
    )
    return simulate(world, budget_s, forecast, governed=governed)


def unused_allowed_s(ending: SimulatedEnding) -> float:
    """DESIGN section 10: two of the longest recent steps, a quarter of a save, half a second."""
    allowed_s = 2 * ending.longest_recent_s + ending.last_save_s / 4 + 0.5 + 1e-9
    if (
        ending.learnt_last
    ):  # a save made to learn its cost, behind which a step and another save do not fit: nothing to do
        allowed_s += ending.last_save_s
    return allowed_s


SEEDS = [range(100), pytest.param(range(100, 1250), marks=pytest.mark.long)]
"""`make test` plays a part of the ten thousand boxes, `make test-long` the rest."""


@pytest.mark.parametrize("seeds", SEEDS, ids=["first", "rest"])
@pytest.mark.parametrize("steps", SMOOTH, ids=lambda steps: steps.__name__)
def test_smooth_boxes_are_on_time_and_use_it(steps: Steps, seeds: range) -> None:
    """Of 1,250 boxes none is late, none leaves more unused than the design allows, all steps but one are saved, and
    no save is cut off."""
    lost = 0
    for seed in seeds:
        ending = box(steps, seed)
        assert not ending.late, (seed, ending)
        assert ending.unused_s <= unused_allowed_s(ending), (seed, ending)
        assert ending.cut_off != "save", (seed, ending)
        lost += ending.steps - ending.saved_step > 1
    assert lost <= len(seeds) / 200


@pytest.mark.parametrize(
    "seeds", [range(100), pytest.param(range(100, 400), marks=pytest.mark.long)], ids=["first", "rest"]
)
@pytest.mark.parametrize("steps", SMOOTH, ids=lambda steps: steps.__name__)
def test_smooth_blocks_without_a_governor_are_left_in_time(steps: Steps, seeds: range) -> None:
    """Nobody ends a block from outside: of 400 none is left late, but for two in the longest step it ever saw, and what it
    trained is saved."""
    late = 0
    for seed in seeds:
        ending = box(steps, seed, governed=False)
        assert ending.guarded or not ending.late, (seed, ending)
        late += ending.late
        assert ending.saved_step == ending.steps, (seed, ending)
    assert late <= 2


def test_the_simulation_plays_the_code_that_ships(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the conduct that ships never decides to stop, simulated boxes are late or cut off, too."""
    monkeypatch.setattr(conduct, "decide", lambda facts: Decision(BoundaryAction.CONTINUE))
    assert box(constant, 1).cut_off == "step"
    world = World(itertools.repeat(0.05, 400), save=lambda: 0.1, exit=lambda: 0.2, copy=0.001)
    with pytest.raises(StopIteration):  # trained on far behind its deadline, until there were no more steps
        simulate(world, 10.0, governed=False)


@pytest.mark.parametrize("seeds", SEEDS, ids=["first", "rest"])
@pytest.mark.parametrize("steps", ROUGH, ids=lambda steps: steps.__name__)
def test_spikes_and_hangs_make_no_box_late(steps: Steps, seeds: range) -> None:
    """Of 1,250 boxes with spikes of 20 times a step, unannounced validations or hangs none is late, and in no more than 3% a
    save is still being written when the process has to be gone: then the one before is what there is.
    """
    cut_off = 0
    for seed in seeds:
        ending = box(steps, seed)
        assert not ending.late, (seed, ending)
        assert ending.saved_at is not None or ending.steps < 10, (seed, ending)
        cut_off += ending.cut_off == "save"
    assert cut_off <= 0.03 * len(seeds)


def test_a_hang_costs_little_near_the_deadline() -> None:
    """Where copies are cheap, a hang in the end zone costs one step."""
    hung = 0
    for seed in range(300):
        rng = random.Random(seed)
        steps = hanging(rng, 0.05)
        world = World(steps, save=lambda: 0.02, exit=lambda: 0.2, copy=0.0003, state_bytes=100_000)
        ending = simulate(world, 12.0)
        assert not ending.late
        assert ending.steps - ending.saved_step <= 1, (seed, ending)
        hung += ending.cut_off == "step"
    assert hung > 100


@pytest.mark.parametrize("factor", [0.1, 1.0, 10.0])
@pytest.mark.parametrize("steps", SMOOTH + ROUGH, ids=lambda steps: steps.__name__)
def test_priors_do_no_harm(steps: Steps, factor: float) -> None:
    """Priors that are right or wrong by ten times make no box late, and none stop before it has trained."""
    for seed in range(100):
        rng = random.Random(seed)
        budget_s = rng.choice([3.0, 10.0, 60.0, 600.0])
        mean_s = budget_s * rng.choice([0.003, 0.008, 0.02])
        save_s = min(budget_s / 3, 10 ** rng.uniform(-3, 1.5))
        forecast = Forecast()
        size = int(save_s * 500e6) + 1000
        forecast.learn(
            {
                "longest_s": {"plain": mean_s * factor, "first": mean_s * 3 * factor},
                "saves": [[size, save_s * factor]],
                "exit_s": 0.25,
            }
        )
        ending = box(steps, seed, forecast)
        assert not ending.late, (seed, ending)
        if steps in SMOOTH:
            assert ending.unused_s <= unused_allowed_s(ending), (seed, ending)


def test_a_validation_that_does_not_fit_is_not_begun() -> None:
    """With a validation of 3 s every 40 steps, once its length is known the box ends before one that would overrun."""
    for seed in range(300):
        rng = random.Random(seed)
        world = World(
            jittery(rng, 0.05),
            save=lambda: 0.3,
            exit=lambda: 0.2,
            copy=0.01,
            phase_of=lambda step: 3.0 if step % 40 == 39 else None,
        )
        forecast = Forecast()
        forecast.learn({"longest_s": {Phase.VALIDATION.value: 3.0}})
        ending = simulate(world, 20.0, forecast)
        assert not ending.late
        assert not ending.guarded, (seed, ending)


@pytest.mark.parametrize(
    ("budget_s", "save_s", "fewest", "most"), [(7200.0, 60.0, 9, 14), (300.0, 400.0, 1, 1)]
)
def test_periodic_saves_of_a_large_state(budget_s: float, save_s: float, fewest: int, most: int) -> None:
    """Two hours with saves of a minute see one every ten minutes; a save that is longer than the box is begun once."""
    world = World(itertools.repeat(0.5), save=lambda: save_s, exit=lambda: 0.2, copy=save_s / 40)
    assert fewest <= simulate(world, budget_s).saves_behind <= most


@pytest.mark.parametrize(
    "seeds", [range(50), pytest.param(range(50, 200), marks=pytest.mark.long)], ids=["first", "rest"]
)
def test_pauses_do_not_count(seeds: range) -> None:
    """A box that the governor pauses trains as long as one that it does not, and is as punctual."""
    for seed in seeds:
        rng = random.Random(seed)
        plain = World(constant(rng, 0.05), save=lambda: 0.2, exit=lambda: 0.2, copy=0.001)
        paused = World(
            constant(rng, 0.05),
            save=lambda: 0.2,
            exit=lambda: 0.2,
            copy=0.001,
            pause_after=lambda step: 7.0 if step % 50 == 25 else 0.0,
        )
        uncut, cut = simulate(plain, 20.0), simulate(paused, 20.0)
        assert not cut.late
        assert abs(uncut.steps - cut.steps) <= 4, (uncut, cut)
        assert cut.unused_s <= unused_allowed_s(cut)


@settings(max_examples=100, deadline=None)
@given(
    durations=st.lists(st.floats(0.001, 2.0), min_size=1, max_size=60),
    save_s=st.floats(0.001, 1.0),
    copy_share=st.floats(0.001, 0.2),
    exit_s=st.floats(0.0, 0.34),
    budget_s=st.floats(3.0, 60.0),
)
def test_any_sequence_of_steps_is_saved(
    durations: list[float], save_s: float, copy_share: float, exit_s: float, budget_s: float
) -> None:
    """Whatever the steps do, what was trained is not lost as a whole, and copies stay under 1% (and one first copy)."""
    world = World(
        itertools.cycle(durations), save=lambda: save_s, exit=lambda: exit_s, copy=save_s * copy_share
    )
    ending = simulate(world, budget_s)
    assert ending.saved_at is not None or ending.steps < 10
    assert ending.copies_s <= 0.01 * budget_s + save_s * copy_share + 1e-9
