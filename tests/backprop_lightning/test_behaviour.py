"""What a Trainer does and leaves undone around a stop, trained in one fresh process for each of Lightning's names."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.backprop_torch.cutting import environment

pytestmark = pytest.mark.timeout(900)


@pytest.fixture(
    scope="module",
    params=[
        pytest.param("pytorch_lightning", marks=pytest.mark.faults),
        pytest.param("lightning.pytorch", marks=pytest.mark.long),
    ],
)
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """All cases of `behaviour.py`, from one process."""
    folder = tmp_path_factory.mktemp("behaviour")
    ended = subprocess.run(
        [sys.executable, "-m", "tests.backprop_lightning.behaviour", str(folder)],
        env=environment(folder) | {"LIGHTNING_PACKAGE": request.param},
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
    """No validation, epoch end, ModelCheckpoint, OnExceptionCheckpoint or patience after it; min_epochs has no say."""
    stop = made["stop"]
    assert stop["outcome"] == "preempted"
    assert (stop["step"], stop["epoch"]) == (12, 1)
    assert set(stop["after"]) <= {"on_save_checkpoint", "teardown"}
    assert stop["kept"] == ["epoch=0-step=10.ckpt", "last.ckpt"]
    assert not stop["error"]
    assert stop["waited"] == 0


def test_a_stop_closes_what_fit_opened(made: dict[str, Any]) -> None:
    """Loggers are finalized as a success, the bar is closed, signal handlers and the Trainer's methods are its own again."""
    stop = made["stop"]
    assert stop["loggers"] == ["success"]
    assert stop["bar_closed"]
    assert stop["status"] == "TrainerStatus.FINISHED" or stop["status"] == "finished"
    assert stop["stop_handler"]
    assert stop["int_handler"]
    assert stop["instance"] == []


def test_a_run_folder_that_is_gone_costs_no_fit(made: dict[str, Any]) -> None:
    """Our record cannot be written at the end: that is said, `fit` returns, and the code behind it runs."""
    assert made["unrecorded"]["outcome"] == "completed"
    assert made["unrecorded"]["step"] > 3


def test_steps_that_lightning_does_not_count_are_steps(made: dict[str, Any]) -> None:
    """The fit stops behind the step, under its number. It went on to the end of the epoch, and was saved as step 0."""
    assert made["steps_by_hand"] == ["preempted", "000000000005"]


def test_a_script_finds_behind_a_complete_fit_what_it_found_behind_the_fit_itself(
    made: dict[str, Any],
) -> None:
    """Its logged values, what its module and callbacks had changed, the weights and the random numbers that follow."""
    trained, passed_over = made["passed_over"]
    assert trained[0]
    assert len(trained[1]) > 2
    assert passed_over == trained


def test_the_rows_of_a_csv_logger_are_not_lost(made: dict[str, Any]) -> None:
    """With a fixed version Lightning deletes the file at each start: after two cuts it is that of an uncut training."""
    assert made["csv_rows"] == {"rows": made["csv_rows"]["rows"], "flushed": True, "buffered": True}
    assert made["csv_rows"]["rows"] > 30


@pytest.mark.parametrize("case", ["version_folder", "version_folder_of_tensorboard"])
def test_all_attempts_share_one_version_folder(made: dict[str, Any], case: str) -> None:
    """So the best model stays the best, no file is kept too many, rows go on; a version that the script chose is its own."""
    shared = made[case]
    assert shared is not None, "the set-up installs tensorboard"
    assert shared["same_files"], shared["files"]
    assert shared["same_rows"]
    assert shared["folders"] == ["version_0"]
    assert shared["best"] == [["epoch=1.ckpt", 1.0]] * 2
    assert shared["chosen"] == [["stopped", "completed"], ["version_3", "version_7"]]


def test_lightning_opens_the_checkpoint(made: dict[str, Any]) -> None:
    """`load_from_checkpoint`, `torch.load(weights_only=True)` and `fit(ckpt_path=...)` take lightning.ckpt as it is."""
    assert made["lightning_opens_it"] == {
        "same": True,
        "went_on_to": 30,
        "files": [
            "backprop.lightning.json",
            "backprop.lightning.safetensors",
            "lightning.ckpt",
            "manifest.json",
        ],
    }


def test_hyper_parameters_of_any_type_resume(made: dict[str, Any]) -> None:
    """torch refuses them and the resume has the same bits; the file keeps them, and those it cannot keep are named."""
    odd = made["odd_hyper_parameters"]
    assert (odd["resumed"], odd["same"]) == (True, True)
    assert odd["kept"] == {
        "place": "PosixPath", "size": "Size", "kind": "type", "layer": "ReLU", "make": "partial",
        "options": "Namespace", "rate": "float64",
    }  # fmt: skip
    assert "left out of lightning.ckpt: queue." in odd["said"]
    assert "could not be resumed" not in odd["said"]


def test_entries_of_on_save_checkpoint_of_any_type(made: dict[str, Any]) -> None:
    """One that is not read does not keep a run from resuming; one that is read is warned of, with the remedy."""
    odd = made["odd_entries"]
    outcome, resumed, said = odd["unread"]
    assert (outcome, resumed) == ("completed", True)
    assert "'size' of" in said
    assert "was left out: it holds" in said
    assert "could not be resumed as it is" in odd["warned"]
    assert "add_safe_globals" in odd["warned"]
    assert odd["error"].startswith("StateMismatchError")


