"""Attempts one after another, each begun as the last one ended, until the script completes."""

from __future__ import annotations

import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from backprop_cli.checkpoints import candidates, committed, damage_in, is_own, newest_matches, usable, whole
from backprop_cli.contract import Start
from backprop_cli.launch import LEAST_BOX_S, Launch
from backprop_cli.scripts import Kind, argv_of
from backprop_core.clock import Clock
from backprop_core.config.sources import Settings
from backprop_core.deadline.budget import duration_text
from backprop_core.errors import BackpropError, UsageError
from backprop_core.governor.governor import Observer
from backprop_core.governor.signals import STOP_SIGNALS, SignalInbox
from backprop_core.governor.verdict import Verdict
from backprop_core.outcome import Outcome
from backprop_core.runs.record import RunRecord
from backprop_core.runs.store import RunStore

LOOK_EVERY_S = 0.1
_ENDED = "The {} was ended. Continue with: backprop resume {} --until-done"


@dataclass(frozen=True, slots=True)
class Chain:
    """How boxes follow one another.

    Args:
        until_done: go on until the script completes.
        total_s: seconds for all of it, rests and waits included; None for no limit.
        rest_s: seconds between two boxes.
    """

    until_done: bool = False
    total_s: float | None = None
    rest_s: float = 0.0


def resumed_start(
    store: RunStore,
    record: RunRecord,
    settings: Settings,
    asked: str | None = None,
    *,
    told: Callable[[str], None],
) -> Start:
    """How the next attempt of a run begins.

    Args:
        asked: a checkpoint that the user named, instead of the newest.
        told: gets a sentence about each checkpoint that is passed over because it is damaged.

    Raises:
        UsageError: the one that was asked for is damaged, and the script would be handed it.
    """
    flag = settings["resume-flag"]
    if asked and flag and (damage := damage_in(asked)):
        raise UsageError(damage, "Leave out --resume-from: then the newest one that is whole is taken.")
    if asked is not None:
        checkpoint: str | None = asked
    elif flag:  # the script restores itself, from what it has saved itself if there is such a thing
        checkpoint = _scripts_own(store, record) or _matched(record, settings) or whole(store, record, told)
    else:
        checkpoint = usable(store, record) or _matched(record, settings)
    argv = argv_of(kind_of(record), record.interpreter, record.command)
    if checkpoint is not None and flag:
        argv += [flag, checkpoint]
    # The session finds and verifies its own newest checkpoint; only what it cannot find is named to it.
    finds_one = (checkpoint is not None and is_own(checkpoint)) or committed(store.checkpoints_dir(record))
    named = checkpoint if asked or not finds_one else None
    itself = bool(flag) and checkpoint is not None and not is_own(checkpoint)
    return Start(argv, resume=True, resume_from=named, checkpoint=checkpoint, script_resumes=itself)


def _scripts_own(store: RunStore, record: RunRecord) -> str | None:
    """The newest checkpoint that is not of our format."""
    return next((place for place in candidates(store, record) if not is_own(place)), None)


def kind_of(record: RunRecord) -> Kind:
    """What the run's script is; what cannot be read is an ordinary script."""
    word = record.options.get("kind", Kind.SCRIPT)
    return Kind(word) if word in list(Kind) else Kind.SCRIPT


def run_chain(
    chain: Chain,
    launch: Launch,
    store: RunStore,
    record: RunRecord,
    start: Start,
    settings: Settings,
    *,
    clock: Clock,
    observer: Observer,
) -> Verdict:
    """Run boxes until one completes, fails, is stopped, gains nothing, or the total is used up."""
    end = None if chain.total_s is None else clock.monotonic() + chain.total_s
    while True:
        verdict = launch.attempt(record, start, end=end)
        if not chain.until_done or verdict.outcome is not Outcome.TIMEBOXED:
            return verdict
        if launch.told_to_leave:
            observer.say(_ENDED.format("chain", record.id))
            return verdict
        try:
            before, record = record, store.load(record.id)
        except BackpropError as error:
            observer.say(f"No further box is begun: {error}")
            return verdict
        why_not = _why_not_again(before, record, end, clock.monotonic() + chain.rest_s)
        if why_not:
            observer.say(why_not)
            return verdict
        if chain.rest_s and not _rested(chain.rest_s, clock, observer, record.id):
            return verdict
        start = resumed_start(store, record, settings, told=observer.say)


def _rested(rest_s: float, clock: Clock, observer: Observer, run_id: str) -> bool:
    """Rest; False if somebody has ended it: Ctrl-C, a scheduler, a closed terminal, 'backprop stop'."""
    observer.say(f"resting for {duration_text(rest_s)}.")
    end = clock.monotonic() + rest_s
    with SignalInbox() as inbox:
        while (left_s := end - clock.monotonic()) > 0:
            clock.sleep(min(LOOK_EVERY_S, left_s))
            arrived = inbox.take()
            if STOP_SIGNALS.intersection(arrived):
                observer.say(_ENDED.format("rest", run_id))
                return False
            if signal.SIGTSTP in arrived:
                inbox.stop_oneself()
    return True


def _why_not_again(before: RunRecord, after: RunRecord, end: float | None, at: float) -> str:
    """A sentence if another box would be in vain, else the empty string."""
    if after.last_checkpoint == before.last_checkpoint and after.last_step == before.last_step:
        return "This box gained nothing, so another would not either: make it longer with -m."
    if end is None and _counts_anew(after):
        return (
            "The loops of this script count anew on each resume, so a chain of boxes might never end: give it --total, or a "
            "box long enough for the rest. With backprop.timebox() in the script it ends by itself."
        )
    if end is not None and end - at < LEAST_BOX_S:
        return "The total time is used up."
    return ""


def _counts_anew(record: RunRecord) -> bool:
    """Whether the last attempt trained in a plain loop that backprop was attached to from outside."""
    measured = record.attempts[-1].measured if record.attempts else {}
    return bool(measured.get("attached")) and measured.get("framework") == "pytorch"


def _matched(record: RunRecord, settings: Settings) -> str | None:
    pattern = settings["checkpoint-glob"]
    found = newest_matches(Path(record.cwd), pattern, record.created_wall) if pattern else []
    return found[-1] if found else None
