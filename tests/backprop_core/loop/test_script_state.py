"""The script's own variables in a box without any framework: kept, or named, or an error."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import backprop


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BACKPROP_HOME", str(tmp_path))


class _Player:
    pass


def _train(run: str, upto: int, **keywords: Any) -> tuple[int, list[float], list[Any]]:
    total, curve, players = 0, [], [_Player()]
    with backprop.timebox("5m", run=run, **keywords) as box:
        for step in box.steps(6):
            total += step
            curve.append(total / 3)
            if keywords.get("checkpoint_every"):
                players.append(_Player())
            if step == upto:
                raise KeyboardInterrupt
    return total, curve, players


def test_locals_that_nobody_named_come_back() -> None:
    """A counter and a list of the function around the box go on where the run was interrupted."""
    whole = _train("whole", -1)
    with pytest.raises(KeyboardInterrupt):
        _train("cut", 3, checkpoint_every=0.0001)
    total, curve, _ = _train("cut", -1)
    assert (total, curve) == whole[:2]


def test_what_cannot_be_kept_is_named_once(capfd: pytest.CaptureFixture[str]) -> None:
    """A list of the script's own objects that grew: name, type, reason and what to do, one time."""
    _train("named", -1, checkpoint_every=0.0001)
    said = [
        line for line in capfd.readouterr().err.splitlines() if "`_train().players[...]` (_Player)" in line
    ]
    assert len(said) == 1
    assert "cannot be kept" in said[0]
    assert "box.track" in said[0]


def test_the_names_are_shown_from_the_checkpoint(tmp_path: Path) -> None:
    """`backprop checkpoints RUN --state` lists what the newest checkpoint holds of the script's own."""
    _train("shown", -1)
    asked = [sys.executable, "-m", "backprop", "checkpoints", "shown", "--state"]
    shown = subprocess.run(asked, capture_output=True, text=True, check=True, timeout=120).stdout.splitlines()
    assert "_train().total" in shown
    assert "_train().curve" in shown
    assert "_train().keywords" not in shown


def test_strict_makes_it_an_error() -> None:
    """With strict=True the training ends behind the checkpoint that lacks it."""
    with pytest.raises(backprop.UnkeptStateError, match="players"):
        _train("strict", -1, checkpoint_every=0.0001, strict=True)
