"""How an attempt finds its run: given by the governor through the environment, named by `run=`, or made up."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from backprop_core.checkpoints.store import CheckpointStore, open_store
from backprop_core.clock import Clock
from backprop_core.deadline.budget import Deadlines
from backprop_core.errors import BackpropError, RunNotFoundError, StoreError, UsageError
from backprop_core.outcome import Outcome
from backprop_core.runs.attempt import Attempt
from backprop_core.runs.hold import RunHold
from backprop_core.runs.home import backprop_home
from backprop_core.runs.identifiers import valid_run_id
from backprop_core.runs.locks import FileLock
from backprop_core.runs.process import ProcessIdentity
from backprop_core.runs.record import RunRecord
from backprop_core.runs.status import RunStatus
from backprop_core.runs.store import RunStore
from backprop_core.session.settings import Settings

_boxes_of_run: dict[str, int] = {}
"""How many boxes this process has opened for a run of a governor: each has checkpoints of its own."""
_completed: dict[str, int] = {}
"""How many trainings of a run, by its folder, this process has completed without a governor."""


class NotJoinedError(BackpropError):
    """A session that nobody asked for finds no attempt of a governor that is free."""


@dataclass(slots=True)
class Enrolment:
    """An attempt's place in the store.

    Attributes:
        run_id: the run.
        attempt: the attempt's folder, events and control file.
        checkpoints: where its checkpoints go.
        resume_from: a checkpoint asked for by path, or None.
        resuming: whether the newest checkpoint of the run is to be restored.
        earlier: what earlier attempts measured, oldest first.
        governed: a governor outside writes the record.
        box: 1 for the first box of the process in this run, 2 for the next.
        completed: the run was completed when this attempt began.
        notes: sentences for the user.
    """

    run_id: str
    attempt: Attempt
    checkpoints: CheckpointStore
    resume_from: str | None
    resuming: bool
    earlier: list[Mapping[str, Any]]
    governed: bool
    box: int = 1
    completed: bool = False
    notes: list[str] = field(default_factory=list)
    store: RunStore | None = None
    hold: RunHold | None = None
    session_lock: FileLock | None = None

    def remember(self, path: str) -> None:
        """Write a new checkpoint into the record, where nobody outside does."""
        if self.store is not None and self.hold is not None:
            with contextlib.suppress(Exception):  # the checkpoint is found by a scan all the same
                self.store.remember_checkpoint(self.hold, path)

    def finish(self, outcome: Outcome, reason: str, facts: Mapping[str, Any]) -> str:
        """Write the attempt's end into the record, where nobody outside does, and let the run go.

        Returns:
            One sentence where it could not be written, else nothing. The training is over and the script's own code comes
            next, so no error of our records leaves here.
        """
        try:
            if self.store is not None and self.hold is not None:
                self.store.finish_attempt(
                    self.hold,
                    self.attempt.number,
                    outcome=outcome,
                    reason=reason,
                    measured=facts.get("measured", {}),
                    steps=facts.get("steps"),
                    last_step=facts.get("step"),
                    last_loss=facts.get("loss"),
                    last_checkpoint=facts.get("checkpoint"),
                )
                if outcome is Outcome.COMPLETED:
                    _completed[str(self.hold.run_dir)] = self.box
        except Exception as error:
            what = str(error) if isinstance(error, BackpropError) else f"{type(error).__name__}: {error}"
            return f"The end of this attempt could not be recorded: {what}"
        finally:
            with contextlib.suppress(OSError):
                self.release()
        return ""

    def release(self) -> None:
        self.attempt.events.close()
        if self.hold is not None:
            self.hold.release()
            self.hold = None
        if self.session_lock is not None:
            self.session_lock.release()
            self.session_lock = None


def enrol(settings: Settings, deadlines: Deadlines, clock: Clock) -> Enrolment:
    """Find or make the run and begin an attempt of it.

    Raises:
        UsageError: the run named is busy, unknown, or cannot be continued the way it was asked.
        NotJoinedError: the script did not ask for a session, and the attempt already has one.
        StoreError: the home cannot be written.
    """
    governed = _join_governor(settings, clock)
    if governed is not None:
        return governed
    if settings.attached:
        raise NotJoinedError("The attempt has a session already, or there is no attempt.")
    home = backprop_home(settings.environ)
    store = RunStore(home, clock)
    record, continuing = _find_or_create(store, settings)
    hold = store.hold(record.id)
    try:
        return _begin(store, hold, record, continuing, settings, deadlines, clock)
    except BaseException:
        hold.release()
        raise


def _join_governor(settings: Settings, clock: Clock) -> Enrolment | None:
    environ = settings.environ
    run_id, run_dir, number = (environ.get(f"BACKPROP_{key}", "") for key in ("RUN_ID", "RUN_DIR", "ATTEMPT"))
    if not (run_id and run_dir and number.isdigit()):
        return None
    attempt = Attempt.join(Path(run_dir), int(number), clock)
    lock = FileLock(attempt.directory / "session.lock")
    if not lock.acquire():  # a child of the training process that opens a box of its own
        attempt.events.close()
        return None
    box = _count_box(run_id)
    directory = environ.get("BACKPROP_CHECKPOINT_DIR") or str(Path(run_dir) / "checkpoints")
    asked = settings.resume if settings.resume not in ("auto", True, False) else None
    resume_from = str(asked or environ.get("BACKPROP_RESUME_FROM") or "")
    resuming = environ.get("BACKPROP_RESUME") == "1"
    foreign = bool(resume_from) and not asked and resuming and not _may_be_ours(resume_from)
    if foreign:  # what the script has saved and announced itself: it was named for the script
        resume_from = ""
    enrolment = Enrolment(
        run_id=run_id,
        attempt=attempt,
        checkpoints=_open_checkpoints(
            _box_folder(settings.checkpoint_dir or directory, box), settings, clock
        ),
        resume_from=resume_from if resume_from and box == 1 else None,
        resuming=settings.resume is not False and resuming,
        earlier=_earlier(RunStore(Path(run_dir).parent.parent, clock), run_id),
        governed=True,
        box=box,
        session_lock=lock,
    )
    if settings.run is not None and settings.run != run_id:
        enrolment.notes.append(f"Under backprop run this is run {run_id}; run={settings.run!r} is left out.")
    return enrolment


def _may_be_ours(place: str) -> bool:
    """Whether a checkpoint of our own format, or a folder of some, can be at `place`."""
    if "://" in place:
        return True
    path = Path(place)
    return (path / "manifest.json").is_file() or any(path.glob("step-*/manifest.json"))


def _count_box(run_id: str) -> int:
    _boxes_of_run[run_id] = _boxes_of_run.get(run_id, 0) + 1
    return _boxes_of_run[run_id]


def _box_in_process(hold: RunHold, settings: Settings) -> int:
    """Which training of the process this is, where several have the same `run`: `fit` called again, say.

    One that was left early goes on in the next; behind one that is completed another begins, unless that one is asked for.
    """
    run = str(hold.run_dir)
    if settings.resume is False:
        _completed.pop(run, None)
    before = _completed.get(run, 0)
    return before + 1 if settings.resume == "auto" else max(1, before)


def _box_folder(directory: str, box: int) -> str:
    return directory if box == 1 else f"{directory.rstrip('/')}/box-{box}"


def _open_checkpoints(directory: str, settings: Settings, clock: Clock) -> CheckpointStore:
    return open_store(directory, clock=clock, keep=settings.keep, keep_every=settings.keep_every)


def _earlier(store: RunStore, run_id: str) -> list[Mapping[str, Any]]:
    try:
        return [attempt.measured for attempt in store.load(run_id).attempts if attempt.measured]
    except (RunNotFoundError, StoreError):
        return []


def _find_or_create(store: RunStore, settings: Settings) -> tuple[RunRecord, bool]:
    """The record, and whether the attempt continues what it holds."""
    if settings.run is not None:
        try:
            record = _load_exactly(store, settings.run)
        except RunNotFoundError:
            if settings.resume is True:
                raise
        else:
            return record, settings.resume in ("auto", True)
    elif settings.resume is True:
        raise UsageError(
            "resume=True does not say what to resume.",
            "Name the run with run=, or give resume= the path of a checkpoint.",
        )
    command = tuple(sys.argv) if sys.argv and sys.argv[0] else (sys.executable,)
    record = store.create(
        run_id=settings.run,
        name=settings.name,
        command=command,
        cwd=os.getcwd(),  # noqa: PTH109 - a deleted folder is reported by the store, not by pathlib
        interpreter=sys.executable,
        options={},
        checkpoint_dir=settings.checkpoint_dir,
    )
    return record, False


def _load_exactly(store: RunStore, run_id: str) -> RunRecord:
    """A program names its run in full: the beginning of an id is not enough."""
    record = store.load(valid_run_id(run_id))
    if record.id != run_id:
        raise RunNotFoundError(f"There is no run {run_id!r}.", "See 'backprop list'.")
    return record


def _begin(
    store: RunStore,
    hold: RunHold,
    record: RunRecord,
    continuing: bool,
    settings: Settings,
    deadlines: Deadlines,
    clock: Clock,
) -> Enrolment:
    notes: list[str] = []
    box = _box_in_process(hold, settings)
    directory = _box_folder(settings.checkpoint_dir or store.checkpoints_place(record), box)
    checkpoints = _open_checkpoints(directory, settings, clock)
    present = checkpoints.list()
    strangers = [info for info in present if info.facts.run_id != record.id]
    if strangers and not continuing:
        directory = f"{directory.rstrip('/')}/{record.id}"
        notes.append(
            f"{directory} is used, because the folder above it holds run {strangers[0].facts.run_id}."
        )
        checkpoints = _open_checkpoints(directory, settings, clock)
    elif present and not continuing:
        if "://" in directory:
            raise UsageError(
                f"{directory} holds checkpoints of run {record.id}.",
                "Give another checkpoint_dir, or resume it.",
            )
        aside = Path(directory).with_name(f"{Path(directory).name}.before-attempt-{len(record.attempts) + 1}")
        Path(directory).rename(aside)
        notes.append(f"Starting afresh: the earlier checkpoints of {record.id} were set aside in {aside}.")
    asked = None if settings.resume in ("auto", True, False) else str(settings.resume)
    if asked is not None and "://" not in asked:
        asked = str(Path(asked).expanduser())
    attempt = store.begin_attempt(
        hold,
        process=ProcessIdentity.of(os.getpid()),
        budget_s=deadlines.budget_s,
        budget_source=deadlines.earliest.source,
        resumed_from=asked,
    )
    return Enrolment(
        run_id=record.id,
        attempt=attempt,
        checkpoints=checkpoints,
        resume_from=asked,
        resuming=continuing and bool(record.attempts),
        earlier=[a.measured for a in record.attempts if a.measured],
        governed=False,
        box=box,
        completed=record.status is RunStatus.COMPLETED,
        notes=notes,
        store=store,
        hold=hold,
    )
