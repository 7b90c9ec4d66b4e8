"""`backprop verify`, `backprop checkpoints` and `backprop export`, as a person runs them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from backprop_core.checkpoints import NumpyTranslator, capture
from backprop_core.checkpoints.store import CheckpointStore
from backprop_core.clock import SYSTEM
from backprop_core.runs.store import RunStore
from backprop_torch.translator import TorchTranslator
from tests.backprop_core.checkpoints.states import facts

from .commandline import CommandLine

BOTH = (TorchTranslator(), NumpyTranslator())


@pytest.fixture
def backprop(tmp_path: Path) -> CommandLine:
    return CommandLine(tmp_path)


def a_run(backprop: CommandLine) -> Path:
    """Run `r1` with checkpoints at steps 10 and 20; their folder."""
    backprop.home.mkdir(mode=0o700)
    runs = RunStore(backprop.home, SYSTEM)
    record = runs.create(
        run_id="r1",
        name=None,
        command=("train.py",),
        cwd=str(backprop.folder),
        interpreter="python",
        options={},
    )
    folder = runs.checkpoints_dir(record)
    store = CheckpointStore(folder, clock=SYSTEM)
    for step in (10, 20):
        states = {"model": {"w": torch.full((3,), float(step))}}
        store.commit(capture(states, BOTH), facts(step))
    return folder


def test_verify_is_not_content_with_nothing(backprop: CommandLine) -> None:
    """A folder without checkpoints is wrong usage; a run without any has nothing that could be restored: status 1."""
    a_run(backprop)
    RunStore(backprop.home, SYSTEM).create(
        run_id="empty",
        name=None,
        command=("train.py",),
        cwd=backprop.folder,
        interpreter="python",
        options={},
    )
    shown = backprop("verify", "/etc")
    assert shown.returncode == 2
    assert "no checkpoint of backprop in /etc" in shown.stderr
    assert backprop("verify", "empty").returncode == 1


def test_verify_tells_good_from_damaged(backprop: CommandLine) -> None:
    """All good is status 0; one changed byte is status 1 and a sentence with the file, for a run and for a
    path.
    """
    folder = a_run(backprop)
    shown = backprop("verify", "r1")
    assert shown.returncode == 0, shown.stderr
    assert [line.split()[0] for line in shown.stdout.splitlines()] == ["good", "good"]
    assert "2 of 2 can be restored" in shown.stderr
    file = folder / "step-000000000020" / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-1] + b"x")
    for target in ("r1", str(folder), str(file.parent)):
        shown = backprop("verify", target)
        assert shown.returncode == 1
        assert f"{file} is damaged: its digest does not match" in shown.stdout
    assert backprop("verify", str(folder / "step-000000000010")).returncode == 0
    entries = json.loads(backprop("verify", "r1", "--json").stdout)
    assert [bool(entry["damage"]) for entry in entries] == [True, False]


def test_checkpoints_are_shown_as_a_table(backprop: CommandLine) -> None:
    """One line a checkpoint with step, reason and size; --json gives the same facts to programs."""
    a_run(backprop)
    shown = backprop("checkpoints", "r1")
    assert shown.returncode == 0, shown.stderr
    lines = shown.stdout.splitlines()
    assert lines[0].split() == ["step", "when", "why", "size", "saved", "in", "verified", "path"]
    assert [line.split()[0] for line in lines[1:]] == ["20", "10"]
    assert "periodic" in lines[1]
    entries = json.loads(backprop("checkpoints", "r1", "--json").stdout)
    assert [(entry["step"], entry["verified"], entry["reason"]) for entry in entries] == [
        (20, True, "periodic"),
        (10, True, "periodic"),
    ]


def test_what_has_no_manifest_is_not_passed_over_in_silence(backprop: CommandLine) -> None:
    """A folder that was a checkpoint has no place in the table, but a line that says so, whatever it was named by."""
    folder = a_run(backprop)
    broken = folder / "step-000000000020"
    (broken / "manifest.json").unlink()
    for target, left in (("r1", 1), (str(folder), 1), (str(broken), 0)):
        shown = backprop("checkpoints", target)
        assert shown.stdout.count("periodic") == left
        assert f"{broken} is damaged: its manifest cannot be read" in shown.stderr


def test_export_takes_the_newest_whole_checkpoint(backprop: CommandLine) -> None:
    """The newest is exported; when it is damaged the one before it, and that is said."""
    folder = a_run(backprop)
    shown = backprop("export", "r1", "--to", "out")
    assert shown.returncode == 0, shown.stderr
    assert torch.load(backprop.folder / "out" / "model.pt", weights_only=True)["w"][0] == 20.0
    (folder / "step-000000000020" / "model.json").write_text("{}")
    shown = backprop("export", "r1", "--to", "older")
    assert "step-000000000020 is damaged and was skipped" in shown.stderr
    assert torch.load(backprop.folder / "older" / "model.pt", weights_only=True)["w"][0] == 10.0
    assert backprop("export", "r1", "--to", "older").returncode == 2
    assert backprop("export", "r1", "--step", "11", "--to", "x").returncode == 2


@pytest.mark.parametrize("command", ["verify", "checkpoints", "export"])
def test_an_unknown_run_or_folder_is_wrong_usage(backprop: CommandLine, command: str) -> None:
    """What names nothing ends with status 2 and one sentence."""
    a_run(backprop)
    backprop.script("")
    said = {
        "r9": "There is no run 'r9'",
        "./nothing-here": "no folder",
        "": "is empty",
        "train.py": "is a file",
    }
    for target, why in said.items():
        shown = backprop(command, target, *(["--to", "x"] if command == "export" else []))
        assert shown.returncode == 2, shown.stderr
        assert why in shown.stderr
        assert "Traceback" not in shown.stderr


def test_export_needs_a_folder(backprop: CommandLine) -> None:
    """A file in its place is named with status 2, and stays."""
    a_run(backprop)
    script = backprop.script("mine")
    shown = backprop("export", "r1", "--to", script.name)
    assert (shown.returncode, script.read_text()) == (2, "mine")
    assert "--to train.py is a file. Give the name of a folder." in shown.stderr
    shown = backprop("export", "r1", "--to", f"{script.name}/below")
    assert shown.returncode == 2
    assert "train.py, which is not a folder" in shown.stderr
