"""What follows from a decision, seen from a real session on a clock that moves when told to."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from backprop_core.outcome import Outcome
from backprop_core.testing.clock import FakeClock
from tests.backprop_core.session.test_session import Box


def test_a_boundary_is_not_saved_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a save was made to learn its cost, and shows that nothing more fits, the box ends with that checkpoint."""
    clock = FakeClock()
    box = Box(tmp_path, clock, budget="1s").open()
    commit = box.session.saver.store.commit

    def slow(*args: Any, **keywords: Any) -> Any:
        clock.advance(0.1)
        return commit(*args, **keywords)

    monkeypatch.setattr(box.session.saver.store, "commit", slow)
    assert box.train(1, step_s=0.45)
    assert box.session.remaining_s() == pytest.approx(0.45)
    box.session.close(Outcome.TIMEBOXED)
    assert len(box.events("checkpoint_saved")) == 1
    assert box.session.checkpoint is not None
    assert box.session.checkpoint.step == 1
