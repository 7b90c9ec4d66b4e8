"""What a user may have left in the environment."""

from __future__ import annotations

import pytest

from backprop_core.errors import BudgetError
from backprop_core.session.settings import make_settings


@pytest.mark.parametrize("name", ["BACKPROP_GRACE_S", "BACKPROP_CHECKPOINT_EVERY_S"])
@pytest.mark.parametrize("text", ["nonsense", "nan", "-1"])
def test_a_variable_that_is_no_duration_is_named(name: str, text: str) -> None:
    """The error says which variable holds what, and what may stand there."""
    with pytest.raises(BudgetError, match=name):
        make_settings(environ={name: text})


@pytest.mark.parametrize(("text", "seconds"), [("30.5", 30.5), ("90s", 90.0), ("0", 0.0)])
def test_a_grace_in_the_environment_is_taken(text: str, seconds: float) -> None:
    """As seconds or as a duration; zero is one, too."""
    assert make_settings(environ={"BACKPROP_GRACE_S": text}).grace_s == seconds
