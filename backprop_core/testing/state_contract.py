"""The contract of script state: whatever a program changes while it trains is the same after two cuts, or was named before.

A program of each form trains with every kind of state in `state_kinds`, once whole, once cut twice and resumed in fresh
processes. It notes after each step what can be seen of each kind, and the comparison says which kinds differ.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import field
from pathlib import Path

from backprop_core.quick_dataclass import dataclass
from backprop_core.testing.state_kinds import trace

_KINDS = Path(__file__).parent / "state_kinds"
_NAMED = re.compile(r"`([^`]+)` \(([^)]*)\) (?:changes|may change) during training and cannot be kept")
_MORE_NAMED = re.compile(r"Also not kept: (.*)")
_NAME = re.compile(r"`([^`]+)` \(")


@dataclass(frozen=True)
class Form:
    """How one program is started.

    Attributes:
        begin: the command that begins a run.
        resume: the command that goes on with it.
        whole: the command that trains without backprop.
        environment: of all of these.
    """

    begin: Sequence[str]
    resume: Sequence[str]
    whole: Sequence[str]
    environment: Mapping[str, str]


@dataclass
class Judged:
    """What came of it.

    Attributes:
        steps: steps of the whole training, and of the pieces together.
        same: kinds that showed the same in each step.
        different: kinds that did not, and the first step where.
        named: names that the cut training called impossible to keep, before it ended.
        output: what the pieces wrote.
    """

    steps: tuple[int, int] = (0, 0)
    same: list[str] = field(default_factory=list)
    different: dict[str, int] = field(default_factory=dict)
    named: list[str] = field(default_factory=list)
    output: list[str] = field(default_factory=list)

    def is_named(self, kind: str) -> bool:
        """Whether a name among those leads to the kind."""
        return any(re.search(rf"\b{re.escape(kind)}\b", name) for name in self.named)

    @property
    def silent(self) -> dict[str, int]:
        """Kinds that differ and were not named: what must not be."""
        return {kind: step for kind, step in self.different.items() if not self.is_named(kind)}


def copy_kinds(folder: Path) -> None:
    """Put the kinds beside a program."""
    shutil.copytree(_KINDS, folder / _KINDS.name, ignore=shutil.ignore_patterns("__pycache__"))


def judge(form: Form, folder: Path, cuts: Sequence[int] = (4, 9), timeout_s: float = 600) -> Judged:
    """Train whole and in pieces, each in a fresh process.

    Args:
        folder: where the program lies.
        cuts: after how many steps a piece ends.

    Raises:
        AssertionError: a process failed.
    """
    verdict = Judged()
    whole = _run(form.whole, form, folder, "whole", None, timeout_s, verdict)
    pieces: list[dict[str, str]] = []
    for number, cut in enumerate([*cuts, None]):
        command = form.resume if number else form.begin
        pieces = _run(command, form, folder, "cut", cut, timeout_s, verdict, seed=1000 * number)
        expected = len(whole) if cut is None else cut
        assert len(pieces) == expected, f"{len(pieces)} steps, not {expected}\n{verdict.output[-1][-4000:]}"
    verdict.steps = len(whole), len(pieces)
    for kind in {name: None for step in whole for name in step}:
        pairs = enumerate(zip(whole, pieces, strict=True))
        first = next((n for n, (a, b) in pairs if a.get(kind) != b.get(kind)), None)
        if first is None:
            verdict.same.append(kind)
        else:
            verdict.different[kind] = first + 1
    verdict.named = [name for out in verdict.output for name in _names_in(out)]
    return verdict


def _names_in(output: str) -> list[str]:
    more = [name for line in _MORE_NAMED.findall(output) for name in _NAME.findall(line)]
    return [name for name, _ in _NAMED.findall(output)] + more


def first_piece(
    form: Form, folder: Path, cut: int, timeout_s: float = 600
) -> subprocess.CompletedProcess[str]:
    """The process that begins a run and is cut after so many steps, however it ends."""
    return _process(form.begin, form, folder, "cut", cut, timeout_s, seed=0)


def _run(
    command: Sequence[str],
    form: Form,
    folder: Path,
    name: str,
    cut: int | None,
    timeout_s: float,
    verdict: Judged,
    *,
    seed: int = 0,
) -> list[dict[str, str]]:
    done = _process(command, form, folder, name, cut, timeout_s, seed=seed)
    verdict.output.append(done.stdout + done.stderr)
    assert done.returncode == 0, (
        f"status {done.returncode}: {' '.join(command)}\n{verdict.output[-1][-6000:]}"
    )
    trace_of = folder / f"{name}.trace"
    return [json.loads(line) for line in trace_of.read_text(encoding="utf-8").splitlines()]


def _process(
    command: Sequence[str],
    form: Form,
    folder: Path,
    name: str,
    cut: int | None,
    timeout_s: float,
    *,
    seed: int,
) -> subprocess.CompletedProcess[str]:
    environment = {**form.environment, trace.TRACE: str(folder / f"{name}.trace"), trace.RUN: name}
    environment |= {trace.CUT: str(cut or ""), trace.SEED: str(seed)}
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=timeout_s, check=False
    )
