"""How a script uses time boxes is read, not executed."""

from __future__ import annotations

import ast
import textwrap

import pytest

from backprop_core.script_state.boxes import BoxUse, box_use


@pytest.mark.parametrize(
    ("script", "use"),
    [
        ("import torch", BoxUse.NONE),
        ("import backprop\nwith backprop.timebox():\n    pass", BoxUse.SURROUNDS),
        (
            "from backprop import timebox as t\nbox = t('5m')\nwith box as same:\n    same.log(a=1)",
            BoxUse.SURROUNDS,
        ),
        ("import backprop as bp\nwith bp.timebox(keep=3) as box:\n    f(box.remaining)", BoxUse.SURROUNDS),
        ("import backprop\ntry:\n    f()\nexcept backprop.BackpropError:\n    pass", BoxUse.SURROUNDS),
        ("import backprop\nwith backprop.timebox() as box:\n    for e in box.epochs(3): f()", BoxUse.DRIVES),
        ("import backprop\nwith backprop.timebox() as box:\n    box.step()", BoxUse.DRIVES),
        ("import backprop\nwith backprop.timebox() as box:\n    train(box)", BoxUse.DRIVES),
        ("import backprop\nwith backprop.timebox(model=model):\n    f()", BoxUse.DRIVES),
        ("import backprop\nwith backprop.timebox(run='mine'):\n    f()", BoxUse.DRIVES),
        ("import backprop\nwith backprop.timebox(**options):\n    f()", BoxUse.DRIVES),
        ("import backprop\nself.box = backprop.timebox()", BoxUse.DRIVES),
        ("import backprop\nmake = backprop.timebox", BoxUse.DRIVES),
        ("import backprop\nf(backprop)", BoxUse.DRIVES),
        ("from backprop_lightning import BackpropCallback", BoxUse.DRIVES),
    ],
)
def test_a_box_only_surrounds_where_nobody_can_tell_it_a_boundary(script: str, use: BoxUse) -> None:
    """Its own loops, named objects, a run of its own, a box that is handed on: each of these keeps the box as it is."""
    assert box_use(ast.parse(textwrap.dedent(script))) is use
