"""A box around scikit-learn: numpy state, exact, and torch is never imported."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.backprop_torch.cutting import environment

_SCRIPT = '''
import os, signal, sys
import numpy as np
from sklearn.datasets import load_digits
from sklearn.linear_model import SGDClassifier
import backprop

class Tracked:
    """scikit-learn's classifier with a state: ten lines."""
    def __init__(self, model): self.model = model
    def state_dict(self):
        names = ("coef_", "intercept_", "t_", "classes_", "n_iter_")
        return {name: getattr(self.model, name) for name in names if hasattr(self.model, name)}
    def load_state_dict(self, state):
        for name, value in state.items():
            setattr(self.model, name, value)
        if state: self.model._expanded_class_weight = np.ones(len(self.model.classes_))
        if state: self.model.standard_coef_, self.model.standard_intercept_ = self.model.coef_, self.model.intercept_

data = load_digits()
model, steps = SGDClassifier(random_state=0), []
cut = int(sys.argv[2])
with backprop.timebox(run=sys.argv[1], grace=0, model=Tracked(model), steps=steps) as box:
    for epoch in box.epochs(3):
        order = np.random.permutation(1500)
        for rows in box.batches([slice(first, first + 100) for first in range(0, 1500, 100)]):
            chosen = order[rows]
            model.partial_fit(data.data[chosen], data.target[chosen], classes=range(10))
            steps.append(float(np.random.rand()))
            if len(steps) == cut: os.kill(os.getpid(), signal.SIGTERM)
assert "torch" not in sys.modules, "torch was imported"
print(box.outcome, len(steps), model.coef_.tobytes().hex()[:400], steps[-1])
'''


def _run(folder: Path, run: str, cut: int) -> str:
    script = folder / "train.py"
    script.write_text("import numpy; numpy.random.seed(0)\n" + _SCRIPT, encoding="utf-8")
    ended = subprocess.run(
        [sys.executable, str(script), run, str(cut)],
        env=environment(folder),
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout.strip()


def test_a_scikit_learn_classifier_is_resumed_exactly_without_torch(tmp_path: Path) -> None:
    """partial_fit in three fresh processes gives the coefficients of the uncut one; torch stays unimported."""
    whole = _run(tmp_path, "whole", 0)
    assert whole.startswith("completed 45")
    assert _run(tmp_path, "cut", 7).startswith("preempted 7 ")
    assert _run(tmp_path, "cut", 22).startswith("preempted 22 ")
    assert _run(tmp_path, "cut", 0) == whole
