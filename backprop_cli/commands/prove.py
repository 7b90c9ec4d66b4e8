"""`backprop prove SCRIPT`: whether a training cut into pieces gives the same bits, tried on the script itself."""

from __future__ import annotations

import os
import signal
from dataclasses import asdict
from pathlib import Path
from types import FrameType
from typing import Any

import click

from backprop_cli.interpreter import find_interpreter
from backprop_cli.opening import box_text, is_terminal, one_line, settings_for, tell
from backprop_cli.parameters import complete_files, config_options, json_option, raw_settings, working_folder
from backprop_cli.paths import given
from backprop_cli.proof_settings import NO_MEANING, check_meaning, environment_of_runs, write_settings
from backprop_cli.rewritten_packages import check_rewritten
from backprop_cli.scripts import ScriptCommand, ScriptKind, check_script
from backprop_core.config.sources import Settings
from backprop_core.errors import UsageError
from backprop_core.prove.scratch import LIMIT_BYTES, Scratch
from backprop_core.prove.verdict import Proof, ProofVerdict

_EXAMPLES = """\b
Examples:
  backprop prove train.py
  backprop prove train.py --steps 200 --cuts 5 -m 30 -- --lr 0.1
  backprop prove --exec torchrun -- --nproc-per-node 2 train.py
"""


@click.command("prove", cls=ScriptCommand, epilog=_EXAMPLES)
@click.argument("script", shell_complete=complete_files)
@click.argument("script_args", nargs=-1, type=click.UNPROCESSED, metavar="[-- SCRIPT ARGS...]")
@click.option("--steps", default=60, show_default=True, metavar="N", help="Steps to train and compare.")
@click.option(
    "--cuts", default=4, show_default=True, metavar="N", help="How many times to interrupt the training."
)
@click.option("--seed", default="", metavar="TEXT", help="Text that chooses the places of the interruptions.")
@click.option(
    "--copy-limit",
    default=round(LIMIT_BYTES / 1e9, 1),
    show_default=True,
    metavar="GB",
    help="Largest working directory to copy.",
)
@config_options
@click.option(
    "--config", callback=given, metavar="PATH", help="Configuration file [default: the nearest one]."
)
@click.option(
    "--module", "kind", flag_value=ScriptKind.MODULE.value, help="SCRIPT is a module, as with python -m."
)
@click.option("--exec", "kind", flag_value=ScriptKind.PROGRAM.value, help="SCRIPT is a program of any kind.")
@json_option
def command(script: str, script_args: tuple[str, ...], **parameters: Any) -> int:
    """Prove that interrupting SCRIPT changes no bit.

    Its first steps are trained twice without interruption, then interrupted and resumed, all in fresh processes
    and in a copy of the working directory. The exit status is 0 if every piece of state and every batch is
    bit-identical, 1 if not, 3 if the script itself is not reproducible, and 124 if the time box (-m) ended first.
    """
    cwd = working_folder()
    raw = raw_settings(parameters)
    kind = ScriptKind(parameters["kind"] or ScriptKind.SCRIPT)
    settings = settings_for(raw, cwd=cwd, config=parameters["config"])
    check_meaning(raw)
    check_script(kind, script, cwd)
    interpreter = find_interpreter(settings["python"]).path
    check_rewritten(settings, kind, [script, *script_args], interpreter, cwd)
    for name, least in (("steps", 2), ("cuts", 1)):
        if parameters[name] < least:
            raise UsageError(f"--{name} is {parameters[name]}. It must be at least {least}.")
    if not parameters["copy_limit"] >= 0:
        raise UsageError(
            "--copy-limit must be 0 GB or more.", "Give the largest working directory to copy, in GB."
        )
    flags = {ScriptKind.MODULE: ["--module"], ScriptKind.PROGRAM: ["--exec"]}.get(kind, [])
    proof = _proven([script, *script_args], flags, cwd, settings, parameters)
    if parameters["as_json"]:
        from backprop_core.strict_json import encode

        click.echo(
            encode({**asdict(proof), "verdict": proof.verdict.value, "exit_status": proof.exit_status})
        )
    else:
        show(proof)
    return proof.exit_status


for option in command.params:
    if isinstance(option, click.Option) and str(option.name).replace("_", "-") in NO_MEANING:
        option.hidden = True


