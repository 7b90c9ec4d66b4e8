"""Plain scripts in examples/unmodified, cut twice and resumed in fresh processes, print and write what they do uncut."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.backprop_cli.commandline import DEADLINE_S, CommandLine, end, wait_for
from tests.backprop_startup.cutting import EXAMPLES, whole

PAUSE = ("--pause", "0.02")
SHORT = {
    "adam_jax.py": ["--epochs", "6"],
    "digits_fabric.py": ["--epochs", "4", "--images", "320"],
    "folds_torch.py": ["--epochs", "4"],
    "gan_torch.py": ["--epochs", "8", "--images", "320"],
    "mlp_numpy.py": ["--epochs", "8"],
    "patience_torch.py": ["--images", "320"],
    "replay_torch.py": ["--episodes", "30"],
    "stream_sklearn.py": ["--epochs", "6"],
}
"""Arguments with which each trains for a few seconds."""


def _files(backprop: CommandLine) -> dict[str, bytes]:
    return {
        path.name: path.read_bytes() for path in backprop.folder.iterdir() if path.suffix in (".pt", ".npz")
    }


def _cut_twice(backprop: CommandLine, script: Path, arguments: list[str], lines: int) -> tuple[str, str]:
    """Stop behind a third of the `lines`, again behind another, then to the end; what the script and backprop said."""
    printed = said = ""
    for attempt in (1, 2, 3):
        start = ["run", "--run-id", "cut", str(script), "--", *arguments, *PAUSE]
        child = backprop.start(*(start if attempt == 1 else ["resume", "cut"]))
        log = backprop.attempt_dir("cut", attempt) / "output.log"
        try:
            if attempt < 3:
                wait_for(lambda c=child, f=log: c.poll() is not None or _lines_in(f) >= max(1, lines // 3))
                assert child.poll() is None, child.communicate()
                assert backprop("stop", "cut").returncode == 0
            out, err = child.communicate(timeout=DEADLINE_S)
        finally:
            end(child)
        assert child.returncode == 0, out + err
        printed, said = printed + out, said + err
    assert backprop.record("cut")["status"] == "completed", said
    return printed, said


def _lines_in(log: Path) -> int:
    return log.read_text().count("\n") if log.exists() else 0


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("gan_torch.py", marks=pytest.mark.long),
        pytest.param("adam_jax.py", marks=pytest.mark.faults),
        pytest.param("mlp_numpy.py", marks=pytest.mark.long),
        *(
            pytest.param(name, marks=pytest.mark.faults)
            for name in SHORT
            if name not in ("gan_torch.py", "adam_jax.py", "mlp_numpy.py")
        ),
    ],
)
def test_an_example_is_cut_twice_and_ends_as_if_it_had_not_been(backprop: CommandLine, name: str) -> None:
    """Every line comes once and in order, and every file that it saves has the same bytes; nothing is warned of."""
    script = EXAMPLES / name
    uncut = whole(backprop, script, *SHORT[name])
    assert uncut.returncode == 0, uncut.stderr
    theirs = _files(backprop)
    for file in theirs:
        (backprop.folder / file).unlink()
    printed, said = _cut_twice(backprop, script, SHORT[name], len(uncut.stdout.splitlines()))
    assert printed == uncut.stdout, said
    assert _files(backprop) == theirs
    assert "cannot be kept" not in said
    assert "Not restored" not in said
