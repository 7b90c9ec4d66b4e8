"""What an attempt leaves behind when it is over: the words for people, and what was measured for the record."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from backprop_cli.interpreter import missing_module_hint
from backprop_cli.scripts import ScriptKind
from backprop_core.deadline.budget import duration_text, stopped_text
from backprop_core.events.kinds import AttemptEnded
from backprop_core.governor.monitor import Monitor
from backprop_core.governor.observed import Ending
from backprop_core.governor.stdout_messages import Heard
from backprop_core.governor.verdict import RAN_TO_ITS_END, Verdict, survival_text
from backprop_core.outcome import Outcome
from backprop_core.quick_dataclass import dataclass
from backprop_core.runs.measured import GovernorFacts, Measured, PauseFacts, SessionFacts
from backprop_core.runs.record import RunRecord
from backprop_core.strict_json import as_float, as_number, as_object, as_text, as_whole

_CUT_OFF = frozenset({Outcome.TIMEBOXED, Outcome.PREEMPTED, Outcome.STOPPED})
"""Ends before which a session saves."""


@dataclass(frozen=True, slots=True)
class LastKnown:
    """The last that is known of an attempt: what its event and its record say."""

    exit_status: int | None
    step: int | None
    loss: float | None
    checkpoint: str | None
    seconds: float | None


def last_known(ending: Ending | None, checkpoint: str | None) -> LastKnown:
    """What the session has said last, else the script; `checkpoint` is what a resume would go on from."""
    if ending is None:
        return LastKnown(None, None, None, checkpoint, None)
    facts = ending.session.finished or {}
    step, loss = newest(ending.session.progress or {}, ending.heard)
    code = ending.returncode
    return LastKnown(
        exit_status=128 - code if code < 0 else code,
        step=_first(_last_step(ending), step),
        loss=_first(as_float(facts.get("loss")), loss),
        checkpoint=checkpoint,
        seconds=ending.used_s,
    )


def _last_step(ending: Ending) -> int | None:
    """That training came to, as its session has said last, or as what it left in memory shows."""
    known = [as_whole((ending.session.finished or {}).get("step"))]
    if ending.survival is not None:  # a session tells the last checkpoint's, where a step has hung
        known += [ending.survival.died_at, ending.survival.step]
    return max((step for step in known if step is not None), default=None)


def attempt_ended(record: RunRecord, number: int, verdict: Verdict, last: LastKnown) -> AttemptEnded:
    """The event of an attempt's end; made here and nowhere else."""
    over = verdict.outcome is Outcome.COMPLETED
    return AttemptEnded(
        run_id=record.id,
        name=record.name,
        attempt=number,
        outcome=verdict.outcome.value,
        reason=verdict.reason,
        exit_status=last.exit_status,
        step=last.step,
        loss=last.loss,
        checkpoint=last.checkpoint,
        seconds=last.seconds,
        resumable=last.checkpoint is not None and not over,
        next=None if over else f"backprop resume {record.id}",
    )


@dataclass(frozen=True, slots=True)
class Farewell:
    """The last line of an attempt, in two parts: where another box follows at once, nobody has to resume.

    Attributes:
        text: how it ended, and why.
        run_id: id of the run.
        resumable: there is a checkpoint to go on from.
        over: nothing is left to do.
    """

    text: str
    run_id: str
    resumable: bool
    over: bool

    def how_to_go_on(self, *, until_done: bool = False) -> str:
        """The command that resumes, or that there is no checkpoint; empty where the training is over.

        Args:
            until_done: it was a chain of boxes, and would be one again.
        """
        if self.over:
            return ""
        resume = f"backprop resume {self.run_id}{' --until-done' if until_done else ''}"
        if self.resumable:
            return f"Resume: {resume}"
        return f"There is no checkpoint: '{resume}' would start from scratch."


