"""The sinks that ship, each in the contract suite, read back with the tool's own reader."""

from __future__ import annotations

import json
import math
import os
import time
from pathlib import Path

import pytest

from backprop_core.errors import UsageError
from backprop_core.events.kinds import CheckpointSaved, Ended
from backprop_core.events.sinks import Sink, SinkRun, check
from backprop_core.testing.sink_contract import SinkContract, progress, told
from backprop_sinks.command import CommandSink, HookError
from backprop_sinks.mlflow import RUN_FILE, MlflowSink
from backprop_sinks.tensorboard import TensorBoardSink, folder_of
from backprop_sinks.wandb import WandbSink
from tests.backprop_cli.commandline import gone, wait_for
from tests.backprop_sinks import readers


class TestTensorBoard(SinkContract):
    def make(self, run: SinkRun) -> Sink:
        return TensorBoardSink(run)

    def curve(self, run: SinkRun) -> list[tuple[int, float]]:
        return readers.tensorboard_scalars(folder_of(run), "loss")


class TestWandb(SinkContract):
    @pytest.fixture(autouse=True)
    def offline(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("WANDB_MODE", "offline")
        monkeypatch.setenv("WANDB_SILENT", "true")

    def make(self, run: SinkRun) -> Sink:
        stamp = "%Y%m%d_%H%M%S"  # W&B names folders by the second, and two commands of one run do not begin in the same
        wait_for(lambda: not [*run.folder.rglob(f"*-{time.strftime(stamp)}-*")])
        return WandbSink(run)

    def curve(self, run: SinkRun) -> list[tuple[int, float]]:
        runs = wait_for(
            lambda: readers.wandb_runs(run.folder)
        )  # its service may write a little behind `finish`
        assert set(runs) == {run.run_id}
        return [(row["step"], row["loss"]) for row in readers.wandb_history(run.folder) if "loss" in row]


class TestMlflow(SinkContract):
    @pytest.fixture(autouse=True)
    def store(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"file://{tmp_path}/mlruns")

    def make(self, run: SinkRun) -> Sink:
        return MlflowSink(run)

    def curve(self, run: SinkRun) -> list[tuple[int, float]]:
        assert json.loads((run.folder / RUN_FILE).read_text())
        return readers.mlflow_points(os.environ["MLFLOW_TRACKING_URI"], "0", "loss")


class TestCommand(SinkContract):
    def make(self, run: SinkRun) -> Sink:
        argument = (
            "progress=cat >> told.jsonl\nsession_finished=cat >> told.jsonl\ncheckpoint_saved=cat >/dev/null"
        )
        return CommandSink(SinkRun(run.run_id, run.name, run.command, run.cwd, run.folder, argument))

    def curve(self, run: SinkRun) -> None:
        """It draws none."""


@pytest.fixture
def run(tmp_path: Path) -> SinkRun:
    return SinkRun("r", "a name", ("train.py",), str(tmp_path), tmp_path)


def _hook(run: SinkRun, argument: str, patience_s: float = 30.0) -> CommandSink:
    return CommandSink(
        SinkRun(run.run_id, run.name, run.command, run.cwd, run.folder, argument), patience_s=patience_s
    )


SAVED = told(CheckpointSaved("/c/step-3", 3, "periodic", 9, 0.25), attempt=2)


def test_a_command_is_told_of_the_event(run: SinkRun, tmp_path: Path) -> None:
    """It reads the event as JSON on standard input and in variables, in the run's folder."""
    sink = _hook(
        run, 'checkpoint_saved=cat > in.json; echo "$BACKPROP_EVENT_STEP $BACKPROP_EVENT_NAME" > variables'
    )
    sink.take(SAVED)
    said = json.loads((tmp_path / "in.json").read_text())
    assert (said["kind"], said["run_id"], said["attempt"], said["path"]) == (
        "checkpoint_saved",
        "r",
        2,
        "/c/step-3",
    )
    assert (tmp_path / "variables").read_text() == "3 a name\n"


def test_a_command_that_hangs_is_ended_with_its_children(run: SinkRun, tmp_path: Path) -> None:
    """After its time the whole group is killed, and that is an error with the command's name."""
    sink = _hook(run, "checkpoint_saved=sleep 1000 & echo $! > child; sleep 1000", patience_s=0.5)
    with pytest.raises(HookError, match=r"took longer than 0\.5 s and was stopped"):
        sink.take(SAVED)
    wait_for(lambda: gone(int((tmp_path / "child").read_text())))


def test_a_command_that_fails_is_an_error_and_the_next_one_runs(run: SinkRun, tmp_path: Path) -> None:
    """A status other than 0 names the command; another command for the same event has run."""
    sink = _hook(run, "checkpoint_saved=exit 3\ncheckpoint_saved=touch second")
    with pytest.raises(HookError, match="'exit 3' ended with status 3"):
        sink.take(SAVED)
    assert (tmp_path / "second").exists()


def test_a_command_slower_than_its_events_gets_the_newest(run: SinkRun, tmp_path: Path) -> None:
    """Of what comes once a second only the newest since the last look is told, so a slow command is never far behind."""
    sink = _hook(run, "progress=cat >> told.jsonl")
    for step in range(50):
        sink.take(told(progress(step, loss=1.0)))
    sink.flush()
    lines = (tmp_path / "told.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [49]


def test_values_of_any_kind_are_variables(run: SinkRun, tmp_path: Path) -> None:
    """Nothing that an event may hold keeps its command from being started: NUL, half of a surrogate pair, nan, great
    length.
    """
    ended = Ended(
        "failed", "a\0b\ud800" + "x" * 10_000, 1, None, math.nan, None, None, None, None, None, None, {}, {}
    )
    _hook(run, 'session_finished=echo "$BACKPROP_EVENT_REASON" | wc -c > length').take(told(ended))
    assert 4000 < int((tmp_path / "length").read_text()) < 5000


@pytest.mark.parametrize("written", ["", "nonsense", "checkpoint_saved=", "never_happens=echo"])
def test_a_hook_that_cannot_be_meant_is_refused(run: SinkRun, written: str) -> None:
    """No line, one that is no KIND=COMMAND, or one that names no event, is a usage error with what is allowed."""
    with pytest.raises(UsageError):
        _hook(run, written)


def test_unknown_sinks_are_refused_with_those_that_are_installed() -> None:
    """A misspelt name is a usage error that lists the names, all of ours among them."""
    with pytest.raises(UsageError, match=r"no sink 'tensorbord'.*command.*mlflow.*tensorboard.*wandb"):
        check(["tensorbord"])
    check(["tensorboard:logs", "command:progress=true"])