def test_the_newer_of_two_checkpoints_wins(made: dict[str, Any]) -> None:
    """`fit(ckpt_path="last")` does not go back behind our checkpoint, nor ours behind a later one, and that is said."""
    wins = made["newer_checkpoint_wins"]
    assert [fit[:3] for fit in wins["fits"]] == [
        ["stopped", 0, 12],
        ["stopped", 12, 15],
        ["completed", 18, 28],
    ]
    assert wins["fits"][1][3] == "000000000012"
    assert wins["fits"][2][3].endswith("mine.ckpt")
    assert "newer" not in wins["said"][0]
    assert "which is newer than the script's own" in wins["said"][1]
    assert "last.ckpt of step 10." in wins["said"][1]
    assert "mine.ckpt of step 18, which is newer than" in wins["said"][2]


def test_a_notebook_fits_again_and_again(made: dict[str, Any]) -> None:
    """The same Trainer and callback go on where they stopped, in one process, until the training is complete."""
    assert made["notebook"]["outcomes"] == ["stopped", "stopped", "completed"]
    assert made["notebook"]["step"] == 30


def test_a_box_that_cannot_be_opened_says_why(made: dict[str, Any]) -> None:
    """Lightning tells the callback of its own error: the sentence for the user is not hidden behind another."""
    refused = made["cannot_open"]
    assert "There is no checkpoint at" in refused["error"]
    assert (refused["outcome"], refused["left"]) == ("failed", math.inf)


def test_the_users_error_stays_the_users(made: dict[str, Any]) -> None:
    """It reaches the script unchanged, the record says failed, and Lightning's own callbacks saw it."""
    assert made["own_error"] == {"error": "of the user's own", "outcome": "failed", "saved": True}


def test_other_entry_points_are_left_alone(made: dict[str, Any]) -> None:
    """validate, test, predict, the tuner and fast_dev_run open no box."""
    assert made["left_alone"] == {"opened": "", "outcome": "running"}


def test_a_deadline_inside_a_validation_is_kept(made: dict[str, Any]) -> None:
    """Training leaves inside the validation, comes back to its beginning, and ends with the bits of an uncut run."""
    inside = made["inside_validation"]
    assert inside["outcomes"] == ["timeboxed", "completed"]
    assert inside["position"] == [10, 0, 10, {"pending": True}]
    assert inside["same"]
    assert inside["logged"]


def test_ctrl_c_leaves_with_a_checkpoint(made: dict[str, Any]) -> None:
    """Ctrl-C once: fit returns after the running step, and that step is saved."""
    assert made["ctrl_c"] == {"outcome": "stopped", "step": 6, "checkpoint": "step-000000000006"}


def test_nothing_of_lightnings_is_needed(made: dict[str, Any]) -> None:
    """Without loggers, checkpoints or a writable default_root_dir the box works all the same."""
    assert made["unwritable_root"] == {"outcome": "stopped", "there": True}


def test_the_users_own_timer_ends_the_training(made: dict[str, Any]) -> None:
    """A Timer that has run out ends the training as the user asked: that is completion, not our stop."""
    assert made["users_timer"] == {"outcome": "completed"}


def test_periodic_checkpoints_resume_exactly(made: dict[str, Any]) -> None:
    """One that was saved behind the training's back gives the same bits as the uncut run."""
    assert made["periodic"]["reasons"] == ["final", "periodic"]
    assert made["periodic"]["step"] >= 3
    assert made["periodic"]["from"]
    assert made["periodic"]["same"]


def test_logged_metrics_reach_the_events(made: dict[str, Any]) -> None:
    """Progress events hold what the module logged, and the loss under its own name."""
    assert {"train_loss", "val_loss", "accuracy", "loss"} <= set(made["logged_metrics"]["keys"])
    assert made["logged_metrics"]["loss"]


def test_workers_that_the_signal_killed_do_no_harm(made: dict[str, Any]) -> None:
    """What a loader without workers raises after a stop signal is taken for the stop it is; no batch is lost."""
    assert made["workers_killed"] == {"outcome": "preempted", "step": 1, "batch": 4}


def test_a_signal_to_the_whole_group_tears_no_step(made: dict[str, Any]) -> None:
    """The workers die with it: the step is ended and saved, a validation is left, and the bits are the uncut run's."""
    outcome, step, *rest = made["group_signal"]["step"]
    assert (outcome, rest) == ("preempted", [False, "completed", True])
    assert 14 <= step < 20
    assert made["group_signal"]["validation"] == ["preempted", 10, True, "completed", True]


def test_slurm_and_we_share_the_signals(made: dict[str, Any]) -> None:
    """SIGUSR1 stays Lightning's and SIGTERM is ours; which of them saves is said, and the newer checkpoint is taken."""
    slurm = made["slurm"]
    assert slurm["fits"] == [
        ["preempted", 0, 12, 1], ["preempted", 12, 20, 1], ["failed", 20, 24, 2], ["completed", 22, 30, 2],
    ]  # fmt: skip
    assert "SIGUSR1 is handled by Lightning's SLURM plugin" in slurm["said"][0]
    assert "hpc_ckpt_1.ckpt" in slurm["said"][1]
    assert "hpc_ckpt_1.ckpt of step 5." in slurm["said"][1]
    assert "hpc_ckpt_2.ckpt of step 22, which is newer than" in slurm["said"][2]
    assert "SIGTERM is handled by backprop" in slurm["said"][3]
    assert slurm["alone"] == ["preempted", False]


def test_a_fit_is_the_same_without_us(made: dict[str, Any]) -> None:
    """Loaders that are made early, or again, are made as often as without the callback, and draw as much."""
    same = made["without_us"]
    assert len(same) == 5
    assert all(same.values()), same
