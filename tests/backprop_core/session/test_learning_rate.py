"""The learning rate beside what a script logs: read where it is, and never in the place of a logged one."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from backprop_core.session.learning_rate import LEARNING_RATE, rate_of, with_rate


class _OneNumber:
    def __float__(self) -> float:
        return 0.25


class _Several:
    def __float__(self) -> float:
        raise ValueError("more than one value")


@pytest.mark.parametrize(
    ("groups", "rate"),
    [
        ([{"lr": 0.1}, {"lr": 0.2}], 0.1),
        ([{"lr": _OneNumber()}], 0.25),
        ([{"lr": _Several()}], None),
        ([{}], None),
        ([], None),
        ("groups", None),
    ],
)
def test_the_first_group_tells(groups: object, rate: float | None) -> None:
    """Numbers and arrays of one are read; of everything else nothing is known, and nothing is raised."""
    assert rate_of([object(), SimpleNamespace(param_groups=groups)]) == rate


@pytest.mark.parametrize("name", ["lr", "train/lr", "lr-Adam", "learning_rate", "Learning-Rate"])
def test_a_logged_one_holds(name: str) -> None:
    """Where the script logs a learning rate by itself, ours does not stand beside it."""
    assert with_rate({name: 0.5}, 0.1) == {name: 0.5}
    assert with_rate({"loss": 0.5, "colour": 1}, 0.1) == {"loss": 0.5, "colour": 1, LEARNING_RATE: 0.1}
    assert with_rate({"loss": 0.5}, None) == {"loss": 0.5}
