"""The one table of options."""

from __future__ import annotations

import re

import pytest

from backprop_core.config.options import OPTIONS, Option


def test_an_option_that_does_not_say_what_it_takes_is_refused() -> None:
    """An option without a metavar would have no place on the command line; the table refuses it when it is made."""
    with pytest.raises(ValueError, match="what stands for it"):
        Option("max-energy-wh", "maxEnergyWh", float, "a number", None, "Energy.")


@pytest.mark.parametrize(
    "option", [one for one in OPTIONS if type(one.default) in (int, float)], ids=lambda option: option.name
)
def test_a_number_that_is_refused_is_told_the_bound_that_it_breaks(option: Option) -> None:
    """Whoever gives too much reads the most that is allowed, not only the least."""
    with pytest.raises(ValueError):
        option.parse("1e15")
    assert re.search(r"at most|from \d+ to \d+", option.allowed)
