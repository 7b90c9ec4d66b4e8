"""What parameter groups share, they share behind a resume, too: files that the script pickles have the same bytes."""

from __future__ import annotations

import pickle
import sys

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
