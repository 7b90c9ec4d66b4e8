"""Trainings that are cut anywhere give the same bits as trainings that never were, and never heard of backprop."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from tests.backprop_keras.cutting import CUTS, parts_that_differ, run_pieces

BACKENDS = ("tensorflow", "torch", "jax")


def kinds_on(backend: str) -> list[str]:
    """Names of the kinds for `backend`, read from the source: importing it would import a backend here."""
    tree = ast.parse((Path(__file__).parent / "kinds.py").read_text(encoding="utf-8"))
    names = []
    for node in tree.body:
        for decorator in getattr(node, "decorator_list", []):
            assert isinstance(node, ast.FunctionDef)
            if isinstance(decorator, ast.Call) and getattr(decorator.func, "id", "") == "kind":
                on = [a.value for a in decorator.args if isinstance(a, ast.Constant)]
                names += [node.name] if not on or backend in on else []
    return names


@pytest.mark.timeout(600)
@pytest.mark.parametrize("backend", BACKENDS)
def test_cut_trainings_equal_whole_ones(backend: str, tmp_path: Path) -> None:
    """Every kind of fit, cut twice at random executions, each piece in a fresh process, ends with the same weights,
    optimizer, metrics, History, callbacks and generators as a fit without BackpropCallback.
    """
    results = run_pieces(backend, kinds_on(backend), tmp_path)
    wrong = {
        kind: (result["at"], parts_that_differ(result["whole"], result["cut"]), result["cut"].get("error"))
        for kind, result in results.items()
        if parts_that_differ(result["whole"], result["cut"])
    }
    assert not wrong
    for kind, result in results.items():
        early = result["outcomes"][:CUTS]
        assert set(early) <= {"timeboxed", "preempted", "stopped"}, (kind, early)
        assert result["outcomes"][CUTS] == "completed", kind
        heard = [epoch for piece in result["pieces"] for epoch in piece["epochs_ended"]]
        assert heard == sorted(set(heard)), f"{kind}: an epoch's end was told twice: {heard}"
