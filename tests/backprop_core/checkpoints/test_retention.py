"""Which checkpoints may go."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from backprop_core.checkpoints import CheckpointInfo
from backprop_core.checkpoints.retention import expendable

from .states import facts


def infos(steps: list[int]) -> list[CheckpointInfo]:
    """Checkpoints of these steps, newest first."""
    made = [
        CheckpointInfo(Path(f"/c/{n}-{step}"), step, facts(step), 1, 0.1, n) for n, step in enumerate(steps)
    ]
    return sorted(made, key=lambda info: (info.step, info.wall_s), reverse=True)


@settings(deadline=None)
@given(st.lists(st.integers(0, 100)), st.integers(-1, 5), st.none() | st.integers(1, 30), st.data())
def test_the_rules_hold_for_any_history(
    steps: list[int], keep: int, every: int | None, data: st.DataObject
) -> None:
    """The newest `keep`, at least two, the one just made and all milestones stay; all others go, oldest
    first.
    """
    present = infos(steps)
    spare = data.draw(st.sampled_from(present)).path if present else Path("/none")
    gone = expendable(present, spare=spare, keep=keep, keep_every=every)
    stay = [info for info in present if info not in gone]
    assert present[: max(keep, 2)] == [info for info in present[: max(keep, 2)] if info in stay]
    assert spare not in {info.path for info in gone}
    assert gone == sorted(gone, key=lambda info: (info.step, info.wall_s))
    if every is None:
        assert len(stay) <= max(keep, 2) + 1
        return
    for bucket in {info.step // every for info in present} - {0}:
        assert any(info.step // every == bucket for info in stay)


def test_a_run_sent_back_to_an_earlier_step_keeps_what_it_saves() -> None:
    """After resuming from step 50 of a run that had come to 200, the checkpoint of step 60 is not taken for
    old.
    """
    present = infos([100, 200, 60])
    just_made = next(info for info in present if info.step == 60)
    assert expendable(present, spare=just_made.path, keep=2) == []
