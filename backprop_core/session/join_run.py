"""How an attempt finds its run: given by the governor through the environment, named by `run=`, or made up."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from backprop_core import contract
from backprop_core.clock import Clock
from backprop_core.deadline.budget import Deadlines
from backprop_core.errors import BackpropError, RunNotFoundError, UsageError
from backprop_core.outcome import Outcome
from backprop_core.runs.attempt import Attempt
from backprop_core.runs.hold import RunHold
from backprop_core.runs.home import backprop_home
from backprop_core.runs.identifiers import valid_run_id
from backprop_core.runs.locks import FileLock
from backprop_core.runs.process import ProcessIdentity
from backprop_core.runs.record import RunRecord
from backprop_core.runs.store import RunStore
from backprop_core.session.enrolment import Enrolment, completed_before
from backprop_core.session.other_processes import RESTORES_NOTHING, note_taken, others_in, trained_at_once
from backprop_core.session.run_folder import box_folder, moved, run_folder, set_aside
from backprop_core.session.settings import SessionSettings

_boxes_of_run: dict[str, int] = {}
"""How many boxes this process has opened for a run of a governor: each has checkpoints of its own."""


class NotJoinedError(BackpropError):
    """A session that nobody asked for finds no attempt of a governor that is free."""


class _RunRemovedError(RunNotFoundError):
    """The list names the run, and its folder was removed by hand, or never was ours."""


def enrol(settings: SessionSettings, deadlines: Deadlines, clock: Clock) -> Enrolment:
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
    notes: list[str] = []
    record, continuing = _find_or_create(store, settings, clock, notes)
    hold = store.hold(record.id)
    try:
        return _begin(store, hold, record, continuing, settings, deadlines, clock, notes)
    except BaseException:
        hold.release()
        raise


def _join_governor(settings: SessionSettings, clock: Clock) -> Enrolment | None:
    environ = settings.environ
    run_id, run_dir, number = (
        environ.get(name, "") for name in (contract.RUN_ID, contract.RUN_DIR, contract.ATTEMPT)
    )
    if not (run_id and run_dir and number.isdigit()):
        return None
    attempt = Attempt.join(Path(run_dir), int(number), clock)
    first_session = not attempt.events.path.exists()
    lock = FileLock(attempt.directory / "session.lock")
    if not lock.acquire():  # a child of the training process that opens a box of its own, or trains beside it
        attempt.events.close()
        if settings.attached:
            note_taken(attempt, environ)
        return None
    box = _count_box(run_id, others_in(attempt).boxes)
    directory = environ.get(contract.CHECKPOINT_DIR) or str(Path(run_dir) / "checkpoints")
    whole = run_folder(settings.checkpoint_dir or directory, run_id, settings, clock)
    folder = box_folder(whole, box, run_id, settings, clock)
    restarted = not first_session and environ.get("TORCHELASTIC_RESTART_COUNT", "0") not in ("", "0")
    asked = settings.resume if settings.resume not in ("auto", True, False) else None
    resume_from = str(asked or environ.get(contract.RESUME_FROM) or "")
    resuming = environ.get(contract.RESUME) == "1"
    foreign = bool(resume_from) and not asked and resuming and not _may_be_ours(resume_from)
    if foreign:  # what the script has saved and announced itself: it was named for the script
        resume_from = ""
    if folder.own and (restarted or (first_session and not resuming)):
        # Workers that torchrun has started again, or the run's folder has outlived the home that knew of it.
        resuming = True
        resume_from = "" if restarted else resume_from
    at_once = resuming and settings.attached and not restarted and trained_at_once(attempt)
    enrolment = Enrolment(
        run_id=run_id,
        attempt=attempt,
        checkpoints=folder.checkpoints,
        resume_from=resume_from if resume_from and box == 1 else None,
        resuming=settings.resume is not False and resuming and not at_once,
        earlier=_earlier(RunStore(Path(run_dir).parent.parent, clock), run_id),
        governed=True,
        box=box,
        session_lock=lock,
    )
    if at_once:
        enrolment.notes.append(RESTORES_NOTHING)
    if settings.run is not None and settings.run != run_id:
        enrolment.notes.append(f"Under backprop run this is run {run_id}; run={settings.run!r} is ignored.")
    return enrolment


def _may_be_ours(place: str) -> bool:
    """Whether a checkpoint of our own format, or a folder of some, can be at `place`."""
    if "://" in place:
        return True
    path = Path(place)
    return (path / "manifest.json").is_file() or any(path.glob("step-*/manifest.json"))


def _count_box(run_id: str, of_others: int) -> int:
    _boxes_of_run[run_id] = max(_boxes_of_run.get(run_id, 0), of_others) + 1
    return _boxes_of_run[run_id]


def _box_in_process(hold: RunHold, settings: SessionSettings) -> int:
    """Which training of the process this is, where several have the same `run`: `fit` called again, say.

    One that was left early goes on in the next; behind one that is completed another begins, unless that one is asked for.
    """
    before = completed_before(hold, anew=settings.resume is False)
    return before + 1 if settings.resume == "auto" else max(1, before)


def _earlier(store: RunStore, run_id: str) -> list[Mapping[str, Any]]:
    try:
        return [attempt.measured for attempt in store.load(run_id).attempts if attempt.measured]
    except Exception:  # what earlier attempts measured makes the first forecasts better, and no more
        return []


def _find_or_create(
    store: RunStore, settings: SessionSettings, clock: Clock, notes: list[str]
) -> tuple[RunRecord, bool]:
    """The record, and whether the attempt continues what it holds."""
    if settings.run is not None:
        try:
            record = _load_exactly(store, settings.run)
        except RunNotFoundError as error:
            left_behind = _left_behind(settings.run, settings, clock)
            if settings.resume is True and not left_behind:
                raise
            if isinstance(error, _RunRemovedError) and not left_behind:
                notes.append(f"{error.what} So it STARTS FROM SCRATCH.")
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


def _keep_provenance(
    store: RunStore,
    record: RunRecord,
    attempt: Attempt,
    settings: SessionSettings,
    clock: Clock,
    notes: list[str],
) -> None:
    """What the attempt was started from, where no governor has kept it. No fault of it ends a training."""
    if settings.environ.get(contract.PROVENANCE, "").strip().lower() in ("0", "false", "no", "off"):
        return
    try:
        from backprop_core.provenance.attempt_provenance import gather, keep

        interpreter, cwd = sys.executable, Path.cwd()
        command = sys.argv if sys.argv and sys.argv[0] else record.command
        found = gather(command=command, cwd=cwd, interpreter=interpreter, gpus=(), clock=clock)
        trouble = keep(store.run_dir(record.id), attempt.number, found)
    except Exception as error:
        trouble = f"The provenance of this attempt could not be recorded: {type(error).__name__}: {error}"
    if trouble:
        notes.append(trouble)


def _load_exactly(store: RunStore, run_id: str) -> RunRecord:
    """A program names its run in full: the beginning of an id is not enough. Nor is a line in the list without a folder.

    Raises:
        RunNotFoundError: there is none.
        StoreError: its record is damaged.
    """
    with contextlib.suppress(FileNotFoundError):  # a folder without a record
        record = store.load(valid_run_id(run_id))
        if record.id == run_id and not record.foreign:
            return record
        if record.id == run_id:
            raise _RunRemovedError(f"Run {run_id} is in the list, but its folder is missing.")
    raise RunNotFoundError(f"There is no run {run_id!r} in {store.home}.", "See 'backprop list'.")


def _left_behind(run_id: str, settings: SessionSettings, clock: Clock) -> bool:
    """Whether a folder of the script's own choice holds checkpoints of a run that our home does not know."""
    place = settings.checkpoint_dir
    return place is not None and bool(run_folder(place, run_id, settings, clock).own)


