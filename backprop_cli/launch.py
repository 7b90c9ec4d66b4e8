"""One attempt from the command line: the script's argv and environment, the governor, and the record at the
end.
"""

from __future__ import annotations

import math
import os
import signal
from collections.abc import Callable, Sequence
from pathlib import Path

from backprop_cli.admission import Grant, admitted
from backprop_cli.attempt_end import (
    Farewell,
    attempt_ended,
    farewell,
    hint_at_interpreter,
    last_known,
    measured_in,
    newest,
)
from backprop_cli.checkpoints import usable
from backprop_cli.contract import Contract, Start
from backprop_cli.live_record import LiveRecord
from backprop_cli.matching import Matches
from backprop_cli.notices import Notices
from backprop_cli.provenance import keep_provenance, started_from
from backprop_cli.sinks import sinks_asked_for
from backprop_cli.start_up import StartUpAllowance
from backprop_cli.tasks import FirstTask, Word
from backprop_cli.trackers import tracker_variables_for
from backprop_cli.unrecognised import Unrecognised
from backprop_core.clock import Clock
from backprop_core.config.options import TRAINING
from backprop_core.config.sources import Settings
from backprop_core.contract import OF_ONE_ATTEMPT
from backprop_core.deadline.budget import duration_text
from backprop_core.deadline.scheduler import MARGIN_S, JobEnd, job_end
from backprop_core.errors import BackpropError
from backprop_core.events.kinds import AttemptStarted
from backprop_core.governor.governor import Governor
from backprop_core.governor.monitor import Monitor
from backprop_core.governor.observed import Ending
from backprop_core.governor.oom import KillCounts, explained, kill_counts
from backprop_core.governor.order import Observer, Order
from backprop_core.governor.signals import SignalInbox, warning_signals
from backprop_core.governor.sink_processes import SinkProcesses
from backprop_core.governor.verdict import Verdict, judge, survived
from backprop_core.import_watch import is_importing
from backprop_core.outcome import Outcome
from backprop_core.provenance.attempt_provenance import Provenance
from backprop_core.resources.admission import NotAdmittedError
from backprop_core.runs.hold import RunHold
from backprop_core.runs.process import ProcessIdentity
from backprop_core.runs.record import RunRecord
from backprop_core.runs.store import RunStore
from backprop_core.strict_json import as_whole

LEAST_BOX_S = 1.0
"""Less is not worth a start."""


