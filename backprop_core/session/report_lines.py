"""The lines and events that tell how an attempt begins, goes on and ends."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from backprop_core import contract
from backprop_core.checkpoints.manifest import CheckpointInfo
from backprop_core.clock import local_text
from backprop_core.deadline.budget import GOVERNOR, duration_text, stopped_text
from backprop_core.deadline.step_rate import StepRate
from backprop_core.events.kinds import (
    CheckpointRestored,
    Ended,
    Fit,
    Progress,
    SavesPutOff,
    SessionStarted,
    TrainingStarted,
)
from backprop_core.outcome import Outcome
from backprop_core.session.attempt import RunningAttempt
from backprop_core.session.child_process import parent_pid
from backprop_core.session.learning_rate import with_rate
from backprop_core.session.settings import CELL
from backprop_core.session.tracker_runs import TrackerRuns
from backprop_core.session.unseeded_script import say_what_is_unseeded
from backprop_core.strict_json import as_float

PROGRESS_EVERY_S = 1.0
LONG_START_SHARE = 0.25
"""Starting up is worth a word where it takes more of the box than this."""
FORECAST_IS_FAR_OFF = 0.7
"""Fewer steps than this part of what was forecast are told in the last line."""
FIT_AFTER_STEPS = 10
"""How many steps fit is said once, after so many, when the rate is known."""
OFTEN = 3
"""So many periodic saves that had to wait for the one before are worth a word."""

_ATTACHED_TO = {
    "pytorch": "attached to a PyTorch loop, ",
    "pytorch loop": "attached to a PyTorch loop, ",
    "keras loop": "attached to a Keras loop, ",
    "loop": "attached to a loop, ",
    "lightning": "attached to Lightning's Trainer, ",
    "keras": "attached to Keras' fit, ",
    "transformers": "attached to the Trainer of transformers, ",
}
"""What a session that the script did not ask for watches, by the name of its adapter."""


class Reporter:
    """Speaks for one session."""

    def __init__(self, session: RunningAttempt) -> None:
        self._session = session
        self._last_progress = session.clock.monotonic()
        self._rate = StepRate(session.deadlines.budget_s)
        self._told_fit: tuple[int, int] | None = None
        self._told_put_off = False
        self._trackers = TrackerRuns()

    def start(self) -> None:
        """What the box is, which source set it, and where training goes on."""
        session = self._session
        limit = session.deadlines.earliest
        left_s = limit.at - session.clock.monotonic()
        deadline_wall = session.clock.wall() + left_s
        loaded = session.restored
        where = "starting from scratch"
        if loaded is not None:
            facts = loaded.info.facts
            where = f"resumed from step {facts.step}"
            if facts.epoch is not None and (
                facts.epoch or facts.batch
            ):  # a loop that is not ours tells neither
                where += f" (epoch {facts.epoch}, batch {facts.batch})"
            session.messages.event(CheckpointRestored(loaded.info.address, facts.step))
            self._compare(facts.environment)
        later = self._counts_from_the_first_step()
        attached = _ATTACHED_TO.get(session.settings.framework, "") if session.settings.attached else ""
        if session.enrolment.governed:  # whose command has named the run and its box
            ends = "the box counts from the first step" if later else f"ends by {local_text(deadline_wall)}"
            text = f"{attached}{where}; {ends}"
        else:
            text = f"run {session.run_id}, {attached}{where}: {duration_text(left_s)} until {local_text(deadline_wall)}"
        if not session.enrolment.governed or limit.source != GOVERNOR:
            text += f", set by {limit.source}"
        text += "."
        started = SessionStarted(
            pid=os.getpid(),
            child_of=parent_pid(),
            budget_s=session.deadlines.budget_s,
            budget_source=limit.source,
            deadline_wall=deadline_wall,
            resumed_from=session.resumed_from,
            box=session.enrolment.box,
            framework=session.settings.framework,
            attached=session.settings.attached,
            message=text,
        )
        session.messages.event(started)
        session.messages.say(text)
        if not later:
            self._long_start()
        if loaded is not None:
            say_what_is_unseeded(session.messages.say_once, session.settings.environ)

    def _counts_from_the_first_step(self) -> bool:
        """Whether the box begins at the first step, whenever that is."""
        session = self._session
        if session.deadlines.earliest.fixed or session.enrolment.box != 1:
            return False
        return session.enrolment.governed and bool(
            session.settings.environ.get(contract.BUDGET_FROM_TRAINING)
        )

    def _long_start(self) -> None:
        session = self._session
        started_s, budget_s = session.clock.monotonic() - session.deadlines.start, session.deadlines.budget_s
        if (
            LONG_START_SHARE * budget_s < started_s < budget_s
        ):  # behind it the box counts from the first step, or nothing trains
            left, gone = duration_text(budget_s - started_s), duration_text(started_s)
            session.messages.say(
                f"Training starts with {left} left of {duration_text(budget_s)} ({gone} went to start-up, "
                "as it will in each box). A longer box trains more.",
                "warning",
            )

    def _compare(self, saved: Mapping[str, Any]) -> None:
        now = self._session.environment
        both = sorted(set(saved) & set(now))
        changed = [f"{key}: {saved[key]} then, {now[key]} now" for key in both if saved[key] != now[key]]
        if changed:
            told = "; ".join(changed)
            self._session.messages.say_once(
                f"Results may not be bit-identical, because this has changed: {told}.", "warning"
            )

    def size(self) -> None:
        """A state so large that its save takes most of the box, or more than it: said before training, with numbers."""
        session = self._session
        save_s, budget_s = session.pacer.save_s(), session.deadlines.budget_s
        if save_s <= budget_s / 2:
            return
        known = "as measured" if session.forecast.prior_saves else "estimated until the first save"
        session.messages.say(
            f"The state is {session.saver.state_bytes / 1e9:.2f} GB; saving it takes about {duration_text(save_s)} "
            f"({known}) of a box of {duration_text(budget_s)}. "
            + (
                "Training stops early enough to save it; a longer box wastes less."
                if save_s < budget_s
                else "If so, no checkpoint fits into this box: give it more time."
            ),
            "warning",
        )

    def progress(self, now: float) -> None:
        """About once a second; reads logged tensors, so it is the only place that waits for a device."""
        session = self._session
        if self._rate.began is None and session.steps:
            self._rate.observe(now, session.steps)
            step, after_s = session.training_state.position().step, now - session.deadlines.start
            session.messages.event(TrainingStarted(step, after_s))
        if now - self._last_progress < PROGRESS_EVERY_S:
            return
        self._last_progress = now
        self._note_trackers()
        position = session.training_state.position()
        if self._rate.began is not None:
            self._rate.observe(now, session.steps)
        values = self._values()
        progress = Progress(
            step=position.step,
            epoch=position.epoch,
            batch=position.batch,
            loss=as_float(values.get("loss")),
            values=values,
            remaining_s=session.remaining_s(),
            rate=self._rate.per_s,
            next_save_s=session.pacer.next_save_s(now, session.remaining_s()),
        )
        session.messages.event(progress)
        if (
            self._told_fit is None
            and session.steps >= FIT_AFTER_STEPS
            and self._rate.known
            and self._rate.per_s
        ):
            self._fit(position.step, self._rate.per_s)

    def _values(self) -> Mapping[str, float | int | str]:
        """What was logged last, and the learning rate; waits for a device where a value lies there."""
        session = self._session
        return with_rate(session.logged.numbers(), session.training_state.learning_rate())

    def _note_trackers(self) -> None:
        for run in self._trackers.new():
            self._session.messages.event(run)

    def _fit(self, step: int, rate: float) -> None:
        """How many steps fit into this box and how many boxes follow, start-up and reserve left out of each."""
        session = self._session
        assert self._rate.since is not None
        rate *= session.forecast.came_share
        reserve_s = session.pacer.save_s() + session.pacer.exit_s()
        since, before = self._rate.since
        start_s = since - session.deadlines.start
        fits = int(rate * max(0.0, session.remaining_s() - reserve_s))
        in_a_box = before + int(rate * max(0.0, session.deadlines.budget_s - start_s - reserve_s))
        self._told_fit = (step, fits)
        total = session.training_state.total_steps()
        boxes = None
        text = f"about {fits} more steps fit into this box"
        if total is not None and total > step + fits:
            more = -(-(total - step - fits) // max(1, in_a_box))
            boxes = 1 + more
            text += f"; the training has about {total}, so it needs about {more} more box{'es' * (more > 1)} like this"
        elif total is not None:
            text += f"; the training should end in this one, at about step {total}"
        session.messages.event(Fit(steps_that_fit=fits, total_steps=total, boxes=boxes))
        session.messages.say(text + ".")

    def _forecast_and_what_came(self, step: int) -> dict[str, int]:
        """For the next box's forecast; of one that was ended by somebody it says nothing."""
        if self._told_fit is None or self._session.outcome is not Outcome.TIMEBOXED:
            return {}
        told_at, fits = self._told_fit
        return {"steps_forecast": fits, "steps_that_came": step - told_at}

    def _what_a_box_missed(self, made: int, step: int) -> list[str]:
        """Start-up that left no time, or a forecast that was far off: why a box did less than it should."""
        session = self._session
        if session.outcome is not Outcome.TIMEBOXED:
            return []
        if made == 0:
            gone_s = session.pacer.began - session.deadlines.start
            return [
                f"no step was made: {duration_text(gone_s)} of the box had passed when it opened. Give it more time"
            ]
        checked = self._forecast_and_what_came(step)
        if checked and checked["steps_that_came"] < FORECAST_IS_FAR_OFF * checked["steps_forecast"]:
            return [
                f"{checked['steps_that_came']} more steps were made where {checked['steps_forecast']} were expected"
            ]
        return []

    def put_off(self) -> None:
        """The disk does not keep up with the interval that was asked for: said once, when it has happened often."""
        session = self._session
        if session.pacer.put_off != OFTEN or self._told_put_off:
            return
        self._told_put_off = True
        save_s, asked_s = (
            session.forecast.save_likely_s(session.saver.state_bytes),
            session.pacer.asked_every_s,
        )
        session.messages.event(SavesPutOff(times=OFTEN, save_s=save_s, asked_every_s=asked_s))
        asked = "" if asked_s is None else f", and one was due every {duration_text(asked_s)}"
        session.messages.say(
            f"{OFTEN} periodic checkpoints had to wait: the previous one was still being written (a save "
            f"took up to {duration_text(save_s)} here{asked}). They are saved as often as the disk allows.",
            "warning",
        )

    def age(self, info: CheckpointInfo) -> str:
        """Which checkpoint this is and how old: ` of step 120, made 3 min 20 s ago`."""
        return f" of step {info.step}, made {duration_text(self._age_s(info))} ago"

    def _age_s(self, info: CheckpointInfo) -> float:
        return max(0.0, self._session.clock.wall() - info.wall_s)

    def ended(
        self,
        outcome: Outcome,
        reason: str,
        *,
        steps: int,
        step: int | None,
        values: Mapping[str, Any] | None = None,
        checked: Mapping[str, int] | None = None,
    ) -> Ended:
        """What is told of a box that is over now. The guard asks for it from its own thread, while the last step hangs.

        Args:
            steps: made in this box.
            step: the last.
            values: what was logged last, by name.
            checked: what was forecast and what came.
        """
        session, newest = self._session, self._session.checkpoint
        now = session.clock.monotonic()
        return Ended(
            outcome=outcome.value,
            reason=reason,
            steps=steps,
            step=step,
            loss=as_float((values or {}).get("loss")),
            checkpoint=None if newest is None else newest.address,
            checkpoint_step=None if newest is None else newest.step,
            checkpoint_age_s=None if newest is None else self._age_s(newest),
            used_s=now - session.deadlines.start,
            slack_s=session.deadlines.earliest.at - now,
            reserve_s=session.reserve_kept_s,
            values=values or {},
            measured={**session.forecast.measured(), **(checked or {})},
        )

    def end(self) -> Ended:
        """The last event, for the record too; and the last line, of which a governor says all but what went wrong."""
        session = self._session
        newest, position = session.checkpoint, session.training_state.position()
        made = session.steps_made()
        self._note_trackers()
        ended = self.ended(
            session.outcome,
            session.reason,
            steps=made,
            step=position.step,
            values=self._values(),
            checked=self._forecast_and_what_came(position.step),
        )
        missed = [f"{one[0].upper()}{one[1:]}." for one in self._what_a_box_missed(made, position.step)]
        stale = newest is not None and newest.step < position.step  # a save failed, or was left out
        saved = f"The newest checkpoint is{self.age(newest)}." if newest and stale else ""
        if session.enrolment.governed:  # the governor tells how it ended, and how to go on
            told = missed
        else:
            told = [self._how_it_ended(ended), *missed, saved, *self._what_is_left(newest)]
        if text := " ".join(filter(None, told)):
            session.messages.say(text)
        session.messages.event(ended)
        return ended

    def _how_it_ended(self, ended: Ended) -> str:
        """Such as `Stopped at step 139, 0.4 s before the deadline.`"""
        session = self._session
        if session.outcome is Outcome.TIMEBOXED:
            return stopped_text(ended.step, ended.slack_s)
        text = f"{session.outcome.value.capitalize()} at step {ended.step} after {duration_text(ended.used_s or 0.0)}"
        return f"{text}: {session.reason.rstrip('.')}." if session.reason else f"{text}."

    def _what_is_left(self, newest: CheckpointInfo | None) -> list[str]:
        left = f"Checkpoint: {newest.address}." if newest else "There is no checkpoint."
        if self._session.outcome is Outcome.COMPLETED or (newest and self._session.settings.origin == CELL):
            return [left]
        return [left, f"{'Resume' if newest else 'Start again'}: run={self._session.run_id!r}"]
