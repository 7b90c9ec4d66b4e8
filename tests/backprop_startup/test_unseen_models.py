"""A model that its library keeps in memory of its own (XGBoost, LightGBM): named at once, and never half resumed."""

from __future__ import annotations

from pathlib import Path

from tests.backprop_cli.commandline import CommandLine, end, wait_for
from tests.backprop_startup.cutting import path_with, with_environment

LIBRARY = """
import ctypes

class Booster:
    def __init__(self, rounds=0):
        self.handle = ctypes.c_void_p(1 + rounds)

    def predict(self, rows):
        return rows * self.handle.value

def train(rows, booster=None):
    return Booster(0 if booster is None else booster.handle.value)
"""
TRAINS = """
    import sys, time
    import numpy as np
    import boosting
    rows, booster, best = np.ones(8), None, 0.0
    for number in range(int(sys.argv[1])):
        booster = boosting.train(rows, booster)
        best = max(best, float(booster.predict(rows).sum()))
        print(number, best, flush=True)
        time.sleep(0.05)
"""


def _installed(backprop: CommandLine) -> CommandLine:
    folder: Path = backprop.folder / "lib" / "site-packages"
    folder.mkdir(parents=True)
    (folder / "boosting.py").write_text(LIBRARY)
    return with_environment(backprop, PYTHONPATH=path_with(folder))


def _stopped(backprop: CommandLine, attempt: int, *command: str) -> tuple[str, str]:
    """An attempt that is stopped when it has printed some rounds; those, and what backprop said."""
    child = backprop.start(*command)
    try:
        log = backprop.attempt_dir("cut", attempt) / "output.log"
        wait_for(lambda: child.poll() is not None or (log.exists() and log.read_text().count("\n") > 40))
        assert child.poll() is None, child.communicate()
        backprop("stop", "cut")
        return child.communicate(timeout=120)
    finally:
        end(child)


def test_a_model_in_memory_of_its_library_is_named_at_once_and_begins_anew(backprop: CommandLine) -> None:
    """No checkpoint is made that would lack the model: a resume trains from the first round, and each attempt says so."""
    _installed(backprop).script(TRAINS)
    named = "`main.booster` (boosting's Booster) cannot be kept"
    _, first = _stopped(backprop, 1, "run", "-m", "5", "--run-id", "cut", "train.py", "--", "100000")
    assert first.count(named) == 1, first
    assert not list((backprop.home / "runs" / "cut" / "checkpoints").glob("step-*"))
    printed, again = _stopped(backprop, 2, "resume", "cut", "-m", "5")
    assert printed.splitlines()[0] == "0 8.0"
    assert again.count(named) == 1, again
