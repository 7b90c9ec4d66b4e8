"""What is around a Trainer's call: its globals and locals, while it runs and behind it."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from torch import nn
from torch.utils.data import DataLoader

from backprop_core.loop.trainer_frames import TrainerFrames
from backprop_core.script_state.namespace import DictNamespace
from backprop_core.script_state.state import ScriptState
from backprop_torch.framework import TorchFramework

_SCRIPT = """
def main(fit, look):
    steps = [1]
    fit(look)
    return look()
"""


def _calls() -> tuple[Callable[..., Any], Callable[..., Any]]:
    """A script's `main`, and the `fit` of a framework."""
    script: dict[str, Any] = {"__name__": "of_a_test"}
    exec(compile(_SCRIPT, str(Path(__file__).with_name("script_of_a_test.py")), "exec"), script)
    framework: dict[str, Any] = {"__name__": "framework.trainer"}
    exec(compile("def fit(look): look()", "<framework>", "exec"), framework)
    return script["main"], framework["fit"]


def test_the_same_is_found_in_the_call_and_behind_it() -> None:
    """The last checkpoint of a training that is complete is written when the call has returned."""
    main, fit = _calls()
    frames, found = TrainerFrames(["framework."], "fit"), list[dict[str, Any]]()

    def look() -> None:
        found.append({one.name: dict(one.items()) for one in frames.namespaces()})

    main(fit, look)
    inside, behind = found
    assert inside["main()"]["steps"] == [1]
    assert behind["main()"]["steps"] == [1]
    assert sys._getframe().f_code.co_name + "()" in inside


@pytest.mark.parametrize("counted", [True, False])
def test_an_iterator_over_a_loader_in_a_variable_is_named_where_no_loop_of_the_script_is_counted(
    counted: bool,
) -> None:
    """A Trainer counts its own loop only."""
    numbers: Any = range(20)
    batches = iter(DataLoader(numbers, batch_size=2))
    around = DictNamespace({"batches": batches}, "main", loops_counted=counted)
    state = ScriptState([around], frameworks=[TorchFramework()])
    state.baseline()
    next(batches)
    state.changed()
    assert [one.name for one in state.unkept()] == ([] if counted else ["main.batches"])


@pytest.mark.parametrize("counted", [True, False])
def test_an_iterator_that_a_hook_has_put_into_a_variable_is_named(counted: bool) -> None:
    """A loop of the script's makes it again on the way to its place; a Trainer's hooks do not run again."""
    variables: dict[str, Any] = {}
    state = ScriptState([DictNamespace(variables, "main", loops_counted=counted)])
    state.baseline()
    variables["deck"] = iter([1, 2, 3])
    state.changed()
    assert [one.name for one in state.unkept()] == ([] if counted else ["main.deck"])


def test_a_part_of_a_module_goes_by_the_name_of_a_variable_that_holds_it() -> None:
    """Whoever takes parts out of a stored state asks for their names, and does not make them up."""
    part = nn.Linear(2, 2)
    whole = nn.Sequential(part)
    around = DictNamespace({"backbone": part}, "main", loops_counted=False)
    state = ScriptState([("Net", whole), around], frameworks=[TorchFramework()])
    state.baseline()
    assert state.names_of({id(part)}) == {"main.backbone"}
    assert state.names_of({id(whole)}) == {"Net"}
