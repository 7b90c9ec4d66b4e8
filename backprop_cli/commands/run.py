"""`backprop run SCRIPT`: the first attempt of a new run."""

from __future__ import annotations

import shlex
from contextlib import suppress
from pathlib import Path
from typing import Any

import click

from backprop_cli.checkpoints import asked_for
from backprop_cli.following import first_of_tasks, follow_first_task, follows
from backprop_cli.interpreter import find_interpreter
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
    config_options,
    raw_settings,
    result_options,
    working_folder,
)
from backprop_cli.paths import check_can_write, check_name, check_schedule, given
from backprop_cli.rewritten_packages import check_rewritten
from backprop_cli.scripts import ScriptCommand, ScriptKind, argv_of, check_script
from backprop_cli.sinks import check_sinks
from backprop_core.config.sources import Settings
from backprop_core.errors import BackpropError, RunNotFoundError, UsageError
from backprop_core.runs.record import RunRecord

_EXAMPLES = """\b
Examples:
  backprop run train.py
  backprop run train.py -m 30 --name baseline -- --lr 0.1 --epochs 20
  backprop run train.py --until-done --total 8h --rest 5
  backprop run train.py --resume-flag --resume      the script restores itself
  backprop run --module package.train -- --lr 0.1
  backprop run --exec ./train.sh
  backprop run train.py --requeue                               in a script for sbatch: job after job until it completes
  backprop run train.py --run-id nightly --resume-or-start      the same line for the first job and each requeued one
"""


@click.command("run", cls=ScriptCommand, epilog=_EXAMPLES)
@click.argument("script", shell_complete=complete_files)
@click.argument(
    "script_args",
    nargs=-1,
    type=click.UNPROCESSED,
    metavar="[-- SCRIPT ARGS...]",
    shell_complete=complete_files,
)
@common_options
@config_options
@chain_options
@click.option(
    "--module", "kind", flag_value=ScriptKind.MODULE.value, help="SCRIPT is a module, as with python -m."
)
@click.option("--exec", "kind", flag_value=ScriptKind.PROGRAM.value, help="SCRIPT is a program of any kind.")
@click.option(
    "-r",
    "--resume-from",
    callback=given,
    metavar="PATH",
    help="Checkpoint to start from.",
    shell_complete=complete_files,
)
@click.option("--run-id", metavar="ID", help="Id of the run [default: generated].")
@click.option(
    "--resume-or-start", is_flag=True, help="Resume the run named by --run-id if it exists, else start it."
)
@click.option("-n", "--name", metavar="NAME", help="Name for people to read; need not be unique.")
@result_options
def command(script: str, script_args: tuple[str, ...], **parameters: Any) -> int:
    """Run SCRIPT inside a time box.

    The output of SCRIPT is passed through and kept. Before the time box ends, SCRIPT saves a
    checkpoint and exits; 'backprop resume' continues it. Everything after -- goes to SCRIPT.
    """
    cwd = working_folder()
    raw = raw_settings(parameters)
    kind = ScriptKind(parameters["kind"] or ScriptKind.SCRIPT)
    chain_plan(parameters)
    command_line = [script, *script_args]
    if parameters["requeue"]:
        from backprop_cli.requeue import SlurmJob

        parameters["run_id"] = parameters["run_id"] or SlurmJob.of_process().run_id
        parameters["resume_or_start"] = True
    if (
        parameters["resume_or_start"]
        and not follows()
        and (known := _known_run(parameters["run_id"])) is not None
    ):
        from backprop_cli.commands.resume import continue_run

        _check_same(known, kind, command_line, cwd)
        return continue_run(open_store(), known, raw, parameters)
    settings = box_of(settings_for(raw, cwd=cwd, config=parameters["config"]), parameters)
    check_script(kind, script, cwd)
    check_name(parameters["name"])
    check_sinks(settings)
    check_schedule(settings["replay-schedule"])
    check_can_write("--json-to", parameters["json_to"])
    interpreter = find_interpreter(settings["python"])
    check_rewritten(settings, kind, command_line, interpreter.path, cwd)
    resume_from = asked_for(parameters["resume_from"], cwd, settings)
    argv = argv_of(kind, interpreter.path, command_line)
    if resume_from and settings["resume-flag"]:
        argv += [settings["resume-flag"], resume_from]
    if kind is not ScriptKind.PROGRAM and (chosen := interpreter.sentence()):
        tell(chosen)
    if other := namesake():
        tell(other)
    if parameters["verbose"] or parameters["dry_run"]:
        tell("settings and their sources:")
        show_settings(settings)
    if parameters["dry_run"]:
        if parameters["run_id"] is not None:
            open_store(write=False).check_new(parameters["run_id"])
        _show_dry(argv, cwd, settings, parameters)
        return 0
    status = follow_first_task(argv, str(cwd), settings, parameters["run_id"])
    if status is not None:
        return status
    facts = {"command": command_line, "cwd": cwd, "interpreter": interpreter.path, "kind": kind}
    return _start(facts, settings, argv, resume_from, parameters)


