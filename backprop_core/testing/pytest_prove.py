"""A fixture for a project's own tests: `pytest_plugins = ["backprop_core.testing.pytest_prove"]` in its conftest.py.

def test_my_training_survives_being_cut(prove):
    prove("train.py", "--epochs", "2", steps=40)
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest

from backprop_core.prove.ask import prove as prove_script
from backprop_core.prove.verdict import Proof


@pytest.fixture
def prove() -> Callable[..., Proof]:
    """As `backprop.prove`, but what is not bit-identical fails the test with its sentence."""
    return partial(prove_script, check=True)
