"""What a Trainer does and leaves undone around a stop, trained in one fresh process."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.backprop_torch.cutting import environment

pytestmark = pytest.mark.timeout(900)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """All cases of `behaviour.py`, from one process."""
    folder = tmp_path_factory.mktemp("behaviour")
    ended = subprocess.run(
        [sys.executable, "-m", "tests.backprop_transformers.behaviour", str(folder)],
        env=environment(folder),
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    sys.stderr.write(ended.stderr[-30000:])
    assert ended.returncode == 0, ended.stderr[-4000:]
    result: dict[str, Any] = json.loads(ended.stdout.splitlines()[-1])
    return result


def test_a_stop_leaves_nothing_but_the_checkpoint(made: dict[str, Any]) -> None:
    """No evaluation, save, best model or epoch end after it, but `on_train_end`; the Trainer's methods are its own again."""
    stop = made["stop"]
    assert stop["outcome"] == "stopped"
    assert stop["step"] == 7
    assert stop["after"] == ["on_log", "on_train_end"]
    assert stop["folders"] == []
    assert stop["instance"] == []
    assert not stop["in_train"]
    assert stop["loss"]
    assert stop["checkpoint"] == "step-000000000007"


def test_the_code_behind_train_goes_on(made: dict[str, Any]) -> None:
    """Without a governor `train` returns at the deadline, its weights are in the checkpoint, and another `train` works."""
    assert made["deadline"]["first"] == ["timeboxed", 5, True]
    assert made["deadline"]["second"] == ["completed", 10]
    assert made["deadline"]["remaining"] > 0


def test_an_evaluation_that_was_left_is_made_up_for(made: dict[str, Any]) -> None:
    """Stopped inside an evaluation, nothing of it is logged, and the next attempt begins with it before any step."""
    pending = made["pending"]
    assert pending["left"] == ["stopped", 4, []]
    assert pending["begun"] == ["on_train_begin", "on_evaluate", "on_step_begin"]
    assert pending["outcome"] == "completed"
    assert pending["resumed"]


def test_trained_batches_are_not_loaded_again(made: dict[str, Any]) -> None:
    """After 12 steps of 4 in 2 epochs of 38 samples, the second attempt loads the rest; what was fetched ahead it has."""
    skipped = made["skipped"]
    assert skipped["outcome"] == "completed"
    assert skipped["loaded"] == 2 * 38 - (38 + 3 * 4)


def test_the_newer_of_two_checkpoints_wins(made: dict[str, Any]) -> None:
    """`resume_from_checkpoint` does not go back behind our checkpoint, nor ours behind a later one, and that is said."""
    older, newer = made["users_checkpoint"]["older"], made["users_checkpoint"]["newer"]
    assert older["from"].endswith("step-000000000007")
    assert "which is newer than the script's own" in older["said"]
    assert "checkpoint-4 of step 4." in older["said"]
    assert newer["from"].endswith("checkpoint-4")
    assert "checkpoint-4 of step 9, which is newer than" in newer["said"]
    assert newer["outcome"] == "completed"


def test_another_model_is_refused_whole(made: dict[str, Any]) -> None:
    """A checkpoint of other shapes ends in one error that names what does not fit; not a bit of the model has changed."""
    mismatch = made["mismatch"]
    assert mismatch["error"].startswith("StateMismatchError: Checkpoint ")
    assert "what was saved as 'model' has" in mismatch["error"]
    assert "Nothing was restored." in mismatch["error"]
    assert mismatch["same"]
    assert mismatch["optimizer"] == 0
    assert mismatch["outcome"] == "failed"
    assert not mismatch["replaced"]


def test_the_users_error_stays_the_users(made: dict[str, Any]) -> None:
    """An exception in a callback reaches the caller unchanged, and the run has failed."""
    assert made["users_error"] == {"error": '"the user\'s own"', "outcome": "failed", "replaced": False}


def test_a_completed_run_is_not_trained_again(made: dict[str, Any]) -> None:
    """With `resume=True` its final state is loaded, no sample is, and its history and mean loss are the same."""
    assert made["completed"] == {"step": 10, "loaded": 0, "same": True, "entries": True, "loss": True}


def test_other_trainers_train_as_ever(made: dict[str, Any]) -> None:
    """A Trainer without the callback gets none."""
    assert made["without_ours"]["step"] == 2
    assert "BackpropCallback" not in made["without_ours"]["callbacks"]


def test_attaching_adds_one_callback(made: dict[str, Any]) -> None:
    """After `attach`, called twice, a Trainer has one callback after two trainings, and the user's own is not doubled."""
    assert made["attached"] == {"count": [1, 1], "same_train": True, "step": 2}


def test_a_run_folder_that_is_gone_costs_no_training(made: dict[str, Any]) -> None:
    """Our record cannot be written at the end: that is said, `train` returns, and the code behind it runs."""
    assert made["unrecorded"]["outcome"] == "completed"
    assert made["unrecorded"]["step"] > 3
