"""Which checkpoint an attempt goes on from, and what is said where there is none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from backprop_core.checkpoints.store import open_store
from backprop_core.errors import UsageError
from backprop_core.session.enrolment import Enrolment
from backprop_core.session.find_checkpoint import load_for
from backprop_core.testing.clock import FakeClock


def resumed(folder: Path, **more: Any) -> Enrolment:
    """A resumed attempt without a single checkpoint."""
    more = {"resume_from": None, "resuming": True, "earlier": [], "governed": True, **more}
    return Enrolment("r", None, open_store(folder / "none", clock=FakeClock()), **more)  # type: ignore[arg-type]


def test_only_a_training_that_had_begun_is_said_to_start_afresh(tmp_path: Path) -> None:
    """The first training of a resumed process is expected to have a checkpoint, a second one was perhaps never reached."""
    said: list[str] = []
    assert load_for(resumed(tmp_path, box=2), (), said.append) is None
    assert said == []
    assert load_for(resumed(tmp_path), (), said.append) is None
    assert len(said) == 1
    assert "STARTS FROM SCRATCH" in said[0]
    assert load_for(resumed(tmp_path, resuming=False), (), said.append) is None
    assert len(said) == 1


def test_a_path_without_a_checkpoint_is_refused(tmp_path: Path) -> None:
    """Who asks for a checkpoint by path never trains from the beginning instead."""
    (tmp_path / "empty").mkdir()
    for place in ("missing", "empty"):
        with pytest.raises(UsageError, match=place):
            load_for(resumed(tmp_path, resume_from=str(tmp_path / place)), (), print)
