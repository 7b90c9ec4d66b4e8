"""What a script sets for its whole process: a difference like any other, without what belongs to the attempt."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from backprop_core.script_state.process_settings import NAME, ProcessSettings
from backprop_core.script_state.state import Missing, ScriptState
from tests.backprop_core.script_state.graphs import through_a_file


def _state() -> ScriptState:
    state = ScriptState([ProcessSettings([])])
    state.baseline()
    return state


@pytest.fixture(autouse=True)
def put_back(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Each test has a process whose settings are its own."""
    monkeypatch.setenv("STAGE", "warm-up")
    monkeypatch.delenv("LATER", raising=False)
    monkeypatch.chdir(Path.cwd())
    before = np.geterr()
    yield
    np.seterr(**before)
    os.environ.pop("LATER", None)


def test_what_was_set_in_training_is_set_again(tmp_path: Path) -> None:
    """A variable that changed, one that is new, one that is gone, the folder, and how numpy treats errors."""
    os.environ["GOING"] = "1"
    state = _state()
    os.environ["STAGE"], os.environ["LATER"] = "decay", "yes"
    del os.environ["GOING"]
    os.chdir(tmp_path)
    np.seterr(divide="ignore")
    saved = through_a_file(state.changed())
    os.environ["STAGE"], os.environ["GOING"] = "warm-up", "1"
    del os.environ["LATER"]
    os.chdir(tmp_path.parent)
    np.seterr(divide="warn")
    later = _state()
    assert later.restore(saved).missing == []
    assert (os.environ["STAGE"], os.environ["LATER"], "GOING" in os.environ) == ("decay", "yes", False)
    assert (Path.cwd(), np.geterr()["divide"]) == (tmp_path, "ignore")
    assert through_a_file(later.changed()) == saved  # a second cut has it, too


def test_what_was_not_set_in_training_is_the_new_attempts_own() -> None:
    """A variable that only the new attempt has, or has another value there, stays as it is."""
    saved = through_a_file(_state().changed())
    assert saved["nodes"] == []
    os.environ["STAGE"] = "chosen for this attempt"
    _state().restore(saved)
    assert os.environ["STAGE"] == "chosen for this attempt"


@pytest.mark.parametrize(
    "name",
    ["MASTER_PORT", "RANK", "SLURM_JOB_ID", "BACKPROP_RUN_DIR", "HF_TOKEN", "WANDB_API_KEY", "db_password"],
)
def test_what_belongs_to_an_attempt_or_is_secret_is_not_stored(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither a rank's place in its job nor a password gets into a checkpoint."""
    monkeypatch.delenv(name, raising=False)
    state = _state()
    monkeypatch.setenv(name, "1")
    assert state.changed()["nodes"] == []


def test_a_folder_that_is_gone_is_named(tmp_path: Path) -> None:
    """All else is put back."""
    folder = tmp_path / "gone"
    folder.mkdir()
    before, state = Path.cwd(), _state()
    os.chdir(folder)
    os.environ["LATER"] = "yes"
    saved = through_a_file(state.changed())
    os.chdir(before)
    del os.environ["LATER"]
    folder.rmdir()
    [missing] = _state().restore(saved).missing
    assert missing.name == f"{NAME}.current folder"
    assert "FileNotFoundError" in missing.why
    assert os.environ["LATER"] == "yes"


@pytest.mark.parametrize(
    ("slot", "value"), [("environment LATER", 7), ("current folder", None), ("a framework's", True)]
)
def test_a_value_of_another_kind_is_named_and_nothing_is_set(slot: str, value: object) -> None:
    """A checkpoint that was tampered with, or is from a process that had more imported, breaks nothing."""
    state = _state()
    os.environ["STAGE"] = "decay"
    saved = through_a_file(state.changed())
    written = {**saved["nodes"][0], "data": {**saved["nodes"][0]["data"], "slots": {slot: value}}}
    restored = _state().restore({**saved, "nodes": [written]})
    assert restored.missing == [Missing(f"{NAME}.{slot}", restored.missing[0].why)]
    assert "LATER" not in os.environ
