"""`backprop.prove(...)`: the command's proof from Python, and as an assertion in a project's own tests."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from backprop_core.deadline.budget import Duration, parse_duration
from backprop_core.errors import BackpropError, UsageError
from backprop_core.prove.verdict import Proof, ProofVerdict


class ProofFailedError(BackpropError, AssertionError):
    """A proof was asked for as an assertion, and its verdict is another than identical."""

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
    """Train the first steps of `script` whole, twice, and cut, in fresh processes, and compare every piece of state.

    Args:
        script: a script, or what stands behind `--module` or `--exec` in `options`.
        arguments: the script's own.
        steps: how many are trained and compared.
        cuts: how often the training is cut.
        budget: seconds for all of it, in any notation.
        cwd: where the script is run, in a copy; the current folder without it.
        options: further options of `backprop prove`, as words.
        environ: of the script; that of this process without it.
        check: raise where the verdict is another than identical.

    Raises:
        UsageError: the script cannot be run, or fails by itself.
        ProofFailedError: with `check`, the proof failed. It is an AssertionError, too.
    """
    words = [
        *("prove", "--json", "-m", f"{parse_duration(budget, 'budget'):g}s"),
        *("--steps", str(steps), "--cuts", str(cuts), *options, os.fspath(script), "--", *arguments),
    ]
    env = dict(os.environ if environ is None else environ)
    if cwd is not None:
        env["PWD"] = str(Path(cwd).absolute())
    done = subprocess.run(
        [sys.executable, "-m", "backprop_cli", *words],
        cwd=cwd,
        env=env,
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    told = _last_object(done.stdout)
    if "verdict" not in told:
        raise UsageError(str(told.get("why", "backprop prove ended without an answer.")))
    proof = Proof.from_json(told)
    if check and proof.verdict is not ProofVerdict.IDENTICAL:
        raise ProofFailedError(proof)
    return proof


def _last_object(text: str) -> Mapping[str, object]:
    lines = text.strip().splitlines()
    try:
        told = json.loads(lines[-1]) if lines else {}
    except ValueError:
        return {}
    return told if isinstance(told, dict) else {}
