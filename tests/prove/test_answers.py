"""What `backprop prove` answers where there is nothing to prove, and what it touches."""

from __future__ import annotations

import textwrap
from pathlib import Path

import pytest

from tests.backprop_cli.commandline import DEADLINE_S, CommandLine
from tests.backprop_cli.terminals import Terminal
from tests.prove.test_command import proven

_TRAINS = """
    import os, sys
    import numpy
    generator = numpy.random.default_rng(0)
    weights = numpy.zeros(4)
    {before}
    for epoch in range({epochs}):
        for start in range({batches}):
            rows = generator.normal(size=(8, 4))
            weights -= 0.05 * (rows.T @ (rows @ weights - rows.sum(axis=1)) / 8)
            {inside}
"""


def training(*, before: str = "pass", inside: str = "pass", epochs: int = 4, batches: int = 8) -> str:
    """A numpy loop; what is added is one line each."""
    return textwrap.dedent(_TRAINS).format(before=before, inside=inside, epochs=epochs, batches=batches)


def test_a_script_that_cannot_be_run_is_told_in_its_own_words(backprop: CommandLine) -> None:
    """A syntax error is shown at the place of the user's file, and nothing is said that holds inside of the proof alone."""
    script = backprop.script("for epoch in range(4]:\n    pass\n")
    done = backprop("prove", script.name, timeout=240)
    assert done.returncode == 2
    assert "SyntaxError: closing parenthesis ']'" in done.stderr.splitlines()[2]
    assert f'File "{script}", line 1' in done.stderr
    assert "backprop-prove-" not in done.stderr
    assert "resume" not in done.stderr


def test_a_script_that_cannot_go_on_is_told_in_its_own_words(backprop: CommandLine) -> None:
    """It refuses its second start: exit status 1, with its error, and no advice to resume a run that is gone."""
    refuses = 'if os.environ["BACKPROP_ATTEMPT"] == "2": raise ValueError("the folder is not empty")'
    script = backprop.script(training(before=refuses))
    done = backprop("prove", script.name, "--steps", "6", "--cuts", "1", timeout=240)
    assert done.returncode == 1
    first = done.stdout.splitlines()[0]
    assert first.startswith(
        "The training could not be resumed. Attempt 2 failed. The script failed with exit status 1:"
    )
    assert "ValueError: the folder is not empty" in first
    assert "backprop-prove-" not in done.stdout
    assert "resume cut" not in done.stdout


@pytest.mark.parametrize(
    ("text", "answer", "status"),
    [
        (training(epochs=1, batches=1), "The training ended after 1 step: too few to interrupt it.", 124),
        ("print('hello')\n", "No training was recognised in this script.", 2),
    ],
)
def test_too_few_steps_are_no_proof(backprop: CommandLine, text: str, answer: str, status: int) -> None:
    """One step cannot be cut; a script that never trains is told so. Neither is called a fault of the script's."""
    done = backprop("prove", backprop.script(text).name, timeout=240)
    assert done.returncode == status
    assert answer in (done.stdout if status == 124 else done.stderr)


def test_what_keeps_a_run_from_starting_is_no_fault_of_the_script(backprop: CommandLine) -> None:
    """Memory does not come free: what is waited for is told meanwhile, and the exit status is that of `run`."""
    script = backprop.script(training())
    words = ("prove", script.name, "--min-free-ram", "65536", "--wait-minutes", "0.02")
    done = backprop(*words, timeout=240)
    assert done.returncode == 75
    assert "backprop: waiting since" in done.stderr
    assert "Not started after" in done.stderr
    assert "script failed" not in done.stderr


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--steps", "1"), "--steps is 1. It must be at least 2."),
        (("--cuts", "0"), "--cuts is 0. It must be at least 1."),
        (("--steps", "many"), "'many' is not a valid integer"),
        (("-m", "soon"), '--max-run-minutes is "soon".'),
        (("--copy-limit", "-1"), "--copy-limit must be 0 GB or more."),
        (("--copy-limit", "0"), "and a proof works in a copy of at most 0.0 GB"),
        (("--sink", "tensorboard"), "--sink does not apply to a proof."),
        (("--until-done",), "No such option '--until-done'."),
        (("--config", "none.json"), "none.json cannot be read"),
    ],
)
def test_a_wrong_option_is_named(backprop: CommandLine, words: tuple[str, ...], told: str) -> None:
    """With exit status 2, before anything is trained."""
    done = backprop("prove", backprop.script(training()).name, *words, timeout=240)
    assert done.returncode == 2
    assert told in done.stderr
    assert "training" not in done.stderr
    assert "Traceback" not in done.stderr


def test_a_box_too_short_is_told(backprop: CommandLine) -> None:
    """Exit status 124, and what to give."""
    done = backprop("prove", backprop.script(training()).name, "-m", "1s", timeout=240)
    assert done.returncode == 124
    assert done.stdout == "The time box ended before the proof did. Give it more (-m), or fewer --steps.\n"


