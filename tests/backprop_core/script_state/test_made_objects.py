"""Objects that an installed package makes while a script trains are made anew; half of one never is."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from backprop_core.script_state.state import ScriptState

PACKAGE = """
class Optimizer:
    made = 0

    def __init__(self):
        Optimizer.made += 1
        self.rates, self.step = [0.5], 0

class Estimator:
    def partial_fit(self):
        if not hasattr(self, "optimizer"):
            self.optimizer = Optimizer()
        self.optimizer.step += 1
        self.optimizer.rates.append(0.5 / self.optimizer.step)
"""


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """An installed package with an estimator, whose optimizer its first step makes."""
    folder = tmp_path / "site-packages"
    folder.mkdir()
    (folder / "estimating.py").write_text(PACKAGE)
    monkeypatch.syspath_prepend(str(folder))
    yield importlib.import_module("estimating")
    del sys.modules["estimating"]


def _watched(estimator: Any) -> ScriptState:
    state = ScriptState([("estimator", estimator)], made_again=True)
    state.baseline()
    return state


def test_what_the_first_step_of_a_package_made_is_made_anew_without_its_init(package: Any) -> None:
    """The optimizer of an estimator comes back whole, as an object of its own; the package's __init__ is not run for it."""
    trained = package.Estimator()
    state = _watched(trained)
    trained.partial_fit()
    trained.partial_fit()
    saved = state.changed()
    assert state.unkept() == []
    fresh = package.Estimator()
    again, made = _watched(fresh), package.Optimizer.made
    assert not again.lacks(saved)
    assert again.restore(saved).missing == []
    assert (type(fresh.optimizer), vars(fresh.optimizer)) == (package.Optimizer, vars(trained.optimizer))
    assert fresh.optimizer is not trained.optimizer
    assert package.Optimizer.made == made


def test_what_is_none_until_it_is_asked_for_is_made_anew(package: Any) -> None:
    """A cache that a package's __init__ leaves empty holds no other object here: what filled it is made."""
    trained, fresh = package.Estimator(), package.Estimator()
    trained.optimizer = fresh.optimizer = None
    state = _watched(trained)
    trained.optimizer = package.Optimizer()
    saved = state.changed()
    again = _watched(fresh)
    assert not again.lacks(saved)
    assert again.restore(saved).missing == []
    assert vars(fresh.optimizer) == vars(trained.optimizer)


def test_what_is_missing_is_named_once() -> None:
    """An object that its class makes in a way of its own cannot be made: it is named, and not again as part of its owner."""

    class Result:
        loss = 0.0

        def __new__(cls) -> Result:
            made = object.__new__(cls)
            made.loss = 0.5
            return made

    trained, fresh = SimpleNamespace(best=None), SimpleNamespace(best=None)
    state, again = (ScriptState([("results", one)], made_again=True) for one in (trained, fresh))
    state.baseline()
    again.baseline()
    trained.best = Result()
    assert [one.name for one in again.restore(state.changed()).missing] == ["results.best"]


def test_an_object_of_which_only_changes_are_stored_is_named_and_not_made(package: Any) -> None:
    """It was there at the first boundary, so the checkpoint lacks what did not change: to make it would be half of it."""
    trained = package.Estimator()
    trained.partial_fit()
    state = _watched(trained)
    trained.partial_fit()
    saved = state.changed()
    fresh = package.Estimator()
    again = _watched(fresh)
    assert again.lacks(saved)
    assert [one.name for one in again.restore(saved).missing] == ["estimator.optimizer"]
    assert not hasattr(fresh, "optimizer")
