"""A run of three boxes, written by the real store and logs against a clock that a test moves: hours in a moment."""

from __future__ import annotations

import math
from pathlib import Path

from backprop_core.governor.monitor import EVERY_S
from backprop_core.outcome import Outcome
from backprop_core.runs.attempt import Attempt
from backprop_core.runs.events import EventLog
from backprop_core.runs.hold import RunHold
from backprop_core.runs.process import ProcessIdentity
from backprop_core.runs.store import RunStore
from backprop_core.testing.clock import FakeClock

NAME = "<script>alert('name')</script> & \x1b[2J"
NOBODY = ProcessIdentity("", 1, -1.0)
GPU = {"uuid": "GPU-one", "own": True, "temperature_c": 61.0, "memory_used_bytes": 8e9, "power_w": 300.0}


def make_run(
    home: Path,
    run_id: str = "made",
    *,
    seconds: int = 300,
    decay: float = 1.0,
    name: str = NAME,
    steps_a_second: int = 1,
) -> RunStore:
    """Three boxes of `seconds`: timeboxed, lost 20 seconds behind its last checkpoint, timeboxed."""
    clock = FakeClock(wall_s=1_795_000_000.0)
    store = RunStore(home, clock)
    store.create(
        run_id=run_id,
        name=name,
        command=["train.py", "--lr", "0.1"],
        cwd=home,
        interpreter="python",
        options={"max-run-minutes": seconds / 60, "seed": 7},
        versions={"torch": "2.13.0"},
    )
    step = 0
    for number, outcome in enumerate((Outcome.TIMEBOXED, Outcome.LOST, Outcome.TIMEBOXED), start=1):
        with store.hold(run_id) as hold:
            began = clock.monotonic()
            attempt = store.begin_attempt(
                hold, process=NOBODY, budget_s=seconds + 60.0, budget_source="command line", resumed_from=None
            )
            step = _train(
                attempt,
                clock,
                step - (20 * steps_a_second if number == 3 else 0),
                seconds,
                decay,
                steps_a_second,
            )
            _end(store, hold, attempt, outcome, step, clock.monotonic() - began)
    return store


def _train(attempt: Attempt, clock: FakeClock, step: int, seconds: int, decay: float, pace: int) -> int:
    events, governor = attempt.events, EventLog(attempt.governor_log, clock)
    clock.advance(12)
    if step:
        events.append("checkpoint_restored", path=f"/c/step-{step:012d}", step=step)
    events.append("session_started", budget_s=seconds)
    events.append("fit", steps_that_fit=seconds, total_steps=3 * seconds, boxes=2)
    for second in range(seconds):
        step += pace
        clock.advance(EVERY_S)
        loss = math.nan if step == 50 else 2.0 * math.exp(-decay * step / seconds / pace)
        values = {"loss": loss, "lr": 0.1 / step, "<b>acc</b>": 1 - loss / 2, "words": "not a number"}
        events.append("progress", step=step, loss=loss, values=values, rate=1.0)
        governor.append(
            "sample", rss_bytes=10**9 + second * 10**6, load_1m=1.5, memory_free_bytes=4e9, gpus=[GPU]
        )
        if second == seconds // 2:
            governor.append("paused", why="GPU 0 has 86 °C")
            clock.advance(40)
            governor.append("continued", why="GPU 0 has 86 °C")
        if second == seconds - 21:
            path = f"/c/step-{step:012d}"
            events.append(
                "checkpoint_saved", path=path, step=step, reason="periodic", nbytes=5000, seconds=0.5
            )
    events.append("message", text="The disk is slow.", level="warning")
    return step


def _end(
    store: RunStore, hold: RunHold, attempt: Attempt, outcome: Outcome, step: int, used_s: float
) -> None:
    if outcome is not Outcome.LOST:
        saved = {
            "path": f"/c/step-{step:012d}",
            "step": step,
            "reason": "deadline",
            "nbytes": 5000,
            "seconds": 2.0,
        }
        attempt.events.append("checkpoint_saved", **saved)
        attempt.events.append("session_finished", outcome=outcome.value)
    store.finish_attempt(
        hold,
        attempt.number,
        outcome=outcome,
        reason=f"It was {outcome.value}.",
        measured={
            "governor": {"used_s": used_s, "waited_s": 3.0},
            "steps_that_came": 290,
            "peak_rss_bytes": 2 * 10**9,
        },
        steps=step,
        last_step=step,
        last_loss=0.1,
    )
