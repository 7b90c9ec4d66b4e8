"""`backprop run SCRIPT`: one attempt of a new run."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import click

from backprop_cli.opening import open_store, settings_for, show_settings, tell, tell_warnings
from backprop_cli.parameters import common_options, config_options, raw_settings, working_folder
from backprop_cli.scripts import ScriptCommand, check_script, find_interpreter
from backprop_core.errors import UsageError

_EXAMPLES = """\b
Examples:
  backprop run train.py
  backprop run train.py -m 30 --name baseline -- --lr 0.1 --epochs 20
  backprop run train.py --resume-flag --resume      the script restores itself
  backprop resume 20261123-154248-k3f9
"""


@click.command(
    "run", cls=ScriptCommand, epilog=_EXAMPLES, short_help="Run a training script inside a time box."
)
@click.argument("script")
@click.argument("script_args", nargs=-1, type=click.UNPROCESSED, metavar="[-- SCRIPT ARGS...]")
@common_options
@config_options
@click.option("-r", "--resume-from", metavar="PATH", help="Checkpoint to start from.")
@click.option("--run-id", metavar="ID", help="Id of the run; one is made up without it.")
@click.option("-n", "--name", metavar="NAME", help="Label for people.")
def command(script: str, script_args: tuple[str, ...], **parameters: Any) -> int:
    """Run SCRIPT inside a time box.

    What SCRIPT prints is passed through and kept. When the time box ends, SCRIPT has saved a checkpoint and
    is gone; 'backprop resume' continues it. Arguments behind -- are SCRIPT's own.
    """
    cwd = working_folder()
    settings = settings_for(raw_settings(parameters), cwd=cwd, config=parameters["config"])
    check_script(script, cwd)
    interpreter = find_interpreter(settings["python"])
    resume_from = _existing(parameters["resume_from"], cwd)
    argv = [interpreter, script, *script_args]
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
    from backprop_cli.display import Display
    from backprop_cli.launch import Launch, Start
    from backprop_core.clock import SYSTEM

    store = open_store()
    record = store.create(
        run_id=parameters["run_id"],
        name=parameters["name"],
        command=[script, *script_args],
        cwd=cwd,
        interpreter=interpreter,
        options=settings.stated(),
    )
    tell_warnings(store)
    display = Display()
    with store.hold(record.id) as hold:
        display.say(f"run {record.id}, time box of {settings['max-run-minutes']:g} min.")
        verdict = Launch(store, hold, settings, SYSTEM, display).attempt(
            record, Start(argv, resume_from=resume_from)
        )
    tell_warnings(store)
    return verdict.exit_status


def _existing(path: str | None, cwd: Path) -> str | None:
    if path is None:
        return None
    found = (cwd / Path(path).expanduser()).absolute()
    if not found.exists():
        raise UsageError(f"There is no checkpoint at {found}.", "Give --resume-from the path of one.")
    return str(found)
