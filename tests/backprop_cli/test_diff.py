"""`backprop diff`, on runs that differ in what is known, and the provenance that it reads."""

from __future__ import annotations

import json
import subprocess
import sys

from tests.backprop_cli.commandline import CommandLine
from tests.backprop_cli.report.made_up_run import make_run

_SCRIPT = """
    import json
    for step in range(1, 4):
        print(json.dumps({"step": step, "loss": RATE / step}), flush=True)
"""


def _git(backprop: CommandLine, *words: str) -> None:
    command = ["git", "-c", "user.name=x", "-c", "user.email=x@example.org", *words]
    subprocess.run(command, cwd=backprop.folder, check=True, capture_output=True)


def test_code_arguments_and_results_are_told_apart(backprop: CommandLine) -> None:
    """Two runs of a script that was changed without a commit: the changed line, the seeds, the settings and the results are
    shown, and nothing that is the same.
    """
    _git(backprop, "init")
    backprop.script("RATE = 1\n" + _SCRIPT.replace("\n    ", "\n"))
    _git(backprop, "add", ".")
    _git(backprop, "commit", "-m", "x")
    backprop("run", "train.py", "--run-id", "one", "--", "--seed", "1")
    backprop.script("RATE = 2\n" + _SCRIPT.replace("\n    ", "\n"))
    backprop("run", "train.py", "--run-id", "two", "-m", "3", "--", "--seed", "2")
    shown = backprop("diff", "one", "two")
    assert shown.returncode == 0, shown.stderr
    for words in (
        "seed seed",
        "max-run-minutes",
        "changed since the commit",
        "nothing",
        "+RATE = 2",
        "last loss",
    ):
        assert words in shown.stdout, words
    for words in ("packages", "interpreter", "git commit", "status"):
        assert words not in shown.stdout, words
    found = json.loads(backprop("diff", "one", "two", "--json").stdout)
    assert found["runs"] == ["one", "two"]
    assert {"what": "max-run-minutes", "before": None, "after": "3.0"} in found["settings"]
    kept = json.loads((backprop.attempt_dir("two") / "provenance.json").read_text())
    assert kept["seeds"] == {"seed": "2"}
    assert kept["packages"]["pytest"]
    page = backprop("report", "two", "-o", "-").stdout
    assert "<ins>+RATE = 2</ins>" in page
    assert "seed seed" in page


def test_curves_are_compared_step_by_step(backprop: CommandLine) -> None:
    """The first step at which two curves differ is named, and curves that are the same are said to be."""
    make_run(backprop.home, "slow", seconds=60, decay=1.0)
    make_run(backprop.home, "fast", seconds=60, decay=3.0)
    make_run(backprop.home, "again", seconds=60, decay=1.0)
    shown = backprop("diff", "slow", "fast").stdout
    assert "loss: first difference at step 1: 1.96" in shown
    assert "lr: identical at all 160 steps that both runs recorded" in shown
    assert "they differ" not in backprop("diff", "slow", "again").stdout


def test_nothing_is_kept_where_it_is_not_wanted(backprop: CommandLine) -> None:
    """--no-provenance and the variable keep no file, under the command and without it; diff says that it does not know."""
    backprop.script("")
    backprop("run", "train.py", "--run-id", "quiet", "--no-provenance")
    backprop("run", "train.py", "--run-id", "told")
    assert not (backprop.attempt_dir("quiet") / "provenance.json").exists()
    assert (backprop.attempt_dir("told") / "provenance.json").exists()
    backprop.script(
        """
        import backprop, sys
        with backprop.timebox("4m", run=sys.argv[1]) as box:
            for step in box.steps(3):
                pass
        """
    )
    for run, variable in (("alone", "1"), ("silent", "0")):
        environment = {**backprop.environment, "BACKPROP_PROVENANCE": variable}
        subprocess.run([sys.executable, "train.py", run], cwd=backprop.folder, env=environment, check=True)
        assert (backprop.attempt_dir(run) / "provenance.json").exists() is (run == "alone")
    shown = backprop("diff", "quiet", "told")
    assert "run quiet has no record of its code" in shown.stderr
    assert "There is no record of the code" in backprop("report", "quiet", "-o", "-").stdout
    for words in (["diff", "told", "told"], ["diff", "told"], ["diff", "told", "nothing"]):
        done = backprop(*words)
        assert done.returncode == 2, words
        assert "Traceback" not in done.stderr
