"""The one table of options."""

from __future__ import annotations

import pytest

from backprop_core.config.options import Option


def test_an_option_that_does_not_say_what_it_takes_is_refused() -> None:
    """An option without a metavar would have no place on the command line; the table refuses it when it is made."""
    with pytest.raises(ValueError, match="what stands for it"):
        Option("max-energy-wh", "maxEnergyWh", float, "a number", None, "Energy.")
