"""Runs on disk: makes, holds and changes them. The only writer of `run.json`."""

from __future__ import annotations

import contextlib
import os
import platform
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from backprop_core.clock import Clock
from backprop_core.errors import IllegalMoveError, StoreError, UsageError
from backprop_core.outcome import Outcome
from backprop_core.runs import experiments
from backprop_core.runs.atomic import keep_copy, replace_file, sweep_temporaries, write_error
from backprop_core.runs.attempt import EVENTS_FILE, Attempt, attempt_dir
from backprop_core.runs.events import EventLog
from backprop_core.runs.finder import RunFinder
from backprop_core.runs.hold import RunHold, busy_with
from backprop_core.runs.identifiers import new_run_id, valid_run_id
from backprop_core.runs.listing import run_names
from backprop_core.runs.liveness import as_lost
from backprop_core.runs.process import ProcessIdentity
from backprop_core.runs.provenance import git_commit, script_digest
from backprop_core.runs.rebuild import COPY_FILE, RECORD_FILE, is_run_folder, set_aside
from backprop_core.runs.record import AttemptRecord, RunRecord, with_checkpoint, with_last_attempt
from backprop_core.runs.record_json import to_text
from backprop_core.runs.status import check_move
from backprop_core.strict_json import JSON

_TRIES = 20


