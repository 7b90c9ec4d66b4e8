"""A training cut at five random moments, each piece in a fresh process, gives the bits of the uncut one: every kind."""

from __future__ import annotations

import json
from typing import Any

import pytest

from backprop_core.clock import SYSTEM
from backprop_core.runs.locks import FileLock
from tests.backprop_torch.cutting import CUTS, run_pieces
from tests.backprop_torch.kinds import GROUPS


def _results(group: str, factory: pytest.TempPathFactory, worker: str) -> dict[str, dict[str, Any]]:
    """The group's results: made once, by whichever of pytest's workers asks first."""
    shared = factory.getbasetemp() if worker == "master" else factory.getbasetemp().parent
    folder = shared / f"cut-{group}"
    folder.mkdir(exist_ok=True)
    with FileLock(folder / "lock") as lock:
        lock.wait(SYSTEM, 280.0)
        made = folder / "results.json"
        if not made.exists():
            made.write_text(json.dumps(run_pieces(GROUPS[group], folder)), encoding="utf-8")
        results: dict[str, dict[str, Any]] = json.loads(made.read_text(encoding="utf-8"))
    return results


@pytest.fixture
def result(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What became of one kind."""
    group, kind = request.param
    worker = getattr(request.config, "workerinput", {}).get("workerid", "master")
    return _results(group, tmp_path_factory, worker)[kind]


_LONG = ("loaders", "recipes", "shapes", "values", "workers")
_ALL = [
    pytest.param((group, kind), id=f"{group}-{kind}", marks=[pytest.mark.long] if group in _LONG else [])
    for group, kinds in GROUPS.items()
    for kind in kinds
]


@pytest.mark.parametrize("result", _ALL, indirect=True)
def test_cut_into_six_pieces_it_has_the_bits_of_the_uncut_training(result: dict[str, Any]) -> None:
    """SHA-256 over weights, optimizer state, loss history and all other state is that of the uncut training."""
    assert len(result["at"]) == CUTS
    assert result["outcomes"][-1] == "completed"
    assert result["cut"] == result["whole"], f"cut after steps {result['at']}: {result['said']}"


@pytest.mark.parametrize("result", _ALL, indirect=True)
def test_every_piece_but_the_last_was_really_cut(result: dict[str, Any]) -> None:
    """Five pieces ended early, by the deadline, by SIGTERM, by Ctrl-C and by the control file."""
    assert len(result["outcomes"]) == CUTS + 1
    assert set(result["outcomes"][:-1]) <= {"timeboxed", "preempted", "stopped"}, result["outcomes"]
