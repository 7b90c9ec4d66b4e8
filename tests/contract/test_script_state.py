"""Every kind of state in every form: the same after two cuts, or named before."""

from __future__ import annotations

import itertools
import os
import re
import shutil
import sys
from pathlib import Path

import pytest

from backprop_core.testing.state_contract import Form, Judged, copy_kinds, first_piece, judge
from backprop_core.testing.state_kinds import arrays, standard
from backprop_core.testing.state_kinds.plain import KINDS

ROOT = Path(__file__).parents[2]
PROGRAMS = Path(__file__).parent / "programs"
_LONG, _FAULTS = pytest.mark.long, pytest.mark.faults
"""CI trains each form but Fabric's once, in a few minutes; `make test-faults` all of them."""
NAMED = (
    {name for name, kind in KINDS.items() if kind.named} | arrays.NAMED | standard.NAMED | {"loader_iterator"}
)


def _form(program: str, form: str, folder: Path, *options: str, **environment: str) -> Form:
    copy_kinds(folder)
    script = folder / program
    shutil.copy(PROGRAMS / program, script)
    own = {k: v for k, v in os.environ.items() if not k.startswith(("BACKPROP_", "CONTRACT_", "SLURM_"))}
    own |= {"BACKPROP_HOME": str(folder / "home"), "PYTHONWARNINGS": "ignore", "OMP_NUM_THREADS": "1"}
    own |= {
        "PYTHONPATH": str(ROOT),
        "BACKPROP_RUNTIME_DIR": str(folder / "runtime"),
        "BACKPROP_GPU_PROBE": "none",
    }
    own |= {"BACKPROP_MIN_FREE_RAM": "0", "BACKPROP_MAX_PARALLEL": "64", "BACKPROP_MAX_LOAD": "1000"}
    plain = [sys.executable, str(script), form]
    begin, resume = plain, plain
    if form == "run":
        backprop, time = [sys.executable, "-m", "backprop_cli"], ["-m", "600", "--grace", "0"]
        begin = [*backprop, "run", *time, "--run-id", "cut", *options, str(script), "--", form]
        resume = [*backprop, "resume", "cut", *time]
    return Form(begin, resume, plain, own | environment)


def _told(form: Form, *, begin: str, resume: str) -> Form:
    """The same with other arguments on a resume. `backprop resume` runs what was run."""
    return Form(
        [*form.begin, *begin.split()],
        [*form.resume, *resume.split()],
        [*form.whole, *resume.split()],
        form.environment,
    )


def _judged(program: str, form: str, folder: Path, **environment: str) -> Judged:
    return judge(_form(program, form, folder, **environment), folder)


def _check(verdict: Judged, *more: str) -> None:
    assert not verdict.silent, f"different and not named: {verdict.silent}\nnamed: {verdict.named}"
    assert set(verdict.different) <= NAMED | {*more}, f"different: {verdict.different}"
    assert len(verdict.same) >= len(KINDS) - len(NAMED)


@pytest.mark.parametrize("form", [pytest.param("explicit", marks=_FAULTS), pytest.param("run", marks=_LONG)])
def test_plain_loops(form: str, tmp_path: Path) -> None:
    """Globals, locals, objects and data of a loop in a box that is told its objects, and under `backprop run`."""
    _check(_judged("plain.py", form, tmp_path))


@pytest.mark.parametrize("form", [pytest.param("explicit", marks=_FAULTS), pytest.param("run", marks=_LONG)])
def test_accelerate(form: str, tmp_path: Path) -> None:
    """The same loop, prepared by accelerate, whose loader fetches a batch ahead."""
    _check(_judged("plain.py", form, tmp_path, CONTRACT_PREPARED="accelerate"))


@pytest.mark.faults
@pytest.mark.parametrize("form", ["explicit", "run"])
@pytest.mark.parametrize("how", ["accumulate", "stateful", "stateful+accumulate", "seedable+accumulate"])
def test_windows_and_loaders_of_accelerate(how: str, form: str, tmp_path: Path) -> None:
    """Batches, losses, learning rates and accumulation windows to the end of every epoch, over stateful loaders, too."""
    verdict = _judged("accelerated.py", form, tmp_path, CONTRACT_PREPARED=how)
    assert not verdict.different, verdict.output
    assert not verdict.named


@pytest.mark.faults
@pytest.mark.parametrize(
    ("how", "form"),
    [
        *itertools.product(
            ["ahead", "window", "ahead+window", "threaded", "ahead+threaded"], ["explicit", "run"]
        ),
        ("prefetcher", "run"),
    ],
)
def test_what_reads_ahead_gives_again_what_was_not_trained(how: str, form: str, tmp_path: Path) -> None:
    """One object around another, a thread, three batches in hand: each batch is trained once, and in its place."""
    verdict = _judged("prefetched.py", form, tmp_path, CONTRACT_PREPARED=how)
    assert not verdict.different, verdict.output
    assert not verdict.named