def _show_dry(argv: list[str], cwd: Path, settings: Settings, parameters: dict[str, Any]) -> None:
    minutes = settings["max-run-minutes"]
    tell(f"would run in {cwd}: {shlex.join(argv)}")
    tell(f"for at most {box_text(minutes)}, as run {parameters['run_id'] or '(a new id)'}.")
    if parameters["as_json"]:
        from backprop_cli.summary import show_object

        show_object(run_id=parameters["run_id"], outcome=None, argv=argv, cwd=str(cwd), minutes=minutes)


def _known_run(run_id: str | None) -> RunRecord | None:
    """The run of exactly this id, None where there is none yet."""
    if run_id is None:
        raise UsageError(
            "--resume-or-start needs a run to resume.",
            "Name it, the same each time: --run-id ID.",
        )
    try:
        record = open_store().load(run_id)
    except RunNotFoundError:
        return None
    return record if record.id == run_id else None  # a beginning of an id means no other run here


def _check_same(record: RunRecord, kind: ScriptKind, command: list[str], cwd: Path) -> None:
    """Raise UsageError where the run was started as another command: its checkpoint might not be of this one."""
    from backprop_cli.chain import kind_of

    then, now = list(record.command), list(command)
    if kind is ScriptKind.SCRIPT and then:
        then[0], now[0] = (
            str(Path(folder, words[0]).resolve()) for folder, words in ((record.cwd, then), (cwd, now))
        )
    if (record.foreign and then[:1] == now[:1]) or (kind_of(record) is kind and then == now):
        return
    raise UsageError(
        f"Run {record.id} was started as '{shlex.join(record.command)}' in {record.cwd}, and this is "
        f"'{shlex.join(command)}' in {cwd}.",
        "Give the same command again, or another --run-id.",
    )


def _start(
    facts: dict[str, Any],
    settings: Settings,
    argv: list[str],
    resume_from: str | None,
    parameters: dict[str, Any],
) -> int:
    from backprop_cli.chain import run_chain
    from backprop_cli.contract import Start
    from backprop_cli.detection import described, detect, script_file
    from backprop_cli.display import Display
    from backprop_cli.launch import Launch
    from backprop_core.clock import SYSTEM

    store = open_store()
    kind = facts.pop("kind")
    options = settings.stated() | ({} if kind is ScriptKind.SCRIPT else {"kind": kind.value})
    script = script_file(kind, facts["command"], facts["cwd"])
    record = store.create(
        run_id=parameters["run_id"], name=parameters["name"], options=options, script=script, **facts
    )
    tell_warnings(store)
    display = Display()
    hold = store.hold(record.id)
    with hold:
        display.say(f"run {record.id}, time box of {box_text(settings['max-run-minutes'])}.")
        seen = detect(kind, record.command, Path(record.cwd))
        display.say(described(kind, seen, settings["framework"], record.interpreter))
        first = first_of_tasks(store.home)
        launch = Launch(store, hold, settings, SYSTEM, display, first)
        start = Start(argv, resume_from=resume_from, checkpoint=resume_from)
        chain = chain_plan(parameters)
        verdict = None
        try:
            verdict = run_chain(chain, launch, store, record, start, settings, clock=SYSTEM, observer=display)
        except BaseException:
            with suppress(BackpropError):
                if not store.load(record.id).attempts:  # it never began: nothing to remember
                    store.remove(hold)
            raise
        finally:
            if first is not None:
                first.ended(1 if verdict is None else verdict.exit_status)
    tell_warnings(store)
    if parameters["as_json"] or parameters["json_to"]:
        from backprop_cli.summary import show_outcome

        show_outcome(store, record, 0, verdict, parameters["json_to"])
    return verdict.exit_status
