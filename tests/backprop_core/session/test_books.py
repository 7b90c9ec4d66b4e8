"""Our own records may fail in any way: what the user trains, saves and prints behind the block is never lost for it."""

from __future__ import annotations

import errno
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import backprop
from backprop_core.runs import atomic


def _removed(home: Path) -> None:
    shutil.rmtree(home / "runs")


def _no_folder(home: Path) -> None:
    shutil.rmtree(home)
    home.write_text("a file where the home was")


def _torn(home: Path) -> None:
    (home / "runs/kept/run.json").write_text('{"format_version": 1, "id": "ke')


def _no_file(home: Path) -> None:
    path = home / "runs/kept/run.json"
    path.unlink()
    path.mkdir()


def _another(home: Path) -> None:
    (home / "runs/kept/run.json").write_text("[]")


def _ended(home: Path) -> None:
    path = home / "runs/kept/run.json"
    path.write_text(path.read_text().replace('"running"', '"stopped"'))


DAMAGES = [_removed, _no_folder, _ended]
REBUILT = [_torn, _no_file, _another]


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("BACKPROP_RUN_ID", "BACKPROP_RUN_DIR", "BACKPROP_ATTEMPT", "SLURM_JOB_END_TIME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("BACKPROP_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def _train(damage: Callable[[], object], count: int = 6) -> list[int]:
    """A box whose records are damaged in its third step, with a save asked for behind it."""
    losses: list[int] = []
    with backprop.timebox("1h", run="kept", losses=losses) as box:
        session = box._inside().loops.session
        for step in box.steps(count):
            losses.append(step)
            if step == 2:
                damage()
                session.requests.save_asked = True
            session.wake = 0.0
    assert str(box.outcome) == "completed"
    return losses


@pytest.mark.parametrize("damage", DAMAGES)
def test_the_code_behind_the_block_runs_whatever_became_of_the_records(
    home: Path, damage: Callable[[Path], None], capsys: pytest.CaptureFixture[str]
) -> None:
    """Damaged in the middle of the training: it goes on to its end, one sentence says what could not be written."""
    assert _train(lambda: damage(home)) == [0, 1, 2, 3, 4, 5]
    said = capsys.readouterr().err
    assert said.count("end of this attempt could not be recorded") == 1, said


@pytest.mark.parametrize("damage", REBUILT)
def test_a_damaged_record_is_rebuilt_and_takes_the_end(home: Path, damage: Callable[[Path], None]) -> None:
    """Damaged in the middle of the training: the end is written into the record that is rebuilt."""
    assert _train(lambda: damage(home)) == [0, 1, 2, 3, 4, 5]
    record = json.loads((home / "runs/kept/run.json").read_text())
    assert (record["status"], record["attempts"][0]["outcome"]) == ("completed", "completed")


def test_a_disk_that_takes_nothing_more_costs_the_record_only(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With every write refused from the middle on, the training ends as it would have, and it is said."""

    def refused(*arguments: Any, **more: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    assert _train(lambda: monkeypatch.setattr(atomic, "_write_new", refused)) == [0, 1, 2, 3, 4, 5]
    assert "No space left on device" in capsys.readouterr().err


def test_the_users_own_error_is_not_hidden(home: Path) -> None:
    """What the script raises inside the block is what comes out of it, though its end cannot be recorded."""

    def fails() -> None:
        with backprop.timebox("1h", run="kept", losses=[]):
            _torn(home)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fails()


def test_a_fault_of_our_own_in_the_books_is_said_too(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Any exception of the record's, not only those that were thought of, leaves the script alone."""
    from backprop_core.runs.store import RunStore

    def broken(*arguments: Any, **more: Any) -> None:
        raise TypeError("unhashable type: 'list'")

    assert _train(lambda: monkeypatch.setattr(RunStore, "_held", broken)) == [0, 1, 2, 3, 4, 5]
    assert "could not be recorded: TypeError: unhashable" in capsys.readouterr().err
