"""What `timebox` refuses, and boxes one in another, one after another, and of an earlier run."""

from __future__ import annotations

import threading
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
        {"keep_every": 0},
        {"keep_every": True},
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


def test_milestones_stay_beside_the_newest(tmp_path: Path) -> None:
    """With keep_every=10 the first checkpoint at or after each tenth step stays, beside the newest two."""
    losses: list[int] = []
    with backprop.timebox(
        checkpoint_dir=tmp_path / "kept", checkpoint_every="0.001s", keep_every=10, losses=losses
    ) as box:
        session = box._inside().loops.session
        for step in box.steps(36):
            losses.append(step)
            session.requests.save_asked = True
            session.wake = 0.0
            session.saver.wait()
    steps = sorted(int(path.name.split("-")[1].split(".")[0]) for path in (tmp_path / "kept").glob("step-*"))
    for milestone in (10, 20, 30):
        assert min(step for step in steps if step >= milestone) < milestone + 5
    assert len(steps) < 12


def test_memory_for_copies_is_taken_before_the_deadline_presses() -> None:
    """After a few steps, in a thread of its own, the buffers hold the whole state; no checkpoint was due until then."""
    import numpy as np

    with backprop.timebox("1h", checkpoint_every="1h", weights=np.zeros(100_000)) as box:
        session = box._inside().loops.session
        for _ in box.steps(5):
            session.wake = 0.0
        threads = [thread for thread in threading.enumerate() if thread.name == "backprop-reserve"]
        for thread in threads:
            thread.join(30)
        assert sum(slot.nbytes for slot in session.saver._slots) >= 800_000


def test_a_completed_run_is_not_continued_by_accident(monkeypatch: pytest.MonkeyPatch) -> None:
    """The next process passes over it, resume=True trains on from it; resume=False begins anew."""
    losses: list[int] = []
    with backprop.timebox(run="done", losses=losses) as box:
        for step in box.steps(3):
            losses.append(step)
    monkeypatch.setattr("backprop_core.session.enrolment._completed", {})
    again: list[int] = []
    with backprop.timebox(run="done", losses=again) as box:
        for step in box.steps(3):
            again.append(step)
    assert (again, str(box.outcome)) == ([0, 1, 2], "completed")
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
