"""Attempts one after another, each begun as the last one ended, until the script completes."""

from __future__ import annotations

import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from backprop_cli.checkpoints import candidates, committed, damage_in, is_own, newest_matches, usable, whole
from backprop_cli.contract import Start
from backprop_cli.launch import LEAST_BOX_S, Launch
from backprop_cli.progress import ChainProgress, Gained
from backprop_cli.requeue import SlurmJob, preempted_in_vain
from backprop_cli.scripts import ScriptKind, argv_of
from backprop_core.clock import Clock
from backprop_core.config.sources import Settings
from backprop_core.deadline.budget import duration_text
from backprop_core.deadline.scheduler import MARGIN_S, job_end
from backprop_core.errors import BackpropError, UsageError
from backprop_core.governor.order import Observer
from backprop_core.governor.signals import SignalInbox, warning_signals
from backprop_core.governor.verdict import EXIT_UNFINISHED, Verdict
from backprop_core.outcome import Outcome
from backprop_core.quick_dataclass import dataclass
from backprop_core.resources.admission import NotAdmittedError
from backprop_core.runs.measured import read_measured
from backprop_core.runs.record import RunRecord
from backprop_core.runs.store import RunStore
from backprop_core.script_files.hidden import show_hidden_of

LOOK_EVERY_S = 0.1


@dataclass(frozen=True, slots=True)
class Chain:
    """How boxes follow one another.

    Args:
        until_done: go on until the script completes.
        total_s: seconds for all of it, rests and waits included; None for no limit.
        rest_s: seconds between two boxes.
        deaths: how many sudden deaths in a row it goes on after.
        job: the SLURM job to requeue when it ends before the script has completed, or None.
    """

    until_done: bool = False
    total_s: float | None = None
    rest_s: float = 0.0
    job: SlurmJob | None = None
    deaths: int = 1


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
        raise UsageError(damage, "Leave out --resume-from to use the newest intact checkpoint.")
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


def kind_of(record: RunRecord) -> ScriptKind:
    """What the run's script is; what cannot be read is an ordinary script."""
    word = record.options.get("kind", ScriptKind.SCRIPT)
    return ScriptKind(word) if word in list(ScriptKind) else ScriptKind.SCRIPT


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
    """Run boxes until one completes, fails, is stopped, gains nothing, or the total is used up.

    Signals are heard all the time, also between two boxes. A chain that ends before its script has completed ends with
    another status than 0.

    Raises:
        NotAdmittedError: a box was not begun.
    """
    warnings = warning_signals(settings["warning-signals"])
    with SignalInbox(warnings, keys=False) as inbox:
        boxes = _Boxes(chain, launch, store, settings, inbox, clock, observer)
        try:
            verdict = boxes.run(record, start)
        finally:
            launch.close()
    if chain.job is not None:
        now = store.load(record.id)
        gained = Gained.of(now).beyond(Gained.of(record))
        return chain.job.after(
            verdict,
            gained=gained,
            in_vain=preempted_in_vain(now),
            how_to_go_on=boxes.how_to_go_on(),
            observer=observer,
        )
    stated = settings.by_name["timeboxed-exit-code"].origin != "default"
    if not chain.until_done or verdict.outcome is Outcome.COMPLETED or verdict.exit_status or stated:
        return verdict
    return replace(verdict, exit_status=EXIT_UNFINISHED)


