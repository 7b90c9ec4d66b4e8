"""Unmodified scripts come back exactly, to their end: cut twice in fresh processes, they do what they do uncut."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.backprop_cli.commandline import CommandLine, end, wait_for
from tests.backprop_startup.cutting import whole

WHOLE = Path(__file__).with_name("whole_scripts.py")
NUMBERS = Path(__file__).with_name("numbers_only.py")
PLAIN = Path(__file__).with_name("plain_loops.py")
NO_OPTIMIZER = Path(__file__).with_name("no_optimizer.py")
EVOLUTION = Path(__file__).with_name("evolution.py")
PROJECT = Path(__file__).parent / "project" / "scripts" / "train.py"


def _lines(backprop: CommandLine, name: str) -> list[str]:
    path = backprop.folder / name
    return path.read_text().splitlines() if path.exists() else []


def _runs(backprop: CommandLine, attempt: int) -> bool:
    record = backprop.record("cut")
    return record["status"] == "running" and len(record["attempts"]) == attempt


def _cut_twice(backprop: CommandLine, script: Path, shape: str, places: list[int]) -> str:
    """Run, stop behind so many lines of the trace, resume, and so on to the end; what backprop said."""
    said = ""
    for number, place in enumerate([*places, None]):
        command = ["run", "-m", "5", "--run-id", "cut", str(script), "--", shape, "cut", "0.03"]
        child = backprop.start(*(command if number == 0 else ["resume", "cut", "-m", "5"]))
        try:
            if place is not None:
                wait_for(
                    lambda c=child, p=place, n=number + 1: (
                        c.poll() is not None or (len(_lines(backprop, "cut")) >= p and _runs(backprop, n))
                    ),
                    180,
                )
                assert child.poll() is None, child.communicate()
                assert backprop("stop", "cut", timeout=120).returncode == 0
            out, err = child.communicate(timeout=180)
        finally:
            end(child)
        assert child.returncode == 0, out + err
        said += err
    assert backprop.record("cut")["status"] == "completed"
    return said


@pytest.mark.parametrize(
    "shape",
    [
        pytest.param("averaged", marks=pytest.mark.long),
        pytest.param("endless", marks=pytest.mark.long),
        *(
            pytest.param(shape, marks=pytest.mark.faults)
            for shape in ("own_sgd", "trainer_class", "stream", "endless_in_loops", "asked_twice_over")
        ),
    ],
)
def test_a_whole_script_is_cut_twice_and_leaves_the_same_trace(backprop: CommandLine, shape: str) -> None:
    """Every line that the script writes as it trains is the same, none twice and none missing; nothing is warned of."""
    assert whole(backprop, WHOLE, shape, "whole", "0").returncode == 0
    theirs = _lines(backprop, "whole")
    said = _cut_twice(backprop, WHOLE, shape, [len(theirs) // 4, len(theirs) * 2 // 3])
    assert _lines(backprop, "cut") == theirs, said
    assert "cannot be kept" not in said
    assert "Not restored" not in said


@pytest.mark.faults
def test_a_generator_whose_place_cannot_be_told_is_named_once(backprop: CommandLine) -> None:
    """One that is asked with send is named at the first checkpoint, and only that one; nothing is resumed in silence."""
    said = _cut_twice(backprop, WHOLE, "answered", [8])
    named = [line for line in said.splitlines() if "cannot be kept" in line]
    assert named
    assert all("`answered().answers` (generator) changes during training" in line for line in named)
    assert "silent" not in said


def test_a_script_without_a_framework_is_cut_twice(backprop: CommandLine) -> None:
    """A numpy loop is saved and comes back, its own random generator and its lists with it."""
    assert whole(backprop, NUMBERS, "-", "whole", "0").returncode == 0
    theirs = _lines(backprop, "whole")
    said = _cut_twice(backprop, NUMBERS, "-", [100, 140])
    assert _lines(backprop, "cut") == theirs, said


@pytest.mark.long
def test_a_project_in_several_folders_is_cut_twice(backprop: CommandLine) -> None:
    """A loop in a folder that the script puts on sys.path, and what a module without a loop counts, come back."""
    assert whole(backprop, PROJECT, "-", "whole", "0").returncode == 0
    theirs = _lines(backprop, "whole")
    said = _cut_twice(backprop, PROJECT, "-", [30, 70])
    assert _lines(backprop, "cut") == theirs, said
    assert f"completed at step {len(theirs)} " in said


@pytest.mark.parametrize(
    ("script", "shape"),
    [
        pytest.param(NO_OPTIMIZER, "functional", marks=pytest.mark.long),
        pytest.param(NO_OPTIMIZER, "jax_on_a_loader", marks=pytest.mark.long),
        pytest.param(EVOLUTION, "-", marks=pytest.mark.long),
    ],
)
def test_a_training_with_torch_and_without_its_optimizers_is_cut_twice(
    backprop: CommandLine, script: Path, shape: str
) -> None:
    """Where torch tells of no step, as nothing of its own takes one, each iteration is a step, and counted as one."""
    assert whole(backprop, script, shape, "whole", "0").returncode == 0
    theirs = _lines(backprop, "whole")
    said = _cut_twice(backprop, script, shape, [70, 95])
    assert _lines(backprop, "cut") == theirs, said
    assert f"completed at step {len(theirs)} " in said


def test_boxes_follow_each_other_until_a_plain_script_is_done(backprop: CommandLine) -> None:
    """--until-done completes a script that has never heard of us, in as many boxes as it takes, with the uncut trace."""
    assert whole(backprop, NUMBERS, "-", "whole", "0").returncode == 0
    box_s = 2.5 + 2 * backprop.start_s
    script = (str(NUMBERS), "--", "-", "cut", f"{2.2 * box_s / 160:.4f}")
    done = backprop("run", "-m", f"{box_s / 60:.4f}", "--until-done", "--run-id", "cut", *script)
    assert done.returncode == 0, done.stderr
    outcomes = [attempt["outcome"] for attempt in backprop.record("cut")["attempts"]]
    assert outcomes == ["timeboxed"] * (len(outcomes) - 1) + ["completed"]
    assert len(outcomes) >= 2
    assert _lines(backprop, "cut") == _lines(backprop, "whole"), done.stderr


@pytest.mark.parametrize(
    "shape",
    [
        pytest.param("teacher_and_student", marks=pytest.mark.long),
        pytest.param("workers_that_stay", marks=pytest.mark.long),
        pytest.param("shared_iterators", marks=pytest.mark.faults),
        *(
            pytest.param(shape, marks=pytest.mark.faults)
            for shape in (
                "accelerated", "accumulation", "scaler", "closure", "compiled", "critic_first", "fine_tuning",
                "looked_at_first", "mean_from_a_file", "two_at_once", "two_loaders",
            )
        ),
    ],
)  # fmt: skip
def test_a_plain_loop_of_any_shape_is_cut_twice(backprop: CommandLine, shape: str) -> None:
    """Each optimizer step leaves the weights that it leaves in the uncut run, and the loops end where they should."""
    assert whole(backprop, PLAIN, shape, "whole", "0").returncode == 0
    theirs = _lines(backprop, "whole")
    said = _cut_twice(backprop, PLAIN, shape, [len(theirs) // 4, len(theirs) * 2 // 3])
    assert _lines(backprop, "cut") == theirs, said


@pytest.mark.faults
def test_what_the_first_iteration_makes_is_made_again(backprop: CommandLine) -> None:
    """A model that the loop itself makes is there behind its first iteration, which runs once more on each resume: what that
    writes into a file is taken back, so each line is there once.
    """
    assert whole(backprop, PLAIN, "inside_a_function", "whole", "0").returncode == 0
    theirs = _lines(backprop, "whole")
    _cut_twice(backprop, PLAIN, "inside_a_function", [20, 60])
    assert _lines(backprop, "cut") == theirs


def test_no_rewrite_leaves_the_script_as_it_is(backprop: CommandLine) -> None:
    """With --no-rewrite no loop is counted; without it the script sees nothing of ours in its own module."""
    backprop.script(
        """
        import builtins, sys
        import numpy
        total = 0
        for i in range(3):
            total += i
        print(total, __file__ == sys.argv[0] or __file__.endswith("train.py"), __spec__, __package__)
        print(hasattr(builtins, "__backprop_ticks__"), sorted(n for n in globals() if "backprop" in n))
        """
    )
    first, second = backprop("run", "train.py"), backprop("run", "--no-rewrite", "train.py")
    assert first.stdout == "3 True None None\nTrue []\n", first.stderr
    assert second.stdout == "3 True None None\nFalse []\n", second.stderr


def test_an_exception_is_told_as_python_tells_it(backprop: CommandLine) -> None:
    """Traceback, status and the last word on standard error are those of the bare script."""
    script = backprop.script("def f(x):\n    for i in x:\n        x.step()\nf(3)\n")
    bare, ours = whole(backprop, script), backprop("run", "train.py")
    assert ours.returncode == bare.returncode == 1
    trace = [line for line in ours.stderr.splitlines() if not line.startswith("backprop:")]
    assert trace == bare.stderr.splitlines()
