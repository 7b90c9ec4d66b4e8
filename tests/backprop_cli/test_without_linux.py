"""What macOS lacks is taken away: no shared copies, no subreaper, no signal when a parent dies. The rest has to work."""

from __future__ import annotations

import sys
from pathlib import Path

from tests.backprop_cli.commandline import CommandLine

SCRIPT = """
    import os, signal, sys
    import backprop

    assert sys.platform == "darwin" and not hasattr(os, "memfd_create")
    kept = {"value": 1.0}
    with backprop.timebox(kept=kept) as box:
        for step in box.steps(200):
            kept["value"] = (kept["value"] * 1.1 + step) % 7.0
            if step == 120 and box.resumed_from is None and len(sys.argv) > 1:
                os.kill(os.getpid(), signal.SIGINT)
    print(box.outcome, kept["value"].hex())
"""


def _as_on_macos(backprop: CommandLine) -> None:
    backprop.environment["PYTHONPATH"] = str(Path(__file__).parent / "without_linux")
    backprop.script(SCRIPT)


def test_a_run_is_stopped_resumed_and_bit_identical(backprop: CommandLine) -> None:
    """Governed, stopped by Ctrl-C and resumed without Linux's own calls, a training ends with the value of a whole one."""
    _as_on_macos(backprop)
    whole = backprop("run", "train.py", "--run-id", "whole")
    assert whole.returncode == 0, whole.stderr
    cut = backprop("run", "train.py", "--run-id", "cut", "--", "cut")
    assert "Resume: backprop resume cut" in cut.stderr, cut.stderr
    resumed = backprop("resume", "cut")
    assert resumed.stdout == whole.stdout, resumed.stderr
    assert backprop("verify", "cut").returncode == 0


def test_doctor_names_what_is_missing(backprop: CommandLine) -> None:
    """A user on another system learns which protection there is none of."""
    _as_on_macos(backprop)
    assert "Not Linux" in backprop("doctor", "--quick").stdout
    assert sys.platform == "linux"
