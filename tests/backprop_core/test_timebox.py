"""What `timebox` refuses, and boxes one in another, one after another, and of an earlier run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import backprop


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("BACKPROP_RUN_ID", "BACKPROP_RUN_DIR", "BACKPROP_ATTEMPT", "SLURM_JOB_END_TIME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("BACKPROP_HOME", str(tmp_path))


@pytest.mark.parametrize(
    "keywords",
    [
        {"budget": "abc"},
        {"budget": 0},
        {"keep": 1},
        {"resume": 3},
        {"resume": True},
        {"resume": "/no/such/checkpoint"},
        {"run": " "},
        {"run": "../x"},
        {"grace": "-1s"},
        {"model": object()},
        {"backprop.x": []},
        {"run": "unknown", "resume": True},
    ],
)
def test_wrong_input_gets_a_sentence_and_no_run(keywords: dict[str, Any]) -> None:
    """A BackpropError with a hint, before the block is entered."""
    with pytest.raises(backprop.BackpropError) as caught, backprop.timebox(**keywords):
        pytest.fail("the block was entered")
    assert str(caught.value)


def test_a_box_inside_a_box_is_refused_clearly() -> None:
    """The inner one raises; the outer one goes on."""
    with backprop.timebox(losses=[]) as box:
        with pytest.raises(backprop.BoxError, match="already open"):
            backprop.timebox(losses=[]).__enter__()
        for _ in box.steps(2):
            pass
    assert str(box.outcome) == "completed"
    with pytest.raises(backprop.BoxError, match="used already"):
        box.__enter__()


def test_a_completed_run_is_not_continued_by_accident() -> None:
    """The same id again is an error; resume=True loads the final state; resume=False begins anew."""
    losses: list[int] = []
    with backprop.timebox(run="done", losses=losses) as box:
        for step in box.steps(3):
            losses.append(step)
    with (
        pytest.raises(backprop.UsageError, match="already completed"),
        backprop.timebox(run="done", losses=losses),
    ):
        pytest.fail("the block was entered")
    final: list[int] = []
    with backprop.timebox(run="done", resume=True, losses=final):
        assert final == [0, 1, 2]
    anew: list[int] = []
    with backprop.timebox(run="done", resume=False, losses=anew) as box:
        assert anew == []
        assert box.resumed_from is None
    other: list[int] = []
    with backprop.timebox(resume=str(box.checkpoint), losses=other):
        assert other == []
