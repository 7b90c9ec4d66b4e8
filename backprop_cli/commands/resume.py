"""`backprop resume RUN`: the next attempt of a run, begun as the first was."""

from __future__ import annotations

import shlex
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from backprop_cli.chain import kind_of, resumed_start, run_chain
from backprop_cli.checkpoints import asked_for, usable
from backprop_cli.contract import Start
from backprop_cli.detection import described, detect, script_file
from backprop_cli.display import Display
from backprop_cli.following import first_of_tasks, follow_first_task, follows
from backprop_cli.interpreter import find_interpreter
from backprop_cli.launch import Launch
from backprop_cli.namesake import namesake
from backprop_cli.opening import (
    box_of,
    box_text,
    open_store,
    settings_for,
    show_settings,
    tell,
    tell_warnings,
)
from backprop_cli.parameters import (
    chain_options,
    chain_plan,
    common_options,
    complete_files,
    complete_runs,
    config_options,
    raw_settings,
    result_options,
)
from backprop_cli.paths import check_can_write, check_schedule, given
from backprop_cli.rewritten_packages import check_rewritten
from backprop_cli.scripts import ScriptCommand, ScriptKind, argv_of, check_script
from backprop_cli.sinks import check_sinks
from backprop_cli.summary import show_nothing_done, show_object, show_outcome
from backprop_core.clock import SYSTEM
from backprop_core.config.sources import Settings
from backprop_core.errors import RunBusyError, UsageError
from backprop_core.outcome import Outcome
from backprop_core.runs.provenance import git_commit, script_digest
from backprop_core.runs.record import RunRecord
from backprop_core.runs.store import RunStore

_EXAMPLES = """\b
Examples:
  backprop resume 20261123-154248-k3f9
  backprop resume 2026112 -m 60                a unique beginning of the id is enough
  backprop resume baseline --until-done --total 8h
"""


@click.command("resume", cls=ScriptCommand, epilog=_EXAMPLES)
@click.argument("run", shell_complete=complete_runs)
@common_options
@config_options
@chain_options
@click.option(
    "-r",
    "--resume-from",
    callback=given,
    metavar="PATH",
    help="Continue from this checkpoint instead of the newest.",
    shell_complete=complete_files,
)
@result_options
def command(run: str, **parameters: Any) -> int:
    """Continue RUN from its newest checkpoint.

    The script starts as it did the first time: with its arguments, folder, interpreter and options. Options
    given here override the remembered ones.
    """
    store = open_store()
    record = store.load(run)
    tell_warnings(store)
    if follows():
        return _follow(record, raw_settings(parameters), parameters)
    return continue_run(store, record, raw_settings(parameters), parameters)


def continue_run(store: RunStore, record: RunRecord, raw: dict[str, Any], parameters: dict[str, Any]) -> int:
    """The next attempts of `record`, with what was given on the command line; the exit status.

    Args:
        raw: configuration options of the command line, by name.
        parameters: the other options of `run` and `resume`.
    """
    if record.status is Outcome.COMPLETED:
        why = f"Run {record.id} is completed: there is nothing to resume."
        tell(why)
        if parameters["as_json"] or parameters["json_to"]:
            show_nothing_done(record, why, 0, parameters["json_to"])
        return 0
    if record.status is Outcome.RUNNING:
        raise RunBusyError(
            f"Run {record.id} is running.", f"Wait for it, or end it first: backprop stop {record.id}."
        )
    if not record.command and not record.foreign:
        raise UsageError(
            f"The command of run {record.id} is lost: its run.json is damaged.",
            f"Start the script again with: backprop run SCRIPT --resume-from {usable(store, record) or 'PATH'}",
        )
    cwd = Path(record.cwd)
    if not cwd.is_dir():
        raise UsageError(f"The folder of run {record.id}, {cwd}, no longer exists.", "Start a new run.")
    settings = settings_for(raw, cwd=cwd, config=parameters["config"], remembered=record.options)
    settings = box_of(settings, parameters)
    chain_plan(parameters)
    check_script(kind_of(record), record.command[0] if record.command else "(none)", cwd)
    check_sinks(settings)
    check_schedule(raw["replay-schedule"])
    check_can_write("--json-to", parameters["json_to"])
    asked = asked_for(parameters["resume_from"], Path.cwd(), settings)
    if kind_of(record) is not ScriptKind.PROGRAM:
        interpreter = find_interpreter(raw["python"] or record.interpreter or None)
        record = replace(record, interpreter=interpreter.path)
    check_rewritten(settings, kind_of(record), record.command, record.interpreter, cwd)
    start = resumed_start(store, record, settings, asked, told=tell)
    _warn_of_changes(record, cwd)
    if other := namesake():
        tell(other)
    if parameters["verbose"] or parameters["dry_run"]:
        tell("settings and their sources:")
        show_settings(settings)
    if parameters["dry_run"]:
        minutes = settings["max-run-minutes"]
        tell(f"would run in {cwd}: {shlex.join(start.argv)}")
        tell(f"for at most {box_text(minutes)}, from {start.checkpoint or 'the beginning'}.")
        if parameters["as_json"]:
            show_object(run_id=record.id, outcome=None, argv=start.argv, cwd=str(cwd), minutes=minutes)
        return 0
    return _continue(store, record, settings, start, parameters)