class RunStore(RunFinder):
    """The runs of one home folder, to look at and to change."""

    def __init__(self, home: Path, clock: Clock) -> None:
        super().__init__(home)
        self._clock = clock

    def create(
        self,
        *,
        run_id: str | None,
        name: str | None,
        command: Sequence[str],
        cwd: str | Path,
        interpreter: str,
        options: Mapping[str, JSON],
        checkpoint_dir: str | Path | None = None,
        versions: Mapping[str, str] | None = None,
        script: Path | None = None,
    ) -> RunRecord:
        """Make a run; RUNNING from the start, so hold it at once (it counts as lost while nobody does).

        Args:
            script: the file whose change is to be told on a resume, where that is not the command's first word.

        Raises:
            UsageError: `run_id` exists already, or is not an id.
            StoreError: the home cannot be written to.
        """
        where = str(Path(cwd).absolute())
        record = RunRecord(
            id="",
            name=name,
            status=Outcome.RUNNING,
            created_wall=self._clock.wall(),
            command=tuple(command),
            cwd=where,
            interpreter=interpreter,
            python_version=platform.python_version(),
            versions=dict(versions or {}),
            git_commit=git_commit(Path(where)),
            script_digest=script_digest(script or Path(where, command[0])) if command else None,
            options=dict(options),
            checkpoint_dir=None if checkpoint_dir is None else str(checkpoint_dir),
        )
        if run_id is not None:
            return self._create_as(replace(record, id=valid_run_id(run_id)))
        for _ in range(_TRIES):
            with contextlib.suppress(UsageError):  # made up in the same second by somebody else
                return self._create_as(replace(record, id=new_run_id(self._clock)))
        raise StoreError(f"Could not generate a free run id in {self.home}.", "Give one with --run-id.")

    def check_new(self, run_id: str) -> None:
        """Raise UsageError where no run of this id could be made."""
        if is_run_folder(self.run_dir(valid_run_id(run_id))):
            raise UsageError(
                f"Run {run_id} already exists.",
                f"Continue it with 'backprop resume {run_id}', or choose another --run-id.",
            )

    def adopt(self, record: RunRecord) -> RunRecord:
        """Make a run of our own from one of the npm tool, so that it can be held and resumed.

        Raises:
            UsageError: its id cannot name a folder, or it has no script; start it anew in that case.
        """
        if not record.command:
            raise UsageError(
                f"Run {record.id} of the npm tool has no script path.", "Start it with 'backprop run'."
            )
        return self._create_as(replace(record, id=valid_run_id(record.id), foreign=False))

    def hold(self, run_id: str) -> RunHold:
        """The right to write the run, until released or until this process is gone.

        A run that was lost is written down as lost now.

        Raises:
            RunNotFoundError: there is no such run.
            RunBusyError: a live process holds it or still works on it; names the pid.
        """
        folder = self.run_dir(run_id)
        if not is_run_folder(folder):
            raise self._not_found(run_id, [*run_names(self.home)])
        hold = RunHold.take(run_id, folder, self._clock)
        try:
            sweep_temporaries(folder)
            record = self._read(run_id)
            attempt = record.last_attempt
            if attempt is not None and attempt.outcome is Outcome.RUNNING:
                # Alive without a lock: its governor was killed, it is still saving. Ourselves: a box broke.
                if attempt.process.alive() and attempt.process.pid != os.getpid():
                    raise busy_with(run_id, attempt.process, attempt.started_wall)
                self._write(as_lost(record, folder))
            elif run_id in self._rebuilt:
                self._write(record)
        except BaseException:
            hold.release()
            raise
        return hold

    def begin_attempt(
        self,
        hold: RunHold,
        *,
        process: ProcessIdentity,
        governor: ProcessIdentity | None = None,
        budget_s: float | None,
        budget_source: str,
        resumed_from: str | None,
    ) -> Attempt:
        """Write down that an attempt begins, and make its folder.

        A governor begins the attempt before it starts the script, with itself as `process`, and names the
        script's process with `set_process`. Raises IllegalMoveError while another attempt is under way.
        """
        record = self._held(hold)
        attempt = record.last_attempt
        if record.status is not Outcome.RUNNING or (
            attempt is not None and attempt.outcome is Outcome.RUNNING
        ):
            check_move(record.id, record.status, Outcome.RUNNING)
        begun = AttemptRecord(
            number=len(record.attempts) + 1,
            started_wall=self._clock.wall(),
            process=process,
            governor=governor,
            budget_s=budget_s,
            budget_source=budget_source,
            resumed_from=resumed_from,
        )
        folder = attempt_dir(hold.run_dir, begun.number)
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise write_error(folder, error) from error
        self._write(replace(record, status=Outcome.RUNNING, attempts=(*record.attempts, begun)), record)
        return Attempt(begun.number, folder, EventLog(folder / EVENTS_FILE, self._clock), self._clock)

    def set_process(self, hold: RunHold, number: int, process: ProcessIdentity) -> RunRecord:
        """Name the training process of the attempt that goes on, once it has been started."""
        record, attempt = self._going_on(hold, number)
        return self._write(with_last_attempt(record, replace(attempt, process=process)), record)

    def finish_attempt(
        self,
        hold: RunHold,
        number: int,
        *,
        outcome: Outcome,
        reason: str,
        measured: Mapping[str, JSON],
        exit_status: int | None = None,
        steps: int | None = None,
        last_step: int | None = None,
        last_loss: float | None = None,
        last_checkpoint: str | Path | None = None,
    ) -> RunRecord:
        """Write down how attempt `number` ended; the run's status follows. IllegalMoveError if it has
        ended before.
        """
        record, attempt = self._going_on(hold, number)
        check_move(record.id, record.status, outcome)
        ended = replace(
            attempt,
            ended_wall=self._clock.wall(),
            outcome=outcome,
            reason=reason,
            measured=dict(measured),
            exit_status=exit_status,
            steps=steps,
        )
        record = with_last_attempt(record, ended)
        if last_checkpoint is not None:
            record = with_checkpoint(record, os.fspath(last_checkpoint))
        return self._write(
            replace(
                record,
                status=outcome,
                last_step=record.last_step if last_step is None else last_step,
                last_loss=record.last_loss if last_loss is None else last_loss,
            )
        )

    def remember_checkpoint(self, hold: RunHold, path: str | Path) -> RunRecord:
        """Make `path` the run's newest checkpoint."""
        return self._write(with_checkpoint(self._held(hold), os.fspath(path)))

    def amend(self, hold: RunHold, **facts: object) -> RunRecord:
        """Change facts that a resume may change (name, command, options, versions, ...), never status or
        attempts.
        """
        fixed = {"id", "status", "attempts", "created_wall", "foreign"} & facts.keys()
        if fixed:
            raise IllegalMoveError(f"{', '.join(sorted(fixed))} of run {hold.run_id} cannot be amended.")
        return self._write(replace(self._held(hold), **facts))  # type: ignore[arg-type]

    def remove(self, hold: RunHold) -> None:
        """Delete the run's folder with its checkpoints in it, and its line in experiments.json; releases
        the hold.
        """
        hold.check(self.run_dir(hold.run_id))
        doomed = hold.run_dir.with_name(f".removed-{hold.run_id}")
        try:
            if doomed.exists():
                shutil.rmtree(doomed)
            hold.run_dir.rename(doomed)  # gone in one step: a kill in the middle leaves no half run
        except OSError as error:
            raise write_error(hold.run_dir, error) from error
        finally:
            hold.release()
        self._index(lambda: experiments.remove(self.home, hold.run_id, self._clock))
        shutil.rmtree(doomed, ignore_errors=True)

    def _create_as(self, record: RunRecord) -> RunRecord:
        folder = self.run_dir(record.id)
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise write_error(folder, error) from error
        with RunHold.take(record.id, folder, self._clock):
            self.check_new(record.id)
            return self._write(record)

    def _write(self, record: RunRecord, before: RunRecord | None = None) -> RunRecord:
        """Write a record, and its line in the index where that differs from the one of `before`."""
        folder = self.run_dir(record.id)
        if record.id in self._rebuilt:
            set_aside(folder, self._clock)
            self._rebuilt.discard(record.id)
        else:
            keep_copy(folder / RECORD_FILE, folder / COPY_FILE)
        replace_file(folder / RECORD_FILE, to_text(record).encode("ascii"))
        if before is None or experiments.entry_of(record) != experiments.entry_of(before):
            self._index(lambda: experiments.update(self.home, record, self._clock))
        return record

    def _index(self, change: Callable[[], str | None]) -> None:
        """Change the index; it is derived, so its failure is told and does not undo what was written."""
        try:
            warning = change()
        except StoreError as error:
            warning = str(error)
        if warning:
            self.warnings.append(warning)

    def _held(self, hold: RunHold) -> RunRecord:
        hold.check(self.run_dir(hold.run_id))
        try:
            return self._read(hold.run_id)
        except FileNotFoundError as error:
            raise StoreError(f"The record of run {hold.run_id} was removed.", path=hold.run_dir) from error

    def _going_on(self, hold: RunHold, number: int) -> tuple[RunRecord, AttemptRecord]:
        record = self._held(hold)
        attempt = record.last_attempt
        if attempt is None or attempt.number != number or attempt.outcome is not Outcome.RUNNING:
            raise IllegalMoveError(f"Attempt {number} of run {hold.run_id} has ended, so it cannot change.")
        return record, attempt
