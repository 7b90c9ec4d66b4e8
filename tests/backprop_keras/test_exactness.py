"""Trainings that are cut anywhere give the same bits as trainings that never were, and never heard of backprop."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

import pytest

from tests.backprop_keras.cutting import CUTS, parts_that_differ, run_pieces

BACKENDS = ("tensorflow", "torch", "jax")


def names_in(file: str, decorator: str, backend: str = "") -> list[str]:
    """Names of the functions in `file` that stand under `@decorator`, or under one that names `backend` or none.

    Read from the source: importing it would import a backend here.
    """
    tree = ast.parse((Path(__file__).parent / file).read_text(encoding="utf-8"))
    names = []
    for node in tree.body:
        for mark in getattr(node, "decorator_list", []):
            assert isinstance(node, ast.FunctionDef)
            called = mark.func if isinstance(mark, ast.Call) else mark
            on = [a.value for a in getattr(mark, "args", []) if isinstance(a, ast.Constant)]
            if getattr(called, "id", "") == decorator and (not on or backend in on):
                names.append(node.name)
    return names


def kinds_on(backend: str) -> list[str]:
    """Names of the kinds for `backend`."""
    return names_in("kinds.py", "kind", backend)


QUICK = {
    "arrays_shuffled",
    "stock_callbacks",
    "own_loop",
    "workers_that_draw",
}
"""Kinds that `make test` trains on one backend, cut once."""
LONG = {
    "py_dataset_that_shuffles_itself",
    "cut_behind_a_validation",
    "loop_of_the_backends_own",
    "tensorboard_callback",
    "two_optimizers",
}
ON_TORCH = {
    "generator_that_draws_from_the_script",
    "cut_in_a_validation",
    "workers_that_draw_in_one_long_pass",
}
"""Kinds that `make test-long` trains on each, and on torch besides; `make test-faults` trains all and cuts each twice."""


def assert_exact(results: dict[str, Any], kinds: list[str], cuts: int = CUTS) -> None:
    assert kinds
    assert sorted(results) == sorted(kinds)
    for kind, result in results.items():
        early = result["outcomes"][:cuts]
        assert set(early) <= {"timeboxed", "preempted", "stopped"}, (kind, early, result["cut"].get("error"))
        assert result["outcomes"][cuts] == "completed", (kind, result["cut"].get("error"))
        heard = [epoch for piece in result["pieces"] for epoch in piece["epochs_ended"]]
        assert heard == sorted(set(heard)), f"{kind}: an epoch's end was told twice: {heard}"
    wrong = {
        kind: (result["at"], parts_that_differ(result["whole"], result["cut"]))
        for kind, result in results.items()
        if parts_that_differ(result["whole"], result["cut"])
    }
    assert not wrong


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("backend", "wanted"),
    [
        ("torch", QUICK),
        *(
            pytest.param(name, LONG | ON_TORCH if name == "torch" else LONG, marks=pytest.mark.long)
            for name in BACKENDS
        ),
    ],
    ids=["torch", *(f"{name}-long" for name in BACKENDS)],
)
def test_cut_trainings_equal_whole_ones(backend: str, wanted: set[str], tmp_path: Path) -> None:
    """Kinds of fit, cut at a random execution, each piece in a fresh process, end with the same weights, optimizer, metrics,
    History, callbacks and generators as a fit without BackpropCallback.
    """
    kinds = [kind for kind in kinds_on(backend) if kind in wanted]
    assert wanted == {*kinds} | ({"two_optimizers"} if backend == "jax" else set())
    assert_exact(run_pieces(backend, kinds, tmp_path, cuts=1, compile_once=True), kinds, cuts=1)


@pytest.mark.faults
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("backend", BACKENDS)
def test_every_training_cut_twice_equals_its_whole_one(backend: str, tmp_path: Path) -> None:
    """The same for every data source and option that docs/keras.md names, each cut at two random executions."""
    kinds = kinds_on(backend)
    assert_exact(run_pieces(backend, kinds, tmp_path), kinds)
