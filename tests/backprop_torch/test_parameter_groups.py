"""The tensors of an optimizer's groups, put back as a part of a script's state."""

from __future__ import annotations

import torch

from backprop_torch.parameter_groups import ParameterGroups


def test_an_optimizer_whose_tensors_are_exchanged_still_tells_its_state() -> None:
    """torch refuses to tell a state that holds a tensor of no group: what belongs to the tensors before goes with them."""
    before, after = (torch.nn.Parameter(torch.ones(2)) for _ in range(2))
    stays = torch.nn.Parameter(torch.ones(2))
    optimizer = torch.optim.Adam([before, stays])
    optimizer.state["calls"] = 3  # type: ignore[index]
    before.grad = stays.grad = torch.ones(2)
    optimizer.step()
    ParameterGroups(optimizer, "optimizer").set("tensors", ((after, stays),))
    assert list(optimizer.state) == ["calls", stays]
    assert list(optimizer.state_dict()["state"]) == ["calls", 1]
