"""Faults of ours, planted one at a time: each is found, and called by its name."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from backprop_cli.proof_runs import Done, ProofRuns, ProvenScript, ResumeFailedError
from backprop_core.clock import SYSTEM
from backprop_core.prove.causes import cause_of
from backprop_core.prove.cuts import Cut, CutKind
from backprop_core.prove.pieces import Group
from backprop_core.prove.scratch import Scratch
from backprop_core.prove.verdict import compare_cut, names_of_the_attempt, reproducible

FAULTY = Path(__file__).parent / "faulty"
STEPS = 12
_QUIET = ("--min-free-ram", "0", "--max-load", "1000", "--max-parallel", "64")

NAMED = {
    "torch generator": (Group.GENERATOR, "torch cpu"),
    "python generator": (Group.GENERATOR, "python"),
    "numpy generator": (Group.GENERATOR, "numpy"),
    "scheduler": (Group.SCHEDULER, "scheduler"),
    "batch ahead": (Group.BATCH, "batches"),
    "batch behind": (Group.BATCH, "batches"),
    "counter": (Group.VARIABLE, "main.seen"),
    "best value": (Group.VARIABLE, "main.best"),
    "buffer": (Group.BUFFER, "model.1.running_mean"),
    "averages": (Group.ARRAY, "main.ema"),
    "window": (Group.BATCH, "batches"),
    "momentum": (Group.OPTIMIZER, "exp_avg of model.0.weight"),
    "learning rate": (Group.OPTIMIZER, "param_groups[0].lr"),
    "own generator": (Group.GENERATOR, "main.noise"),
    "weight": (Group.PARAMETER, "model.4.bias"),
    "history": (Group.VARIABLE, "main.history"),
}


class Proving:
    """Two whole runs that all faults are compared with."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.runs = self._with("")
        self.first, self.again = self.runs.whole("whole"), self.runs.whole("again")
        compared, self.why = reproducible(self.first.streams, self.again.streams)
        self.without = names_of_the_attempt(compared)

    def _with(self, fault: str) -> ProofRuns:
        environ = {key: value for key, value in os.environ.items() if not key.startswith("BACKPROP_")}
        environ |= {"PYTHONPATH": str(FAULTY), "PLANTED_FAULT": fault}
        environ |= {"BACKPROP_RUNTIME_DIR": str(self.folder / "runtime"), "BACKPROP_GPU_PROBE": "none"}
        scratch = Scratch(FAULTY, self.folder / "work")
        return ProofRuns(
            self.folder, scratch, self.script, STEPS, SYSTEM, SYSTEM.monotonic() + 900, environ=environ
        )

    @property
    def script(self) -> ProvenScript:
        return ProvenScript([*_QUIET, "train.py"], _QUIET)

    def cut(self, fault: str) -> Done:
        """Cut twice inside an epoch, with the fault."""
        cuts = [Cut(CutKind.INSIDE, 3), Cut(CutKind.INSIDE, 5)]
        return self._with(fault).cut(f"cut-{fault or 'none'}".replace(" ", "-"), cuts)


class ProvingRanks(Proving):
    """The same of two processes that train together."""

    @property
    def script(self) -> ProvenScript:
        torchrun = str(Path(sys.executable).with_name("torchrun"))
        words = ["--standalone", "--nproc-per-node", "2", "train_ranks.py"]
        return ProvenScript([*_QUIET, "--exec", torchrun, "--", *words], _QUIET)


@pytest.fixture(scope="module")
def proving(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proving]:
    proving = Proving(tmp_path_factory.mktemp("proof"))
    assert proving.why is None, proving.why
    yield proving
    proving.runs._scratch.remove()


@pytest.mark.faults
@pytest.mark.parametrize("fault", NAMED)
def test_a_planted_fault_is_called_by_its_name(proving: Proving, fault: str) -> None:
    """What a checkpoint holds is spoilt in one place, and the proof names that place and the step behind the cut."""
    try:
        cut = proving.cut(fault)
    except ResumeFailedError as error:
        pytest.fail(str(error))
    found = compare_cut(
        proving.first.streams, cut.streams, without=proving.without, files={}, files_again={}, files_cut={}
    )
    cause = cause_of(found)
    assert cause is not None
    group, name = NAMED[fault]
    assert (cause.difference.group, name in cause.difference.name) == (group, True), cause.sentence
    assert cause.difference.after_cut in (3, 5)
    assert cause.difference.step == cause.difference.after_cut + 1


@pytest.mark.faults
def test_without_a_fault_nothing_is_named(proving: Proving) -> None:
    """The same script, cut at the same places, is bit-identical: the faults above are not the script's own."""
    cut = proving.cut("")
    found = compare_cut(
        proving.first.streams, cut.streams, without=proving.without, files={}, files_again={}, files_cut={}
    )
    assert cause_of(found) is None
    assert found.steps == STEPS


@pytest.mark.faults
def test_a_changed_order_of_ranks_is_called_by_its_name(tmp_path: Path) -> None:
    """Two processes that are given each other's part: the generator of one is that of the other. Else nothing differs."""
    proving = ProvingRanks(tmp_path)
    assert proving.why is None, proving.why
    for fault in ("ranks", ""):
        cut = proving.cut(fault)
        found = compare_cut(
            proving.first.streams,
            cut.streams,
            without=proving.without,
            files={},
            files_again={},
            files_cut={},
        )
        cause = cause_of(found)
        assert found.steps == STEPS
        if not fault:
            assert cause is None, cause
            continue
        assert cause is not None
        assert "torch cpu" in cause.difference.name, cause.sentence
        assert cause.difference.how == f"is that of rank {1 - cause.difference.rank}"
