"""`backprop prove SCRIPT`: whether a training cut into pieces gives the same bits, tried on the script itself."""

from __future__ import annotations

import signal
import tempfile
from dataclasses import asdict
from pathlib import Path
from types import FrameType
from typing import Any

import click

from backprop_cli.opening import box_text, is_terminal, one_line, settings_for, tell
from backprop_cli.parameters import complete_files, config_options, json_option, raw_settings, working_folder
from backprop_cli.scripts import ScriptCommand, ScriptKind, check_script
from backprop_core.errors import UsageError
from backprop_core.prove.scratch import LIMIT_BYTES, Scratch
from backprop_core.prove.verdict import Proof, ProofVerdict

_EXAMPLES = """\b
Examples:
  backprop prove train.py
  backprop prove train.py --steps 200 --cuts 5 -m 30 -- --lr 0.1
  backprop prove --exec torchrun -- --nproc-per-node 2 train.py
"""
_OF_THE_PROOF = ("max-run-minutes", "timeboxed-exit-code", "resume-flag", "checkpoint-glob")


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
    default=LIMIT_BYTES / 1e9,
    show_default="2.1",
    metavar="GB",
    help="Largest working directory to copy.",
)
@config_options
@click.option("--config", metavar="PATH", help="Configuration file [default: the nearest one].")
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
    check_script(kind, script, cwd)
    if parameters["steps"] < 2 or parameters["cuts"] < 1:
        raise UsageError("A proof needs at least 2 steps and 1 cut.", "Give more with --steps and --cuts.")
    passed = _passed_on(raw, parameters, cwd)
    flags = {ScriptKind.MODULE: ["--module"], ScriptKind.PROGRAM: ["--exec"]}.get(kind, [])
    proof = _proven([script, *script_args], flags, passed, cwd, settings["max-run-minutes"], parameters)
    if parameters["as_json"]:
        from backprop_core.strict_json import encode

        click.echo(
            encode({**asdict(proof), "verdict": proof.verdict.value, "exit_status": proof.exit_status})
        )
    else:
        show(proof)
    return proof.exit_status


def _proven(
    command_line: list[str],
    flags: list[str],
    passed: list[str],
    cwd: Path,
    minutes: float,
    parameters: dict[str, Any],
) -> Proof:
    """Run it in a folder that is gone afterwards.

    Args:
        flags, passed: what stands before the script in `backprop run`; `resume` takes those that are passed, too.
    """
    from backprop_cli.proof_runs import ProofRuns, ProvenScript, remove_all
    from backprop_cli.proving import prove
    from backprop_core.clock import SYSTEM

    steps, ends_at = parameters["steps"], SYSTEM.monotonic() + minutes * 60.0
    # No symbolic links in it: a script that asks where it is would be told another path than the one it was given.
    root = Path(tempfile.mkdtemp(prefix="backprop-prove-")).resolve()
    try:
        _leave_on_signals()
        scratch = Scratch(cwd, root / "work", int(parameters["copy_limit"] * 1e9))
        scratch.measure()
        script, *arguments = [_moved(word, cwd, scratch.work) for word in command_line]
        words = ProvenScript([*flags, *passed, script, "--", *arguments], passed)
        tell(f"proving {one_line(command_line[0])} in a copy of {cwd}, within {box_text(minutes)}.")
        progress = _Progress(steps)
        runs = ProofRuns(root, scratch, words, steps, SYSTEM, ends_at, progress.reached)
        proof = prove(runs, steps, parameters["cuts"], progress.stage, seed=parameters["seed"])
        progress.clear()
        touched = scratch.touched()
    finally:
        remove_all(root)
    for name in touched[:5]:
        tell(
            f"{cwd / name} has changed meanwhile: if it was the script, it knows that place by an absolute path."
        )
    return proof


def _leave_on_signals() -> None:
    """SIGTERM and a closed terminal end the proof as Ctrl-C does: its runs are ended, and nothing is left behind."""

    def leave(number: int, frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    for one in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(one, leave)


def _passed_on(raw: dict[str, Any], parameters: dict[str, Any], cwd: Path) -> list[str]:
    """The options that `run` and `resume` are given as well."""
    words: list[str] = []
    for name, value in raw.items():
        if value is None:
            continue
        if name in _OF_THE_PROOF:
            if name != "max-run-minutes":
                raise UsageError(f"--{name} does not apply to a proof.", "Leave it out.")
        elif name == "rewrite" and value == "none":
            words.append("--no-rewrite")
        elif isinstance(value, bool):
            words.append(f"--{'' if value else 'no-'}{name}")
        else:
            words += [f"--{name}", str(value)]
    if parameters["config"]:
        words += ["--config", str(cwd / parameters["config"])]
    return words


def _moved(word: str, cwd: Path, work: Path) -> str:
    """A word of the command line in which an absolute path into the working directory leads into its copy."""
    head, equals, tail = word.partition("=")
    path = tail if equals else head
    if path == str(cwd) or path.startswith(f"{cwd}/"):
        path = f"{work}{path[len(str(cwd)) :]}"
        return f"{head}={path}" if equals else path
    return word


class _Progress:
    """What is being done: a line for each stage, and on a terminal the step that it has reached."""

    def __init__(self, steps: int) -> None:
        self._steps = steps
        self._shown = -1

    def stage(self, text: str) -> None:
        self.clear()
        self._shown = -1
        tell(f"{text} ...")

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