class Launch:
    """Runs attempts of one run that is held.

    Args:
        store, hold: where the run is kept, and the right to write it.
        settings: all options.
        clock: the time.
        observer: who is told.
        first: the governors of other tasks that follow this one's, or None.
    """

    def __init__(
        self,
        store: RunStore,
        hold: RunHold,
        settings: Settings,
        clock: Clock,
        observer: Observer,
        first: FirstTask | None = None,
    ) -> None:
        self._first = first
        self._store = store
        self._hold = hold
        self._settings = settings
        self._clock = clock
        self._observer = observer
        self._monitor: Monitor | None = None
        self._waited_s = 0.0
        self._sinks: SinkProcesses | None = None
        self._allowance: StartUpAllowance | None = None
        self._end = self._end_without_job = math.inf
        self._total: tuple[float, float] | None = None
        self.told_to_leave = False
        """Somebody asked the last attempt to end when its script had ended already: another is not wanted."""
        self.farewell: Farewell | None = None  # the last attempt's, for whoever knows what follows it

    def attempt(
        self,
        record: RunRecord,
        start: Start,
        *,
        end: float | None = None,
        total_s: float | None = None,
        missed: Callable[[], Sequence[signal.Signals]] = tuple,
    ) -> Verdict:
        """One attempt, from the start of the script to the record of its end.

        Args:
            end: monotonic instant at which it has to be over, its wait for resources included; None for no such instant.
            total_s: seconds of the whole chain that `end` is the end of; None for one without a total.
            missed: gives the signals that came before the script's own watch for them began.

        Raises:
            NotAdmittedError: resources did not come free; nothing was begun.
            UsageError: the script could not be started.
        """
        self._total = None if end is None or total_s is None else (total_s, end)
        self._end_without_job = math.inf if end is None else end
        job = job_end(again=bool(record.attempts))
        if job is not None and job.wall > self._clock.wall():
            job_at = job.at(self._clock) - MARGIN_S
            if job_at - self._clock.monotonic() < LEAST_BOX_S:
                raise NotAdmittedError(
                    f"Not started: {job.text} is too close.", "Start it in another job.", None
                )
            end = job_at if end is None else min(end, job_at)
        else:
            job = None
        wait_s = self._settings["wait-minutes"] * 60.0 if self._settings["wait"] else 0.0
        if end is not None:
            wait_s = max(0.0, min(wait_s, end - LEAST_BOX_S - self._clock.monotonic()))
        with admitted(self._settings, record, self._clock, self._observer, wait_s) as grant:
            origin = started_from(self._settings, record, grant.gpus, self._clock)
            box_s = self._settings["max-run-minutes"] * 60.0
            budget_s = box_s if end is None else min(box_s, max(LEAST_BOX_S, end - self._clock.monotonic()))
            warnings = warning_signals(self._settings["warning-signals"])
            with SignalInbox(warnings) as inbox:  # a second Ctrl-C must not cut off the writing of the record
                inbox.arrived_before(missed())
                if job is not None and budget_s < box_s and end == job_at:
                    self._observer.say(f"this box has {duration_text(budget_s)}, set by {job.text}.")
                self._end = math.inf if end is None else end
                verdict = self._run(record, start, grant, budget_s, inbox, job, origin)
                self.told_to_leave = inbox.told_to_leave()
            return verdict

    def _run(
        self,
        record: RunRecord,
        start: Start,
        grant: Grant,
        budget_s: float,
        inbox: SignalInbox,
        job: JobEnd | None,
        origin: Provenance | None,
    ) -> Verdict:
        own = ProcessIdentity.own()
        self._waited_s = grant.waited_s
        attempt = self._store.begin_attempt(
            self._hold,
            process=own,
            governor=own,
            budget_s=budget_s,
            budget_source=self._settings.by_name["max-run-minutes"].origin,
            resumed_from=start.resume_from,
        )
        self._begin_sinks(record, attempt.number)
        if trouble := keep_provenance(self._store.run_dir(record.id), attempt.number, origin):
            self._observer.say(trouble)
        deadline = self._clock.monotonic() + budget_s
        contract = Contract(
            run_id=record.id,
            home=self._store.home,
            run_dir=self._store.run_dir(record.id),
            checkpoint_dir=self._store.checkpoints_place(record),
            attempt=attempt.number,
            start=start,
            deadline=deadline,
            budget_s=budget_s,
            job=job,
            total=self._total,
        )
        order = Order(
            argv=start.argv,
            cwd=record.cwd,
            env={
                **contract.environment(os.environ, self._settings, grant.environ, grant.gpus, self._clock),
                **tracker_variables_for(
                    record, start.resume, self._settings, self._store, self._observer.say
                ),
            },
            attempt_dir=attempt.directory,
            deadline=deadline,
            budget_s=budget_s,
            grace_s=self._settings["grace"],
            box_end=min(
                deadline - budget_s + self._settings["max-run-minutes"] * 60.0, self._end_without_job
            ),
            fixed_end=math.inf if job is None else job.at(self._clock) - MARGIN_S,
            warnings=warning_signals(self._settings["warning-signals"]),
        )
        if self._first is not None:
            told = {name: order.env[name] for name in OF_ONE_ATTEMPT if name in order.env}
            word = Word(record.id, attempt.number, str(attempt.directory), budget_s, budget_s, told)
            self._first.attempt_begins(word, deadline)
        self._live = live = LiveRecord(self._store, self._hold, self._clock, self._observer.say)
        names = [gpu.name for gpu in grant.gpus if gpu.name]
        if record.gpu is None and names:
            live.note(lambda: self._store.amend(self._hold, gpu=names[0]))

        def started(pid: int) -> None:
            identity = ProcessIdentity.of(pid)
            live.note(lambda: self._store.set_process(self._hold, attempt.number, identity))
            live.note(lambda: grant.place.name_script(identity))

        unrecognised = Unrecognised.of(self._settings, self._clock.monotonic(), budget_s)
        notices = Notices(self._settings, job, self._clock, self._observer.say)
        kills = kill_counts()
        self._monitor = grant.monitor(attempt.governor_log, self._clock)
        governor = Governor(
            order,
            self._clock,
            self._observer,
            started=started,
            checkpoint=live.checkpoint,
            monitor=self._monitor,
            first_step=lambda: live.note(grant.place.warmed_up),
            looked=lambda: self._look(governor, unrecognised, notices, attempt.directory),
            inbox=inbox,
        )
        self._allowance = None
        if self._settings["budget-from"] == TRAINING:
            self._allowance = StartUpAllowance(
                attempt.directory, deadline - budget_s, budget_s, self._end, self._clock, self._observer.say
            )
        files = governor.written_files
        live.matches = Matches.wanted_by(self._settings, Path(record.cwd), self._clock, files)
        begun = AttemptStarted(record.id, record.name, attempt.number, budget_s, start.checkpoint)
        self._monitor.log.write(begun)
        try:
            try:
                ending = governor.run()
                self._monitor.ended()
                if ending.session.progress is None:
                    self._monitor.heard(ending.heard.step, ending.heard.loss)
            except BaseException as error:
                live.stop()
                reason = (
                    error.what if isinstance(error, BackpropError) else f"backprop itself failed: {error!r}."
                )
                self._recorded(record, attempt.number, Verdict(Outcome.FAILED, reason, 1), None)
                raise
            return self._conclude(record, attempt.number, ending, kills)
        finally:
            notices.close()
            self._monitor.close()

    def _begin_sinks(self, record: RunRecord, attempt: int) -> None:
        wanted = sinks_asked_for(self._settings)
        if wanted and self._sinks is None:
            run_dir = self._store.run_dir(record.id)
            self._sinks = SinkProcesses(wanted, record, run_dir, self._clock, self._observer.say)
        if self._sinks is not None:
            self._sinks.begin(attempt)

    def close(self) -> None:
        """No more attempts: what receives their events gets its time to finish, but the scheduler's job does not wait."""
        job, sinks = job_end(), self._sinks
        self._sinks = None
        if sinks is not None:
            in_job = job is not None and job.wall > self._clock.wall()
            sinks.close(by=job.at(self._clock) - MARGIN_S if job is not None and in_job else None)

    def _look(
        self, governor: Governor, unrecognised: Unrecognised, notices: Notices, attempt_dir: Path
    ) -> None:
        """Four times a second, while the script runs."""
        notices.look(governor)
        if self._allowance is not None:
            self._allowance.look(governor)
        if self._first is not None:
            self._first.look(self._clock.monotonic(), governor.deadline)
        if self._sinks is not None:
            self._sinks.look()
        self._live.look(*newest(governor.session.progress or {}, governor.heard))
        recognised = governor.session.started is not None or self._live.has_checkpoint
        imports = is_importing(attempt_dir, self._clock.wall())
        if told := unrecognised.look(self._clock.monotonic(), recognised=recognised, imports=imports):
            self._observer.say(told)

    # The end

    def _conclude(self, record: RunRecord, number: int, ending: Ending, kills: KillCounts) -> Verdict:
        self._live.stop()
        doubtful: list[str] = []
        found = [*ending.session.checkpoints]
        if self._live.matches is not None:
            doubtful, whole = self._live.matches.at_end(killed=ending.killed or ending.returncode < 0)
            found += whole
        self._live.close(doubtful, found)
        known = self._live.known(record, doubtful)
        resumable = usable(self._store, known) is not None
        verdict = judge(ending, resumable=resumable, timeboxed_exit=self._settings["timeboxed-exit-code"])
        own_bytes = self._monitor.last_bytes if self._monitor is not None else 0
        verdict = explained(verdict, ending, kills, kill_counts(), own_bytes)
        verdict = survived(verdict, ending.survival)
        if ending.lost_bytes:
            self._observer.say(
                f"{ending.lost_bytes} bytes of the script's output could not be kept in output.log."
            )
        self._recorded(record, number, verdict, ending, known.last_checkpoint if resumable else None)
        if hint := hint_at_interpreter(record, verdict):
            self._observer.say(hint)
        self.farewell = farewell(known, verdict, ending, resumable)
        return verdict

    def _recorded(
        self,
        record: RunRecord,
        number: int,
        verdict: Verdict,
        ending: Ending | None,
        checkpoint: str | None = None,
    ) -> None:
        """Write the end down. The script's own end counts more than our not being able to: that is said.

        Args:
            checkpoint: what a resume would go on from, or None.
        """
        facts = {} if ending is None else ending.session.finished or {}
        last = last_known(ending, checkpoint)
        ended = attempt_ended(record, number, verdict, last)
        if self._monitor is not None:
            self._monitor.log.write(ended)
        try:
            self._store.finish_attempt(
                self._hold,
                number,
                outcome=verdict.outcome,
                reason=verdict.reason,
                measured=measured_in(facts, ending, self._monitor, self._waited_s).written(),
                exit_status=last.exit_status,
                steps=as_whole(facts.get("steps")),
                last_step=last.step,
                last_loss=last.loss,
            )
        except BackpropError as error:
            self._observer.say(f"The end of this attempt could not be recorded: {error}")
