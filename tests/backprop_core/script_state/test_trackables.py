"""Objects that are restored all together, or not at all."""

from __future__ import annotations

from typing import Any

import pytest

from backprop_core.errors import StateMismatchError
from backprop_core.script_state.trackables import StateDictTracked, copied, restore_all


class Spread:
    """As torch's tensors that are spread over processes: `deepcopy` fails, and it makes copies itself."""

    def __init__(self, number: int) -> None:
        self.number = number

    def __deepcopy__(self, memo: dict[int, Any]) -> Spread:
        raise RuntimeError("invalid storage")

    def detach(self) -> Spread:
        return self

    def clone(self) -> Spread:
        return Spread(self.number)


class Model:
    def __init__(self, number: int) -> None:
        self.weights = [Spread(number)]

    def state_dict(self) -> dict[str, Any]:
        return {"weights": self.weights}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.weights[0].number = state["weights"][0].number


class Refusing(Model):
    def load_state_dict(self, state: dict[str, Any]) -> None:
        if state["weights"][0].number > 5:
            raise ValueError("too many")
        super().load_state_dict(state)


def test_what_copies_itself_is_put_back_when_another_object_refuses() -> None:
    """The copy that undoes a restore is one of values: the object changes in place, and its copy does not."""
    model, refusing = Model(1), Refusing(2)
    tracked = {"model": StateDictTracked(model), "other": StateDictTracked(refusing)}
    states = {"model": Model(7).state_dict(), "other": Model(8).state_dict()}
    with pytest.raises(StateMismatchError, match="restoring 'other' failed with ValueError"):
        restore_all(tracked, states, "A checkpoint")
    assert (model.weights[0].number, refusing.weights[0].number) == (1, 2)


class Silent(Model):
    def state_dict(self) -> dict[str, Any]:
        raise KeyError("weights")


def test_what_does_not_tell_its_state_leaves_all_others_as_they_were() -> None:
    """Nobody could put it back if another one refused, so nothing is restored at all."""
    model = Model(1)
    tracked = {"model": StateDictTracked(model), "other": StateDictTracked(Silent(2))}
    states = {"model": Model(7).state_dict(), "other": Model(8).state_dict()}
    with pytest.raises(StateMismatchError, match="restoring 'other' failed with KeyError"):
        restore_all(tracked, states, "A checkpoint")
    assert model.weights[0].number == 1


def test_what_cannot_be_copied_at_all_is_an_error() -> None:
    """A failing copy of anything else is not hidden."""

    class Stuck:
        def __deepcopy__(self, memo: dict[int, Any]) -> Stuck:
            raise RuntimeError("stuck")

    with pytest.raises(RuntimeError, match="stuck"):
        copied({"one": (1, [Stuck()])})
