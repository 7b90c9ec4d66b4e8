"""What a session says, and what a record holds, is data to the command: no value of it ends a governor or a display."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from backprop_cli.attempt_end import measured_in
from backprop_cli.commands.list import _cells
from backprop_cli.commands.status import story
from backprop_cli.display import line_of
from backprop_cli.launch import farewell
from backprop_core.clock import SYSTEM
from backprop_core.governor.observed import EndCause, Ending, SessionView, View
from backprop_core.governor.stdout_messages import Heard
from backprop_core.governor.verdict import judge
from backprop_core.runs.events import EventTail
from backprop_core.runs.process import ProcessIdentity
from backprop_core.runs.store import RunStore
from tests.hostile_json import twisted

SAID: list[dict[str, Any]] = [
    {"kind": "session_started", "framework": "pytorch", "attached": True, "pid": 3},
    {
        "kind": "progress",
        "step": 3,
        "loss": 0.5,
        "rate": 2.0,
        "epoch": 1,
        "next_save_s": 3.0,
        "monotonic": 5.0,
    },
    {"kind": "checkpoint_saved", "path": "/c/step-000000000003", "seconds": 0.5, "step": 3},
    {"kind": "paused"},
    {"kind": "continued", "paused_s": 2.0},
    {
        "kind": "session_finished",
        "outcome": "timeboxed",
        "reason": "the budget is used up",
        "steps": 3,
        "step": 3,
        "loss": 0.5,
        "used_s": 3.0,
        "slack_s": 0.2,
        "monotonic": 9.0,
        "checkpoint": "/c/step-000000000003",
        "measured": {"longest_s": {"plain": 0.1}, "saves": [[100, 0.5]]},
    },
]


@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@example(said=[{"kind": "progress", "step": 1, "loss": 10**400, "rate": 10**400, "next_save_s": 10**400}])
@example(said=[{"kind": "checkpoint_saved", "path": "/c", "seconds": 10**400}])
@example(
    said=[
        {"kind": "session_finished", "outcome": ["x"], "measured": [], "slack_s": 10**400, "steps": 10**400}
    ]
)
@given(said=st.tuples(*map(twisted, SAID)))
def test_whatever_a_session_says_is_shown_and_recorded(
    tmp_path_factory: pytest.TempPathFactory, said: tuple[Any, ...]
) -> None:
    """From the events file to the live line, the verdict, the record and the two tables: nothing raises."""
    folder = tmp_path_factory.mktemp("said")
    store = RunStore(folder / "home", SYSTEM)
    store.create(run_id="r", name=None, command=["train.py"], cwd=folder, interpreter="python", options={})
    with store.hold("r") as hold:
        own = ProcessIdentity.own()
        begun = store.begin_attempt(
            hold, process=own, governor=own, budget_s=60.0, budget_source="a test", resumed_from=None
        )
        (begun.directory / "events.jsonl").write_text("".join(json.dumps(line) + "\n" for line in said))
        session = SessionView()
        for event in EventTail(begun.directory / "events.jsonl").poll():
            session.take(event)
        line_of(View(now=6.0, deadline=60.0, session=session, heard=Heard()))
        going_on = store.load("r")
        assert story(store, going_on)
        ending = Ending(0, EndCause.DEADLINE, "", False, session, Heard(), 0.1, 9.0, 0.5, (), (), 0, b"")
        verdict = judge(ending, resumable=True)
        farewell(going_on, verdict, ending, True)
        store.finish_attempt(
            hold,
            1,
            outcome=verdict.outcome,
            reason=verdict.reason,
            measured=measured_in(session.finished or {}, ending, None, 0.0).written(),
        )
    assert story(store, store.load("r"))
    assert [_cells(row)[0] for row in store.list_rows()] == ["r"]