@pytest.mark.parametrize(
    ("how", "form"),
    [
        pytest.param("transformers", "callback", marks=_FAULTS),
        pytest.param("lightning+iterable", "callback", marks=_FAULTS),
        pytest.param("accelerate", "run", marks=_LONG),
        pytest.param("ahead", "run", marks=_FAULTS),
        *(
            pytest.param(how, form, marks=_FAULTS)
            for how, form in [
                ("plain", "explicit"), ("plain+iterable", "explicit"), ("plain+iterable", "run"),
                ("accelerate", "explicit"), ("accelerate+iterable", "explicit"), ("accelerate+iterable", "run"),
                ("accelerate+globals", "explicit"), ("accelerate+globals", "run"),
                ("ahead+iterable", "run"), ("ahead+globals", "run"), ("fabric", "explicit"), ("fabric", "run"),
                ("lightning", "callback"), ("transformers+iterable", "callback"),
                ("transformers+globals", "callback"),
            ]
        ),
    ],
)  # fmt: skip
def test_what_making_a_batch_changes(how: str, form: str, tmp_path: Path) -> None:
    """A generator and numbers in globals, a closure, and the generator that training draws from, too: each batch is made
    once, also where one is made before the one before it has been trained.
    """
    verdict = _judged("made_ahead.py", form, tmp_path, CONTRACT_PREPARED=how)
    assert not verdict.different, verdict.output
    assert not verdict.named


@pytest.mark.parametrize(
    ("how", "form"),
    [
        pytest.param("seldom", "run", marks=_LONG),
        pytest.param("lightning seldom", "callback", marks=_FAULTS),
        *(
            pytest.param(how, form, marks=_FAULTS)
            for how in ("never", "seldom", "by hand", "kept zeros", "clipped")
            for form in ("explicit", "run")
            if (how, form) != ("seldom", "run")
        ),
        pytest.param("lightning never", "callback", marks=_FAULTS),
    ],
)
def test_gradients_that_outlive_a_step(how: str, form: str, tmp_path: Path) -> None:
    """Weights and gradients after each step of a script that never zeroes them, or every three steps, cut three times."""
    verdict = judge(_form("gradients.py", form, tmp_path, CONTRACT_PREPARED=how), tmp_path, cuts=(4, 9, 13))
    assert not verdict.different, verdict.output
    assert not verdict.named


@pytest.mark.parametrize(
    "program",
    [
        pytest.param("plain", marks=_LONG),
        *(pytest.param(program, marks=_FAULTS) for program in ("lightning", "transformers")),
    ],
)
def test_more_epochs_on_a_resume_are_the_new_attempts(program: str, tmp_path: Path) -> None:
    """A training that was to have two epochs has four when it is resumed with that argument, as if it always had."""
    form = _form("longer.py", "explicit", tmp_path)
    verdict = judge(_told(form, begin=f"{program} 2", resume=f"{program} 4"), tmp_path, cuts=(4,))
    assert verdict.steps == (13, 13), verdict.output
    assert verdict.different == {"epochs": 1}, verdict.output
    assert not verdict.named


@pytest.mark.faults
@pytest.mark.parametrize("form", ["explicit", "run"])
def test_fabric(form: str, tmp_path: Path) -> None:
    """The same loop, with model, optimizer and loader set up by Fabric, whose loader counts its passes."""
    _check(_judged("plain.py", form, tmp_path, CONTRACT_PREPARED="fabric"))


@pytest.mark.long
def test_lightning(tmp_path: Path) -> None:
    """Attributes of the module, a DataModule, a callback and what these hold; the loader's parts."""
    _check(_judged("fit.py", "callback", tmp_path))


@pytest.mark.long
def test_transformers(tmp_path: Path) -> None:
    """Attributes of a Trainer, a callback, the model and what these hold; the loader's parts."""
    _check(_judged("trainer.py", "callback", tmp_path))


@pytest.mark.parametrize(
    "backend",
    [
        pytest.param("torch", marks=_LONG),
        *(pytest.param(one, marks=_FAULTS) for one in ("jax", "tensorflow")),
    ],
)
def test_keras(backend: str, tmp_path: Path) -> None:
    """Attributes of callbacks, the model, a layer and a PyDataset, which TensorFlow asks ahead of training."""
    _check(_judged("keras_fit.py", "callback", tmp_path, KERAS_BACKEND=backend))


@pytest.mark.parametrize(
    ("program", "form"),
    [
        pytest.param("plain.py", "run", marks=_FAULTS),
        pytest.param("fit.py", "callback", marks=_FAULTS),
        pytest.param("fit.py", "run", marks=_LONG),
        pytest.param("trainer.py", "callback", marks=_LONG),
        pytest.param("trainer.py", "run", marks=_FAULTS),
        pytest.param("keras_fit.py", "callback", marks=_FAULTS),
        pytest.param("keras_fit.py", "run", marks=_FAULTS),
    ],
)
def test_strict_ends_the_training_behind_the_checkpoint_that_lacks_something(
    program: str, form: str, tmp_path: Path
) -> None:
    """An error with the name of what cannot be kept, after the save, in a callback and under `backprop run --strict`."""
    how = _form(program, form, tmp_path, "--strict", CONTRACT_STRICT="1", KERAS_BACKEND="torch")
    done = first_piece(how, tmp_path, 4)
    assert done.returncode, done.stdout + done.stderr
    assert re.search(
        r"(own_generator|set_of_objects|grown_instances)\S* \(\w+\) changes during training", done.stderr
    )
    assert "strict" in done.stderr
    assert list(tmp_path.glob("home/runs/cut/checkpoints/step-*/manifest.json"))