def _proven(
    command_line: list[str],
    flags: list[str],
    cwd: Path,
    settings: Settings,
    parameters: dict[str, Any],
) -> Proof:
    """Run it in a folder that is gone afterwards.

    Args:
        flags: what stands before the script in `backprop run`.
    """
    from backprop_cli.proof_runs import ProofRuns, ProvenScript
    from backprop_cli.proving import prove
    from backprop_core.clock import SYSTEM
    from backprop_core.prove.folder import ProofFolder, remove_left_behind

    steps, minutes = parameters["steps"], settings["max-run-minutes"]
    ends_at = SYSTEM.monotonic() + minutes * 60.0
    _leave_on_signals()
    for left in remove_left_behind():
        tell(f"removed {left}, left behind by a proof that was killed.")
    progress = _Progress(steps)
    folder = ProofFolder()
    root = folder.path
    try:
        scratch = Scratch(cwd, root / "work", int(min(parameters["copy_limit"], 1e9) * 1e9))
        scratch.measure()
        write_settings(settings, cwd, root / "settings.json")
        options = ["--config", str(root / "settings.json")]
        script, *arguments = map(scratch.there, command_line)
        words = ProvenScript([*flags, *options, script, "--", *arguments], options)
        tell(f"proving {one_line(command_line[0])} in a copy of {cwd}, within {box_text(minutes)}.")
        environ = environment_of_runs(os.environ)
        runs = ProofRuns(
            *(root, scratch, words, steps, SYSTEM, ends_at, progress.reached, progress.told, environ),
            inherited=(folder.lock,),
        )
        proof = prove(runs, steps, parameters["cuts"], progress.stage, seed=parameters["seed"])
        touched = scratch.touched()
    finally:
        progress.clear()
        if not folder.remove():
            tell(f"{root} could not be removed.")
    for name in touched[:5]:
        tell(
            f"{cwd / name} changed during the proof. If the script wrote it, it uses an absolute path, "
            "which leads out of the copy."
        )
    return proof


def _leave_on_signals() -> None:
    """Ctrl-C, SIGTERM and a closed terminal end the proof: its runs are ended, and nothing is left behind."""
    from backprop_cli.proof_command import STOP_SIGNALS

    def leave(number: int, frame: FrameType | None) -> None:
        for one in STOP_SIGNALS:  # what is done now is short, and not to be interrupted
            signal.signal(one, signal.SIG_IGN)
        if number == signal.SIGINT:
            raise KeyboardInterrupt
        raise SystemExit(128 + number)

    for one in STOP_SIGNALS:
        if signal.getsignal(one) is not signal.SIG_IGN:
            signal.signal(one, leave)


class _Progress:
    """What is being done: a line for each stage, and on a terminal the step that it has reached."""

    def __init__(self, steps: int) -> None:
        self._steps = steps
        self._shown = -1

    def stage(self, text: str) -> None:
        self.told(f"{text} ...")

    def told(self, text: str) -> None:
        self.clear()
        self._shown = -1
        tell(text)

    def reached(self, step: int) -> None:
        if is_terminal() and step > self._shown:
            self._shown = step
            click.echo(f"\r  {step} of {self._steps} steps", nl=False, err=True)

    def clear(self) -> None:
        if self._shown >= 0 and is_terminal():
            click.echo("\r\033[K", nl=False, err=True)


def show(proof: Proof) -> None:
    """The verdict for people: the sentence, what mends it, the table, and what else was seen."""
    click.echo(one_lines(proof.sentence))
    if proof.verdict is not ProofVerdict.IDENTICAL and proof.depends:
        click.echo(f"  depends on it: {one_line(proof.depends)}")
    if proof.mend and proof.verdict is not ProofVerdict.IDENTICAL:
        click.echo(f"  what to do:    {one_line(proof.mend)}")
    if proof.cuts:
        click.echo(f"  cut:           {', '.join(proof.cuts)}")
    if proof.rows:
        click.echo("")
        width = max(len(row.group) for row in proof.rows)
        click.echo(f"  {'compared':<{width}}  {'pieces':>7}  result")
        for row in proof.rows:
            result = "identical" if not row.unequal else f"{row.unequal} differ"
            click.echo(f"  {row.group:<{width}}  {row.pieces:>7}  {result}")
    for text in proof.unkept:
        click.echo(f"  not kept: {one_line(text)}")
    if proof.not_compared:
        names = ", ".join(proof.not_compared[:8]) + (" and more" if len(proof.not_compared) > 8 else "")
        click.echo(f"  not compared, because they differ between two uninterrupted runs: {one_line(names)}")
    for note in proof.notes:
        click.echo(f"  {one_line(note)}")


def one_lines(text: str) -> str:
    """Several lines, each without what would move the terminal."""
    return "\n".join(map(one_line, text.splitlines()))