def _begin(
    store: RunStore,
    hold: RunHold,
    record: RunRecord,
    continuing: bool,
    settings: SessionSettings,
    deadlines: Deadlines,
    clock: Clock,
    notes: list[str],
) -> Enrolment:
    box = _box_in_process(hold, settings)
    place = store.checkpoints_place(record)
    whole = run_folder(settings.checkpoint_dir or place, record.id, settings, clock)
    folder = box_folder(whole, box, record.id, settings, clock)
    asked = None if settings.resume in ("auto", True, False) else str(settings.resume)
    if asked is not None and "://" not in asked:
        asked = str(Path(asked).expanduser())
    # A record that was just made for a run that the folder knows: the home is another one, or somebody has tidied it.
    continuing = continuing or (
        bool(folder.own) and not record.attempts and settings.resume in ("auto", True)
    )
    if whole.stranger and not whole.own:
        notes.append(
            f"{whole.directory} is used, because the folder above it holds run {whole.stranger}. To continue that one, "
            f"name it: run={whole.stranger!r}."
        )
    if folder.own and not continuing:
        aside = set_aside(folder, len(record.attempts) + 1)
        asked = None if asked is None else moved(asked, folder, aside)
        notes.append(
            f"Starting from scratch: the earlier checkpoints of {record.id} were set aside in {aside}."
        )
    if whole.directory != place:
        store.amend(hold, checkpoint_dir=whole.directory)
    attempt = store.begin_attempt(
        hold,
        process=ProcessIdentity.of(os.getpid()),
        budget_s=deadlines.budget_s,
        budget_source=deadlines.earliest.source,
        resumed_from=asked,
    )
    _keep_provenance(store, record, attempt, settings, clock, notes)
    return Enrolment(
        run_id=record.id,
        attempt=attempt,
        checkpoints=folder.checkpoints,
        resume_from=asked,
        resuming=continuing and bool(record.attempts or folder.own),
        earlier=[a.measured for a in record.attempts if a.measured],
        governed=False,
        box=box,
        completed=record.status is Outcome.COMPLETED,
        notes=notes,
        store=store,
        hold=hold,
    )
