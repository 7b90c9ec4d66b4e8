"""The PyTorch examples run, are cut and resumed, and end as they promise."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.backprop_torch.cutting import environment

_ROOT = Path(__file__).parents[2]


def _run(home: Path, name: str, *arguments: str) -> tuple[str, str]:
    ended = subprocess.run(
        [sys.executable, str(_ROOT / "examples" / name), "--epochs", "2", *arguments],
        env=environment(home),
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout, ended.stderr


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.long) for name in ("digits_pytorch.py", "text_pytorch.py")]
)
def test_the_explicit_examples_end_with_the_uncut_digest(name: str, tmp_path: Path) -> None:
    """Cut by a small budget and resumed, the digest in the last line is that of the uncut run."""
    whole, _ = _run(tmp_path, name)
    out, _ = _run(tmp_path, name, "--run", "cut", "--budget", "0.5s", "--pause", "0.03")
    assert "timeboxed after" in out
    out, said = _run(tmp_path, name, "--run", "cut")
    assert "resumed from step" in said
    assert out.splitlines()[-1] == whole.splitlines()[-1]


@pytest.mark.long
def test_the_unchanged_example_goes_on_where_it_was(tmp_path: Path) -> None:
    """It is cut, says what it found and how to be exact, and trains the rest of the epoch and its two epochs anew."""
    out, said = _run(tmp_path, "digits_unchanged.py", "--run", "cut", "--budget", "0.8s", "--pause", "0.03")
    assert "Checkpointing: model (Sequential), optimizer (AdamW), scheduler (CosineAnnealingLR)" in said
    done = int(re.findall(r"timeboxed after (\d+) steps", out)[0])
    out, said = _run(tmp_path, "digits_unchanged.py", "--run", "cut")
    assert said.count("Two lines make it exact") == 1
    assert f"completed after {done + 94 - done % 47} steps" in out