def _follow(record: RunRecord, raw: dict[str, Any], parameters: dict[str, Any]) -> int:
    """This task's script is of the same run as the first one's, which continues it."""
    cwd = Path(record.cwd)
    settings = settings_for(raw, cwd=cwd, config=parameters["config"], remembered=record.options)
    argv = argv_of(kind_of(record), record.interpreter, record.command)
    status = follow_first_task(argv, record.cwd, settings, record.id)
    if status is None:
        raise UsageError(f"Task 0 resumes a run other than {record.id}.", "Name the same run in each task.")
    return status


def _continue(
    store: RunStore, record: RunRecord, settings: Settings, start: Start, parameters: dict[str, Any]
) -> int:
    if record.foreign:
        record = store.adopt(record)
    display = Display()
    boxes_before = len(record.attempts)
    with store.hold(record.id) as hold:
        record = store.amend(
            hold,
            options={**record.options, **settings.stated()},
            interpreter=record.interpreter,
            git_commit=git_commit(Path(record.cwd)),
            script_digest=_digest(record),
        )
        tell_warnings(store)
        if start.checkpoint is None:
            display.say(f"run {record.id} has no checkpoint left: IT STARTS FROM SCRATCH.")
        display.say(
            f"run {record.id}, attempt {len(record.attempts) + 1}, {box_text(settings['max-run-minutes'])}"
            + (f", from {start.checkpoint}." if start.checkpoint else ".")
        )
        kind = kind_of(record)
        seen = detect(kind, record.command, Path(record.cwd))
        display.say(described(kind, seen, settings["framework"], record.interpreter))
        first = first_of_tasks(store.home)
        launch = Launch(store, hold, settings, SYSTEM, display, first)
        chain, verdict = chain_plan(parameters), None
        try:
            verdict = run_chain(chain, launch, store, record, start, settings, clock=SYSTEM, observer=display)
        finally:
            if first is not None:
                first.ended(1 if verdict is None else verdict.exit_status)
    tell_warnings(store)
    if parameters["as_json"] or parameters["json_to"]:
        show_outcome(store, record, boxes_before, verdict, parameters["json_to"])
    return verdict.exit_status


def _digest(record: RunRecord) -> str | None:
    """Of the script as it is now; of a module, or of the script behind torchrun, too."""
    script = script_file(kind_of(record), record.command, Path(record.cwd))
    return script_digest(script or Path(record.cwd, record.command[0]))


def _warn_of_changes(record: RunRecord, cwd: Path) -> None:
    digest = _digest(record)
    if record.script_digest and digest and digest != record.script_digest:
        script = script_file(kind_of(record), record.command, cwd)
        name = script.relative_to(cwd) if script is not None and script.is_relative_to(cwd) else script
        tell(f"{name or record.command[0]} has changed since the last attempt: the result may differ.")
    commit = git_commit(cwd)
    if record.git_commit and commit and commit != record.git_commit:
        tell(f"The git commit has changed: it was {record.git_commit[:10]} and is {commit[:10]}.")
