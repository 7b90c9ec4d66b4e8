"""A run is found by what is in its folder of checkpoints, also where our home is another one or was tidied by hand."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

import backprop


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("BACKPROP_RUN_ID", "BACKPROP_RUN_DIR", "BACKPROP_ATTEMPT", "SLURM_JOB_END_TIME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("BACKPROP_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def piece(stop_at: int | None = None, **keywords: Any) -> tuple[list[int], backprop.TimeBox]:
    """Count to nine in a box; told to stop behind step `stop_at`."""
    seen: list[int] = []
    with backprop.timebox("1h", seen=seen, **keywords) as box:
        requests = box._inside().loops.session.requests
        for step in box.steps(10):
            seen.append(step)
            if step == stop_at:
                requests.hear_of(2)  # Ctrl-C, without pytest's
            box._inside().loops.session.wake = 0.0
    return seen, box


def test_a_folder_of_checkpoints_that_outlives_the_home_goes_on(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Three starts of one named run, each with a fresh home (Colab, a pod): each goes on where the one before was."""
    volume = tmp_path / "volume"
    for stop_at in (2, 5, None):
        seen, box = piece(stop_at, run="lasting", checkpoint_dir=volume)
        assert seen == list(range(10 if stop_at is None else stop_at + 1))
        shutil.rmtree(home)
    assert str(box.outcome) == "completed"
    assert "resumed from step 6" in capsys.readouterr().err
    assert not list(tmp_path.glob("*.before-attempt-*"))
    anew, _ = piece(2, run="lasting", checkpoint_dir=volume, resume=False)
    assert anew == [0, 1, 2]
    assert "set aside in" in capsys.readouterr().err


def test_resume_true_finds_what_a_lost_home_does_not_know(home: Path, tmp_path: Path) -> None:
    """resume=True needs something to resume: the folder is enough, and without it the run is not found."""
    piece(3, run="lasting", checkpoint_dir=tmp_path / "volume")
    shutil.rmtree(home)
    with pytest.raises(backprop.BackpropError, match="no run"):
        piece(None, run="lasting", resume=True)
    seen, box = piece(None, run="lasting", checkpoint_dir=tmp_path / "volume", resume=True)
    assert seen == list(range(10))
    assert box.resumed_from is not None


def test_two_runs_in_one_folder_do_not_mix(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The second run of a folder keeps its checkpoints below it, and goes on from them and not from the first one's."""
    volume = tmp_path / "volume"
    piece(7, run="first", checkpoint_dir=volume)
    piece(2, run="second", checkpoint_dir=volume)
    assert f"{volume}/second is used" in capsys.readouterr().err
    for run, step in (("second", 3), ("first", 8)):
        seen, box = piece(None, run=run, checkpoint_dir=volume)
        assert seen == list(range(10))
        assert box.resumed_from is not None
        assert box.resumed_from.name.startswith(f"step-{step:012d}")
        assert box.checkpoint is not None
        assert box.checkpoint.parent == (volume / "second" if run == "second" else volume)


def test_beginning_anew_takes_no_other_files_along(tmp_path: Path) -> None:
    """resume=False, twice: only this run's checkpoints are set aside, each time in a folder of their own."""
    volume = tmp_path / "volume"
    piece(2, run="again", checkpoint_dir=volume)
    (volume / "data.csv").write_text("the user's")
    for _ in range(2):
        seen, _ = piece(2, run="again", checkpoint_dir=volume, resume=False)
        assert seen == [0, 1, 2]
    assert (volume / "data.csv").exists()
    assert len(list(volume.glob("before-attempt-*/step-*"))) == 2
    assert len(list(volume.glob("step-*"))) == 1


def test_a_checkpoint_that_is_named_is_used_though_its_folder_is_begun_anew(tmp_path: Path) -> None:
    """resume=PATH of a checkpoint of the same run: the others are set aside, and that one is still found."""
    volume = tmp_path / "volume"
    _, box = piece(4, run="named", checkpoint_dir=volume)
    seen, box = piece(None, run="named", checkpoint_dir=volume, resume=str(box.checkpoint))
    assert seen == list(range(10))
    assert box.resumed_from is not None


def test_a_run_folder_that_was_removed_by_hand_is_made_anew(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The list still names the run; its box begins afresh, twice, and says so, instead of failing for ever."""
    piece(4, run="tidied")
    for _ in range(2):
        shutil.rmtree(home / "runs/tidied")
        seen, box = piece(2, run="tidied")
        assert seen == [0, 1, 2]
        assert "STARTS FROM SCRATCH" in capsys.readouterr().err
    seen, box = piece(None, run="tidied")
    assert seen == list(range(10))
    assert str(box.outcome) == "completed"


def _governed(home: Path, monkeypatch: pytest.MonkeyPatch, run: str, attempt: int, **more: str) -> None:
    """What a governor would have put into the environment."""
    folder = home / "runs" / run
    (folder / "attempts" / str(attempt)).mkdir(parents=True, exist_ok=True)
    values = {"RUN_ID": run, "RUN_DIR": str(folder), "ATTEMPT": str(attempt), "BUDGET_S": "3600", **more}
    for name, value in values.items():
        monkeypatch.setenv(f"BACKPROP_{name}", value)
    monkeypatch.setattr("backprop_core.session.join_run._boxes_of_run", {})
    monkeypatch.setattr("backprop_core.loop.timebox.leave_process", lambda: None)


def test_under_a_governor_a_run_is_found_by_its_folder_too(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`backprop run --run-id X` with a fresh home and the script's own checkpoint_dir goes on and leaves others alone."""
    volume = tmp_path / "volume"
    _governed(home, monkeypatch, "first", 1)
    piece(7, checkpoint_dir=volume)
    _governed(home, monkeypatch, "second", 1)
    piece(2, checkpoint_dir=volume)
    shutil.rmtree(home)
    for run, step in (("second", 3), ("first", 8)):
        _governed(home, monkeypatch, run, 1)
        seen, box = piece(None, checkpoint_dir=volume)
        assert seen == list(range(10))
        assert box.resumed_from is not None
        assert box.resumed_from.name.startswith(f"step-{step:012d}")


@pytest.mark.parametrize("restarted", [True, False])
def test_workers_that_torchrun_starts_again_go_on_inside_the_attempt(
    home: Path, monkeypatch: pytest.MonkeyPatch, restarted: bool
) -> None:
    """A second process of one attempt goes on from the first one's checkpoint where torchrun says that it is a restart."""
    _governed(home, monkeypatch, "workers", 1)
    piece(4)
    _governed(home, monkeypatch, "workers", 1)
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "1" if restarted else "0")
    seen, box = piece(None)
    assert seen == list(range(10))
    assert (box.resumed_from is not None) is restarted