def test_files_are_compared_and_the_users_are_not_touched(backprop: CommandLine, tmp_path: Path) -> None:
    """What the script writes beside itself is compared; files that have another name in each run are listed instead."""
    inside = 'open("log.csv", "a").write(f"{epoch},{start},{weights[0]}\\n")'
    before = 'open(f"worker-{os.getpid()}.txt", "w").write("x")'
    script = backprop.script(training(before=before, inside=inside))
    mine = backprop.folder / "log.csv"
    mine.write_text("epoch,start,weight\n")
    told = proven(backprop, script.name, "--steps", "10", "--cuts", "2")
    assert told["verdict"] == "identical", told
    assert {"group": "files", "pieces": 1, "unequal": 0} in told["rows"]
    assert "file worker-#.txt" in told["not_compared"]
    assert sorted(backprop.folder.iterdir()) == [mine, script]
    assert mine.read_text() == "epoch,start,weight\n"


def test_an_answer_that_goes_into_the_folder_is_no_change_of_the_scripts(backprop: CommandLine) -> None:
    """`backprop prove train.py > answer` does not name `answer` as a file that the script has touched."""
    script = backprop.script(training())
    with (backprop.folder / "answer").open("w") as file:
        child = backprop.start("prove", script.name, "--steps", "4", "--cuts", "1", stdout=file)
        _, said = child.communicate(timeout=240)
    assert child.returncode == 0
    assert (backprop.folder / "answer").read_text().startswith("Bit-identical over 4 steps and 1 cut.")
    assert "has changed meanwhile" not in said


def test_a_fault_of_our_own_is_called_so(backprop: CommandLine) -> None:
    """A save that fails within backprop lets the training go on without it: nothing is proven, nobody else is blamed."""
    backprop.environment |= {
        "PYTHONPATH": str(Path(__file__).parent / "faulty"),
        "PLANTED_FAULT": "own fault",
    }
    done = backprop("prove", backprop.script(training()).name, "--steps", "6", "--cuts", "1", timeout=240)
    assert done.returncode == 1
    assert "The proof itself failed (report it): backprop " in done.stderr
    assert "planted" in done.stderr
    assert not done.stdout


_REPLACED = """
    import numpy

    class Noted:
        def __init__(self):
            self.calls = 0

        def __call__(self, x):
            self.calls += 1
            return x

    class Plain:
        def __call__(self, x):
            return x

    class Twice:
        def __call__(self, x):
            return 2 * x

    class Model:
        def __init__(self):
            self.weights = numpy.zeros(4)
            self.scale = {scale}()

        def step(self, x):
            self.weights = 0.9 * self.weights + self.scale(x)
            if x == 2:
                self.scale = Twice()

    model = Model()
    for epoch in range(2):
        for start in range(5):
            model.step(start)
"""


@pytest.mark.parametrize(
    ("scale", "name", "mend"),
    [
        pytest.param(
            "Noted", "main.model.scale", "Create it before training begins", marks=pytest.mark.faults
        ),
        pytest.param(
            "Plain", "main.model.weights", "First fix what is not kept (below)", marks=pytest.mark.long
        ),
    ],
)
def test_what_is_not_kept_is_mended_first(backprop: CommandLine, scale: str, name: str, mend: str) -> None:
    """A piece that lies in something that no checkpoint holds has the advice for that; any other may follow from it."""
    script = backprop.script(_REPLACED.replace("{scale}", scale))
    told = proven(backprop, script.name, "--steps", "10", "--cuts", "3")
    assert told["verdict"] == "different", told
    assert told["name"].startswith(name)
    assert told["mend"].startswith(mend)
    assert "`main.model.scale` (Twice)" in told["unkept"][0]


def test_an_error_on_a_terminal_begins_a_line(backprop: CommandLine) -> None:
    """The progress that stands there is wiped first."""
    script = backprop.script("import time\ntime.sleep(1)\nraise SystemExit(7)\n")
    with Terminal(backprop, "prove", script.name) as terminal:
        assert terminal.finish(DEADLINE_S) == 2
    shown = terminal.shown.decode()
    assert "0 of 60 steps" in shown
    assert "0 of 60 steps\r\x1b[Kbackprop: The script failed with exit status 7" in shown


def test_a_time_box_of_the_scripts_own_is_told_from_the_end(backprop: CommandLine) -> None:
    """It stops the training before the steps that were asked for."""
    script = backprop.script("""
        import time
        import backprop
        import numpy
        weights = numpy.zeros(4)
        with backprop.timebox("1s", weights=weights) as box:
            for step in box.steps(10_000):
                weights += step
                time.sleep(0.1)
    """)
    told = proven(backprop, script.name, "--steps", "1000", "--cuts", "1")
    assert told["verdict"] == "identical" or "before the uninterrupted one" in told["sentence"], told
    if told["verdict"] == "identical":
        assert told["notes"][0].startswith("A time box of the script's own ended after "), told
