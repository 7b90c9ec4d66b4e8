"""A training inside an installed package: started by `--module`, its loops are counted like a script's."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.backprop_cli.commandline import CommandLine, end, wait_for
from tests.backprop_startup.cutting import path_with, with_environment

FILES = {
    "__init__.py": "",
    "__main__.py": "from fitter.cli import main\nmain()\n",
    "cli.py": """
import argparse
from fitter.engine import Engine

def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--pause", type=float, default=0.0)
    engine = Engine(parser.parse_args().pause)
    for epoch in range(8):
        engine.train(epoch)
    print("best", engine.best, engine.seen, flush=True)

if __name__ == "__main__":
    main()
""",
    "engine.py": """
import time
import numpy as np

class Engine:
    def __init__(self, pause):
        self.pause, self.seen, self.best = pause, 0, float("inf")
        self.rng = np.random.default_rng(5)
        self.weights, self.rows = np.zeros(4), self.rng.normal(size=(60, 4))

    def train(self, epoch):
        total = 0.0
        for pick in np.array_split(self.rng.permutation(60), 15):
            error = self.rows[pick] @ (self.weights - np.arange(4.0))
            self.weights -= 0.05 * self.rows[pick].T @ error
            self.seen += 1
            total += float(error @ error)
            time.sleep(self.pause)
        self.best = min(self.best, total)
        print(epoch, total, self.seen, flush=True)
""",
}


@pytest.mark.parametrize("module", ["fitter", pytest.param("fitter.cli", marks=pytest.mark.long)])
def test_a_module_of_an_installed_package_is_cut_twice(backprop: CommandLine, module: str) -> None:
    """What `python -m` runs is cut in an epoch of another file of its package; every line comes once, and is the same."""
    package: Path = backprop.folder / "lib" / "site-packages" / "fitter"
    package.mkdir(parents=True)
    for name, text in FILES.items():
        (package / name).write_text(text)
    with_environment(backprop, PYTHONPATH=path_with(package.parent))
    uncut = subprocess.run(
        [sys.executable, "-m", module], env=backprop.environment, capture_output=True, text=True, check=True
    )
    printed = said = ""
    for attempt, lines in ((1, 2), (2, 2), (3, None)):
        start = ("run", "-m", "5", "--run-id", "cut", "--module", module, "--", "--pause", "0.05")
        child = backprop.start(*(start if attempt == 1 else ("resume", "cut", "-m", "5")))
        log = backprop.attempt_dir("cut", attempt) / "output.log"
        try:
            if lines is not None:
                wait_for(
                    lambda c=child, f=log, n=lines: (
                        c.poll() is not None or (f.exists() and f.read_text().count("\n") >= n)
                    )
                )
                assert child.poll() is None, child.communicate()
                assert backprop("stop", "cut").returncode == 0
            out, err = child.communicate(timeout=240)
        finally:
            end(child)
        assert child.returncode == 0, out + err
        printed, said = printed + out, said + err
    assert backprop.record("cut")["status"] == "completed", said
    assert printed == uncut.stdout, said