@dataclass(frozen=True, slots=True)
class _Boxes:
    """The boxes of one chain and what they share."""

    chain: Chain
    launch: Launch
    store: RunStore
    settings: Settings
    inbox: SignalInbox
    clock: Clock
    observer: Observer

    def run(self, record: RunRecord, start: Start) -> Verdict:
        chain, say = self.chain, self.observer.say
        end = None if chain.total_s is None else self.clock.monotonic() + chain.total_s
        progress = ChainProgress(record)
        job = job_end()
        in_job = job is not None and job.wall > self.clock.wall()  # else it is left over in the environment
        deaths = 0
        if self.inbox.told_to_leave():
            raise NotAdmittedError("Not started: backprop was asked to stop.", "Start it again.", None)
        while True:
            verdict = self._box(record, start, end)
            deaths = deaths + 1 if verdict.sudden else 0
            follows = chain.until_done and (verdict.sudden or verdict.outcome is Outcome.TIMEBOXED)
            self._part(alone=not follows and not self._requeues(verdict))
            if not follows:
                return verdict
            try:
                record = self.store.load(record.id)
                why_not = "The chain was ended." if self.launch.told_to_leave else self._too_many(deaths)
                why_not = why_not or progress.after_box(record) or self._why_not(record, end, in_job)
                if not why_not and deaths:
                    say("The script died suddenly; the chain continues from what was saved.")
                if not why_not and not self._rested():
                    why_not = f"The {'rest' if chain.rest_s else 'chain'} was ended."
                if not why_not:
                    start = resumed_start(self.store, record, self.settings, told=say)
            except BackpropError as error:
                why_not = f"No further box starts: {error}"
            if why_not:
                say(why_not if self._requeues(verdict) else f"{why_not} {self.how_to_go_on()}".rstrip())
                return verdict

    def how_to_go_on(self) -> str:
        """What continues the training once nothing follows by itself; empty before the first box, and when all is done."""
        last = self.launch.farewell
        return "" if last is None else last.how_to_go_on(until_done=self.chain.until_done)

    def _box(self, record: RunRecord, start: Start, end: float | None) -> Verdict:
        try:
            return self.launch.attempt(
                record, start, end=end, total_s=self.chain.total_s, missed=self.inbox.take
            )
        except BackpropError:
            if how := self.how_to_go_on():  # the box before has left it out, because this one was to follow
                self.observer.say(how)
            raise
        finally:  # a script that died on its way back has put nothing back itself
            show_hidden_of(str(self.store.run_dir(record.id)))

    def _part(self, *, alone: bool) -> None:
        """The last line of a box; how to go on only where nothing follows by itself."""
        assert self.launch.farewell is not None
        how = self.how_to_go_on() if alone else ""
        self.observer.say(f"{self.launch.farewell.text} {how}".rstrip())

    def _requeues(self, verdict: Verdict) -> bool:
        """Whether the job, once its boxes are over, goes on by itself, or says why not."""
        return self.chain.job is not None and self.chain.job.wants_back(verdict)

    def _too_many(self, deaths: int) -> str:
        """A sentence if the script has died suddenly too often in a row: it would run into the same wall again."""
        if deaths <= self.chain.deaths:
            return ""
        often = "once" if deaths == 1 else "twice in a row" if deaths == 2 else f"{deaths} times in a row"
        return (
            f"The script died suddenly {often}, so no further box starts; --deaths {deaths} would start one."
        )

    def _why_not(self, record: RunRecord, end: float | None, in_job: bool) -> str:
        if end is None and _counts_anew(record):
            return (
                "The loops of this script start over on each resume, so a chain of boxes might never end: set --total, "
                "or make the box long enough for the rest. With backprop.timebox() in the script, it ends by itself."
            )
        now = self.clock.monotonic() + self.chain.rest_s
        if end is not None and end - now < LEAST_BOX_S:
            return "The total time is used up."
        job = job_end(again=True) if in_job else None
        if job is not None and job.at(self.clock) - MARGIN_S - now < LEAST_BOX_S:
            return f"No further box starts before {job.text}."
        return ""

    def _rested(self) -> bool:
        """Rest; False if somebody ended it, or what went before: Ctrl-C, a scheduler, a closed terminal, 'backprop stop'."""
        if self.chain.rest_s:
            self.observer.say(f"resting for {duration_text(self.chain.rest_s)}.")
        end = self.clock.monotonic() + self.chain.rest_s
        with SignalInbox(self.inbox.asks_to_end) as keys:
            while True:
                arrived = [*self.inbox.take(), *keys.take()]
                if self.inbox.asks_to_end.intersection(arrived):
                    return False
                if signal.SIGTSTP in arrived:
                    keys.stop_oneself()
                left_s = end - self.clock.monotonic()
                if left_s <= 0:
                    return True
                self.clock.sleep(min(LOOK_EVERY_S, left_s))


def _counts_anew(record: RunRecord) -> bool:
    """Whether the last attempt trained in a plain loop that backprop was attached to from outside."""
    session = read_measured(record.attempts[-1].measured if record.attempts else {}).session
    return session.attached and session.framework == "pytorch"


def _matched(record: RunRecord, settings: Settings) -> str | None:
    pattern = settings["checkpoint-glob"]
    found = newest_matches(Path(record.cwd), pattern, record.created_wall) if pattern else []
    return found[-1] if found else None
