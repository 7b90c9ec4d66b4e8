"""The session of a counted script, before it opens."""

from __future__ import annotations

import gc
import weakref
from pathlib import Path

import pytest

from backprop_core.errors import BackpropError
from backprop_core.loop.counted_loops import CountedLoops
from backprop_core.loop.script_loop_state import ScriptLoopState
from backprop_core.loop.script_session import ScriptSession
from backprop_core.outcome import Outcome


class _Model:
    """What a frame of the script's may hold."""


def _fails(model: _Model) -> None:
    raise ZeroDivisionError(f"a fault beside {type(model).__name__}")


def _with_a_fault(session: ScriptSession) -> weakref.ref[_Model]:
    model = _Model()
    session._guarded(lambda: _fails(model))
    return weakref.ref(model)


class _Resumed:
    """A session that goes on from a checkpoint."""

    resumed_from = Path("step-7")
    outcome: Outcome | None = None

    def close(self, outcome: Outcome, reason: str) -> None:
        self.outcome, self.reason = outcome, reason


def test_a_fault_on_the_way_back_ends_the_script(capsys: pytest.CaptureFixture[str]) -> None:
    """Loops may have been passed over by then, so it is no start from scratch, which is what was said."""
    resumed = _Resumed()
    session = ScriptSession(CountedLoops())
    session.session, session._is_led_back = resumed, True  # type: ignore[assignment]
    with pytest.raises(SystemExit) as ended:
        session._guarded(lambda: _fails(_Model()))
    said = capsys.readouterr().err
    assert ended.value.code == 1
    assert "Checkpoint step-7 could not be restored whole: ZeroDivisionError: a fault beside _Model." in said
    assert "from scratch" not in said
    assert resumed.outcome is Outcome.FAILED


def test_a_fault_that_waits_for_the_other_ranks_keeps_nothing_of_the_script_alive(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """It is told to the others in its words when all open their sessions; the frames that it came through are free."""
    loops = CountedLoops()
    session = ScriptSession(loops)
    session._among_ranks, session.loop_state = True, ScriptLoopState([], loops)
    model = _with_a_fault(session)
    assert "ZeroDivisionError: a fault beside _Model" in capsys.readouterr().err
    gc.collect()
    assert model() is None
    with pytest.raises(BackpropError, match="ZeroDivisionError: a fault beside _Model"):
        session._tell_of_early_fault()
