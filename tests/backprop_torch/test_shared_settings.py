"""What parameter groups share, they share behind a resume, too: files that the script pickles have the same bytes."""

from __future__ import annotations

import pickle
import sys
from typing import Any

import pytest
import torch

from backprop_torch.objects import OptimizerTracked


def _optimizer() -> torch.optim.Optimizer:
    weights = [torch.nn.Parameter(torch.ones(2)) for _ in range(2)]
    return torch.optim.AdamW([{"params": [one]} for one in weights], betas=(0.9, 0.95))


def _pickled(optimizer: torch.optim.Optimizer) -> bytes:
    groups = [
        {key: value for key, value in group.items() if key != "params"} for group in optimizer.param_groups
    ]
    return pickle.dumps(groups)


def test_states_have_the_names_that_code_has() -> None:
    """What a script saves beside an optimizer may have one of its names, which is one object in the file then."""
    uncut, cut = _optimizer(), _optimizer()
    for parameter in uncut.param_groups[0]["params"]:
        parameter.grad = torch.ones(2)
    uncut.step()
    state = pickle.loads(pickle.dumps(OptimizerTracked(uncut).capture()))
    for values in state["state"].values():
        for name in list(values):
            values["".join(list(name))] = values.pop(name)
    OptimizerTracked(cut).restore(state)
    assert [
        {name: name is sys.intern(name) for name in values} for values in cut.state_dict()["state"].values()
    ] == [{"step": True, "exp_avg": True, "exp_avg_sq": True}]


def test_groups_share_their_betas_behind_a_restore() -> None:
    """torch's own loader copies the groups one by one, so that a tuple that both had was two; here it is one again."""
    uncut, cut = _optimizer(), _optimizer()
    uncut.param_groups[0]["lr"] = uncut.param_groups[1]["lr"] = 0.5
    state = pickle.loads(pickle.dumps(OptimizerTracked(uncut).capture()))
    OptimizerTracked(cut).restore(state)
    assert _pickled(cut) == _pickled(uncut)
    state["param_groups"][1]["betas"] = (0.5, 0.95)
    OptimizerTracked(cut).restore(state)
    assert [group["betas"] for group in cut.param_groups] == [(0.9, 0.95), (0.5, 0.95)]


class _Around(torch.optim.Optimizer):
    """Lends its groups from the optimizer inside, as SAM and Lookahead do; one kind passes on what it has loaded."""

    def __init__(self, inside: torch.optim.Optimizer, *, passes_on: bool) -> None:
        super().__init__(inside.param_groups, {})
        self.inside, self.passes_on = inside, passes_on
        self.param_groups = inside.param_groups

    def load_state_dict(self, state_dict: Any) -> None:
        super().load_state_dict(state_dict)
        if self.passes_on:
            self.inside.param_groups = self.param_groups


@pytest.mark.parametrize("passes_on", [False, True])
def test_groups_are_the_objects_that_they_were(passes_on: bool) -> None:
    """A callback that holds a group, and an optimizer inside, see what is set behind a restore."""
    uncut, cut = (_Around(_optimizer(), passes_on=passes_on) for _ in range(2))
    uncut.param_groups[1]["lr"] = 0.5
    state = pickle.loads(pickle.dumps(OptimizerTracked(uncut).capture()))
    held = [cut.param_groups, *cut.param_groups]
    OptimizerTracked(cut).restore(state)
    assert all(one is other for one, other in zip(held, [cut.param_groups, *cut.param_groups], strict=True))
    assert cut.inside.param_groups is cut.param_groups
    assert held[2]["lr"] == 0.5
    of_inside = OptimizerTracked(uncut.inside).capture()
    OptimizerTracked(cut.inside).restore(pickle.loads(pickle.dumps(of_inside)))
    assert cut.inside.param_groups is cut.param_groups
