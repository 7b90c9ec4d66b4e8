"""`backprop prove`, the real command on real scripts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.backprop_cli.commandline import DEADLINE_S, CommandLine, end, wait_for

_NUMPY = """
    import numpy
    generator = numpy.random.default_rng(0)
    data = generator.normal(size=(64, 4))
    weights = numpy.zeros(4)
    best = 1e9
    for epoch in range(4):
        order = generator.permutation(64)
        for start in range(0, 64, 8):
            rows = data[order[start : start + 8]]
            gradient = rows.T @ (rows @ weights - rows.sum(axis=1)) / 8
            weights -= 0.05 * gradient
            best = min(best, float(abs(gradient).sum()))
        print(epoch, best)
"""


def proven(backprop: CommandLine, *words: str) -> dict[str, Any]:
    """What `backprop prove --json` says; its exit status is in it."""
    done = backprop("prove", "--json", "-m", "10", *words, timeout=600)
    told: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    assert told.get("exit_status") == done.returncode, done.stderr
    return told


def _files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_training_is_proven_and_nothing_is_left_behind(backprop: CommandLine, tmp_path: Path) -> None:
    """A numpy loop is bit-identical over its cuts; the user's folder and home stay as they were."""
    script = backprop.script(_NUMPY)
    before = _files(backprop.folder)
    backprop.environment["TMPDIR"] = str(tmp_path / "temporary")
    (tmp_path / "temporary").mkdir()
    told = proven(backprop, script.name, "--steps", "20")
    assert told["verdict"] == "identical", told
    assert told["steps"] == 20
    assert {text.rpartition(" at ")[0] for text in told["cuts"]} >= {
        "inside an epoch", "at the end of an epoch", "by SIGKILL"
    }  # fmt: skip
    assert _files(backprop.folder) == before
    assert not backprop.home.exists()
    assert not list((tmp_path / "temporary").iterdir())


def test_a_script_that_is_not_reproducible_is_told_so(backprop: CommandLine) -> None:
    """A generator that nobody seeds is the script's own matter: exit status 3, with the usual cause."""
    script = backprop.script(_NUMPY.replace("default_rng(0)", "default_rng()"))
    told = proven(backprop, script.name, "--steps", "8")
    assert (told["verdict"], told["exit_status"]) == ("not_reproducible", 3)
    assert "seed" in told["mend"]


def test_a_script_that_fails_is_no_proof(backprop: CommandLine) -> None:
    """Its last words are shown, with exit status 2, and nothing is said of it."""
    script = backprop.script("import numpy\nraise RuntimeError('no data')\n")
    done = backprop("prove", script.name, timeout=240)
    assert done.returncode == 2
    assert "no data" in done.stderr
    assert not done.stdout


def test_a_terminated_proof_leaves_nothing_behind(backprop: CommandLine, tmp_path: Path) -> None:
    """After SIGTERM its folder is gone, and so is the script that it was running."""
    script = backprop.script(
        "import numpy, os, time\nopen('started', 'w').write(str(os.getpid()))\ntime.sleep(600)\n"
    )
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    backprop.environment["TMPDIR"] = str(temporary)
    child = backprop.start("prove", script.name)
    try:
        started = wait_for(lambda: next(temporary.glob("*/work/started"), None))
        pid = int(wait_for(started.read_text))
        child.terminate()
        child.communicate(timeout=DEADLINE_S)
    finally:
        end(child)
    assert not list(temporary.iterdir())
    wait_for(lambda: not Path(f"/proc/{pid}").exists())
