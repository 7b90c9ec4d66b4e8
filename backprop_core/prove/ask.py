"""`backprop.prove(...)`: the command's proof from Python, and as an assertion in a project's own tests."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from backprop_core.deadline.budget import Duration, parse_duration
from backprop_core.errors import BackpropError, UsageError, shown
from backprop_core.prove.verdict import Proof, ProofVerdict


class ProofFailedError(BackpropError, AssertionError):
    """`prove(..., check=True)` did not find the trainings identical. `proof` has the result."""

    def __init__(self, proof: Proof) -> None:
        super().__init__(proof.sentence, proof.mend)
        self.proof = proof


def prove(
    script: str | os.PathLike[str],
    *arguments: str,
    steps: int = 60,
    cuts: int = 4,
    budget: Duration = "10m",
    cwd: str | os.PathLike[str] | None = None,
    options: Sequence[str] = (),
    environ: Mapping[str, str] | None = None,
    check: bool = False,
) -> Proof:
    """Train the first steps of `script` twice uninterrupted and once in pieces, and compare every piece of state.

    Args:
        script: path of the script; with `--module` or `--exec` in `options`, the module or program.
        arguments: arguments of the script.
        steps: number of steps to train and compare.
        cuts: number of interruptions.
        budget: time for the whole proof, as a duration.
        cwd: working directory; the script runs in a copy of it. None: the current directory.
        options: further options of `backprop prove`, one word each.
        environ: environment of the script; None: that of this process.
        check: raise an error unless the verdict is identical.

    Raises:
        UsageError: the script cannot be run, or fails by itself; or an argument is not allowed.
        ProofFailedError: with `check`, the verdict is not identical. It is also an AssertionError.
    """
    if isinstance(options, str):
        raise UsageError(
            f"options={options!r} is one string.", "Give a list of words: options=['--seed', '7']."
        )
    env = dict(os.environ if environ is None else environ)
    words = [
        *("prove", "--json", "-m", f"{parse_duration(budget, 'budget'):g}s"),
        *("--steps", str(steps), "--cuts", str(cuts), *options, _text("script", script), "--"),
        *(_text("arguments", argument) for argument in arguments),
    ]
    if cwd is not None:
        cwd = _folder(_text("cwd", cwd))
        env["PWD"] = str(cwd)
    try:
        done = subprocess.run(
            [sys.executable, "-m", "backprop_cli", *words],
            cwd=cwd,
            env=env,
            stdout=subprocess.PIPE,
            text=True,
            check=False,
        )
    except (OSError, TypeError, ValueError) as error:  # options or variables that are no text
        raise UsageError(
            f"'backprop prove' could not be started: {error}.", "Check cwd, options and environ."
        ) from error
    told = _last_object(done.stdout)
    if "verdict" not in told:
        raise UsageError(str(told.get("why", "backprop prove ended without an answer.")))
    proof = Proof.from_json(told)
    if check and proof.verdict is not ProofVerdict.IDENTICAL:
        raise ProofFailedError(proof)
    return proof


def _folder(cwd: str) -> Path:
    """`cwd` as an absolute path; UsageError where no process can work in it."""
    what = ""
    try:
        folder = Path(cwd).expanduser().absolute()
        if not folder.is_dir():
            what = "is not a folder" if folder.exists() else "does not exist"
        elif not os.access(folder, os.R_OK | os.X_OK):
            what = "cannot be read (Permission denied)"
    except (OSError, RuntimeError) as error:  # a name that is too long, a user that does not exist
        what = f"cannot be used ({getattr(error, 'strerror', None) or error})"
    if what:
        raise UsageError(f"cwd={shown(cwd)} {what}.", "Give the folder in which the script runs.")
    return folder


def _text(name: str, value: object) -> str:
    """`value` as a word of the command line; UsageError where it is neither text, a path nor a number."""
    if isinstance(value, int | float) and not isinstance(value, bool) and name == "arguments":
        return str(value)
    text = os.fspath(value) if isinstance(value, str | os.PathLike) else None
    if not isinstance(text, str) or not text or "\0" in text:
        raise UsageError(f"{name}={value!r} cannot be used.", "Give text or a path.")
    return text


def _last_object(text: str) -> Mapping[str, object]:
    lines = text.strip().splitlines()
    try:
        told = json.loads(lines[-1]) if lines else {}
    except ValueError:
        return {}
    return told if isinstance(told, dict) else {}
