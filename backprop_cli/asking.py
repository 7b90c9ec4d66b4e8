"""Requests to a run that goes on in another terminal, with or without a governor."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from backprop_cli.opening import open_store, tell, tell_warnings
from backprop_core.errors import UsageError
from backprop_core.events.kinds import Ended, SessionStarted, SessionWithdrawn
from backprop_core.outcome import Outcome
from backprop_core.runs.attempt import EVENTS_FILE
from backprop_core.runs.control import Action, pause_asked, send_control
from backprop_core.runs.events import read_kinds
from backprop_core.runs.pauses import pauses_of
from backprop_core.runs.process import ProcessIdentity
from backprop_core.runs.record import RunRecord


def ask(
    run: str, action: Action, done: str, *, extend_s: float | None = None, as_json: bool = False
) -> RunRecord:
    """Put a request into the folder of a run's attempt.

    Args:
        run: id of the run, or the beginning of it.
        done: what to tell the user, with `{}` for the id.
        as_json: also print one object: what was asked of which run, and how it stands.

    Raises:
        UsageError: the run is unknown, does not go on, or cannot do what is asked.
        StoreError: the request cannot be written.
    """
    store = open_store()
    record = store.load(run)
    tell_warnings(store)
    attempt = record.last_attempt
    holder = store.holder(record)
    if holder is not None:
        _ask_idle(record, action, holder)
        return _shown(record, action, as_json)
    if record.status is not Outcome.RUNNING or attempt is None:
        raise UsageError(
            f"Run {record.id} is {record.status.value}, so there is nothing to {action.value}.", _hint(record)
        )
    folder = store.attempt_dir(record.id, attempt.number)
    if action is Action.CHECKPOINT and attempt.governor is not None and not _has_session(folder):
        raise UsageError(
            f"Run {record.id} cannot save now: backprop is not attached to its script, or not yet.",
            "Try again once it trains. --checkpoint-glob records files that a script saves itself.",
        )
    if action is Action.PAUSE and pause_asked(folder):
        paused = pauses_of(folder).since_wall is not None
        raise UsageError(
            f"Run {record.id} is paused already."
            if paused
            else f"Run {record.id} was asked to pause already.",
            f"'backprop continue {record.id}' continues it.",
        )
    if action is Action.CONTINUE and not pause_asked(folder):
        if pauses_of(folder).since_wall is not None:
            raise UsageError(
                f"Run {record.id} was suspended by Ctrl-Z.", "'fg' in its terminal continues it."
            )
        raise UsageError(
            f"Run {record.id} is not paused, so there is nothing to continue.",
            f"'backprop status {record.id}' shows how it stands.",
        )
    send_control(
        folder,
        action,
        extend_s=extend_s,
        why=f"'backprop {action.value}'",
    )
    tell(done.format(record.id))
    return _shown(record, action, as_json)


def _has_session(attempt_dir: Path) -> bool:
    """Whether a session that could save runs in the script of an attempt."""
    kinds = (SessionStarted.kind, SessionWithdrawn.kind, Ended.kind)
    told = read_kinds(attempt_dir / EVENTS_FILE, kinds)
    return bool(told) and told[-1]["kind"] == SessionStarted.kind


def _shown(record: RunRecord, action: Action, as_json: bool) -> RunRecord:
    if as_json:
        from backprop_cli.summary import show_request

        show_request(record, action.value)
    return record


def _ask_idle(record: RunRecord, action: Action, holder: ProcessIdentity) -> None:
    """Nothing of the run goes on, but a backprop process waits to begin its next box: it can only be told to leave."""
    if action is not Action.STOP:
        raise UsageError(
            f"Run {record.id} is waiting to start a box, so there is nothing to {action.value}.",
            f"'backprop stop {record.id}' ends the wait.",
        )
    os.kill(holder.pid, signal.SIGTERM)
    tell(f"run {record.id} was waiting to start a box; told process {holder.pid} to stop waiting.")


def _hint(record: RunRecord) -> str:
    return f"Continue it with 'backprop resume {record.id}'." if record.resumable else ""
