"""Threads that read, collect and free, and forks, beside a training that is saved as often as it can be."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.backprop_torch.cutting import environment

STARTS = 60


@pytest.mark.faults
def test_no_start_is_ended_by_a_signal(tmp_path: Path) -> None:
    """A script whose loader is read by a thread once ended by SIGSEGV in about sixty starts; here each ends well."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.backprop_torch.threads_and_forks", str(STARTS), str(tmp_path)],
        cwd=Path(__file__).parents[2],
        env=environment(tmp_path),
        capture_output=True,
        text=True,
        check=False,
        timeout=1500,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    made = json.loads(done.stdout.splitlines()[-1])
    assert made["ends"] == [0] * STARTS, "\n".join(made["traces"].values()) + done.stderr[-4000:]