def farewell(record: RunRecord, verdict: Verdict, ending: Ending, resumable: bool) -> Farewell:
    """The last line: how it ended, why, and how to go on."""
    over = verdict.outcome is Outcome.COMPLETED
    return Farewell(_how_it_ended(verdict, ending, resumable), record.id, resumable, over)


def _how_it_ended(verdict: Verdict, ending: Ending, resumable: bool) -> str:
    finished = ending.session.finished or {}
    step, saved = _last_step(ending), as_whole(finished.get("checkpoint_step"))
    kept, survived = "", survival_text(ending.survival)
    if survived:
        ends_in_time = resumable and saved is not None and verdict.outcome is Outcome.TIMEBOXED
        kept = f" {survived}" if ends_in_time else ""  # the reason of other ends says so
    elif resumable and saved is not None and verdict.outcome in _CUT_OFF:
        stale = step is not None and saved < step  # a save failed, or was left out
        kept = f" The newest checkpoint is from step {saved}." if stale else " Checkpoint saved."
    if kept and verdict.outcome is Outcome.TIMEBOXED:
        killed = " The script did not exit in time and was killed." if ending.killed else ""
        return f"{stopped_text(step, ending.unused_s)}{kept}{killed}"
    at = f" at step {step}" if step else ""
    text = f"{verdict.outcome.value}{at} after {duration_text(ending.used_s)}."
    if verdict.reason != RAN_TO_ITS_END:
        text = f"{text} {_as_sentence(verdict.reason)}"
    return f"{text}{kept}"


def _as_sentence(reason: str) -> str:
    """A reason with a capital and a full stop; a session tells its own in half a sentence. Our own name has no capital."""
    first = reason[:1] if reason.startswith("backprop") else reason[:1].upper()
    return f"{first}{reason[1:].rstrip('.')}."


def hint_at_interpreter(record: RunRecord, verdict: Verdict) -> str:
    """What to do where a Python script of ours has failed because its interpreter lacks a module."""
    if verdict.outcome is not Outcome.FAILED or record.options.get("kind") == ScriptKind.PROGRAM:
        return ""
    return missing_module_hint(verdict.reason, record.interpreter)


def measured_in(
    facts: Mapping[str, Any], ending: Ending | None, monitor: Monitor | None, waited_s: float
) -> Measured:
    """The records of an attempt: of the last event of its session, and of what the governor saw."""
    peak, gpu_peak = (0, 0) if monitor is None else (monitor.peak_bytes, monitor.peak_gpu_bytes)
    priors = dict(as_object(facts.get("measured")))
    if ending is None:
        return Measured(priors, governor=GovernorFacts(peak_rss_bytes=peak, peak_gpu_bytes=gpu_peak or None))
    if ending.exit_s is not None:
        priors["exit_s"] = ending.exit_s
    started = ending.session.started or {}
    return Measured(
        priors,
        SessionFacts(
            framework=as_text(started.get("framework")) or None,
            attached=bool(started.get("attached")),
            slack_s=as_number(facts.get("slack_s")),
            used_s=as_number(facts.get("used_s")),
            reserve_s=as_number(facts.get("reserve_s")),
        ),
        GovernorFacts(
            waited_s=waited_s,
            used_s=ending.used_s,
            unused_s=ending.unused_s,
            killed=ending.killed,
            cause=None if ending.cause is None else ending.cause.value,
            leftovers=len(ending.leftovers),
            first_step=ending.heard.first_step,
            output_lost_bytes=ending.lost_bytes,
            pauses=tuple(PauseFacts(pause.why, pause.seconds) for pause in ending.pauses),
            peak_rss_bytes=None if monitor is None else peak,
            peak_gpu_bytes=gpu_peak or None,
        ),
    )


def newest(progress: Mapping[str, Any], heard: Heard) -> tuple[int | None, float | None]:
    """The latest step and loss: the session's word, else the script's."""
    return _first(as_whole(progress.get("step")), heard.step), _first(
        as_float(progress.get("loss")), heard.loss
    )


def _first(*values: Any) -> Any:
    return next((value for value in values if value is not None), None)
