"""`backprop run SCRIPT`: the first attempt of a new run."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import click

from backprop_cli.opening import open_store, settings_for, show_settings, tell, tell_warnings
from backprop_cli.parameters import (
    chain_options,
    chain_plan,
    common_options,
    complete_files,
    config_options,
    raw_settings,
    working_folder,
)
from backprop_cli.scripts import Kind, ScriptCommand, argv_of, check_script, find_interpreter
from backprop_core.config.sources import Settings
from backprop_core.errors import UsageError

_EXAMPLES = """\b
Examples:
  backprop run train.py
  backprop run train.py -m 30 --name baseline -- --lr 0.1 --epochs 20
  backprop run train.py --until-done --total 8h --rest 5
  backprop run train.py --resume-flag --resume      the script restores itself
  backprop run --module package.train -- --lr 0.1
  backprop run --exec ./train.sh
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
    "--module", "kind", flag_value=Kind.MODULE.value, help="SCRIPT is a module, as behind python -m."
)
@click.option("--exec", "kind", flag_value=Kind.PROGRAM.value, help="SCRIPT is a program of any kind.")
@click.option(
    "-r", "--resume-from", metavar="PATH", help="Checkpoint to start from.", shell_complete=complete_files
)
@click.option("--run-id", metavar="ID", help="Id of the run; one is made up without it.")
@click.option("-n", "--name", metavar="NAME", help="Label for people.")
def command(script: str, script_args: tuple[str, ...], **parameters: Any) -> int:
    """Run SCRIPT inside a time box.

    What SCRIPT prints is passed through and kept. When the time box ends, SCRIPT has saved a checkpoint and
    is gone; 'backprop resume' continues it. Arguments behind -- are SCRIPT's own.
    """
    cwd = working_folder()
    settings = settings_for(raw_settings(parameters), cwd=cwd, config=parameters["config"])
    kind = Kind(parameters["kind"] or Kind.SCRIPT)
    chain_plan(parameters)
    check_script(kind, script, cwd)
    interpreter = find_interpreter(settings["python"])
    resume_from = _existing(parameters["resume_from"], cwd)
    argv = argv_of(kind, interpreter, [script, *script_args])
    if resume_from and settings["resume-flag"]:
        argv += [settings["resume-flag"], resume_from]
    if parameters["verbose"] or parameters["dry_run"]:
        tell("settings, and where each came from:")
        show_settings(settings)
    if parameters["dry_run"]:
        tell(f"would run in {cwd}: {shlex.join(argv)}")
        tell(
            f"for at most {settings['max-run-minutes']:g} min, as run {parameters['run_id'] or '(a new id)'}."
        )
        return 0
    facts = {"command": [script, *script_args], "cwd": cwd, "interpreter": interpreter, "kind": kind}
    return _start(facts, settings, argv, resume_from, parameters)


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
    from backprop_core.resources.admission import NotAdmittedError

    store = open_store()
    kind = facts.pop("kind")
    options = settings.stated() | ({} if kind is Kind.SCRIPT else {"kind": kind.value})
    script = script_file(kind, facts["command"], facts["cwd"])
    record = store.create(
        run_id=parameters["run_id"], name=parameters["name"], options=options, script=script, **facts
    )
    tell_warnings(store)
    display = Display()
    hold = store.hold(record.id)
    with hold:
        display.say(f"run {record.id}, time box of {settings['max-run-minutes']:g} min.")
        seen = detect(kind, record.command, Path(record.cwd))
        display.say(described(kind, seen, settings["framework"], record.interpreter))
        launch = Launch(store, hold, settings, SYSTEM, display)
        start = Start(argv, resume_from=resume_from, checkpoint=resume_from)
        chain = chain_plan(parameters)
        try:
            verdict = run_chain(chain, launch, store, record, start, settings, clock=SYSTEM, observer=display)
        except (NotAdmittedError, KeyboardInterrupt):
            if not store.load(record.id).attempts:  # it never began: nothing to remember
                store.remove(hold)
            raise
    tell_warnings(store)
    return verdict.exit_status


def _existing(path: str | None, cwd: Path) -> str | None:
    if path is None or "://" in path:
        return path
    found = (cwd / Path(path).expanduser()).absolute()
    if not found.exists():
        raise UsageError(f"There is no checkpoint at {found}.", "Give --resume-from the path of one.")
    return str(found)
