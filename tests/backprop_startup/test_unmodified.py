"""Scripts without a trace of backprop: time-boxed, resumed, and compared with the uncut run, in fresh processes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from backprop_core.clock import SYSTEM
from tests.backprop_cli.commandline import CommandLine
from tests.backprop_startup.cutting import EXAMPLES, cut, events, last_line, resumed, whole, with_environment

SLOWLY = ("--pause", "0.02")


def test_no_example_knows_of_backprop() -> None:
    """What these tests run is what somebody would have written without us."""
    scripts = [*EXAMPLES.glob("*.py")]
    assert scripts
    for script in scripts:
        assert "backprop" not in script.read_text(), script


@pytest.mark.parametrize(
    ("name", "framework", "backend"),
    [
        pytest.param("digits_lightning", "lightning", "", marks=pytest.mark.long),
        pytest.param("digits_keras", "keras", "jax", marks=pytest.mark.faults),
        pytest.param("digits_keras", "keras", "tensorflow", marks=pytest.mark.faults),
        pytest.param("digits_keras", "keras", "torch", marks=pytest.mark.faults),
    ],
)
def test_an_unchanged_script_is_cut_and_resumed_bit_for_bit(
    backprop: CommandLine, name: str, framework: str, backend: str
) -> None:
    """Stopped from outside while it trains and resumed, it ends with the weights and metrics of the uncut run."""
    with_environment(backprop, KERAS_BACKEND=backend or "torch")
    script = EXAMPLES / f"{name}.py"
    uncut = last_line(whole(backprop, script, "--epochs", "3"))
    cut(backprop, "cut", script, "--epochs", "3", *SLOWLY)
    started = next(e for e in events(backprop, "cut") if e["kind"] == "session_started")
    assert (started["framework"], started["attached"]) == (framework, True)
    assert last_line(resumed(backprop, "cut")) == uncut
    assert backprop.record("cut")["attempts"][1]["steps"] < 141


def _trace(backprop: CommandLine, name: str) -> list[str]:
    return (backprop.folder / name).read_text().splitlines()


@pytest.mark.long
def test_a_plain_loop_goes_on_with_the_right_batches_and_bits(backprop: CommandLine) -> None:
    """Every step has the batch and the weights of the uncut run, to its end; an evaluation before it does no harm."""
    script = EXAMPLES / "digits_torch.py"
    assert whole(backprop, script, "--epochs", "3", "--trace", "whole").returncode == 0
    cut(backprop, "cut", script, "--epochs", "3", "--trace", "cut", *SLOWLY)
    steps = len(_trace(backprop, "cut"))
    done = resumed(backprop, "cut")
    assert 0 < steps < 141
    assert _trace(backprop, "cut") == _trace(backprop, "whole")
    assert "Two lines make it exact" not in done.stderr


@pytest.mark.faults
def test_a_loop_without_a_loader_goes_on_with_all_its_optimizers_and_averages(backprop: CommandLine) -> None:
    """A Trainer class with two optimizers, bfloat16, an average, files of its own: every further step has the same bits."""
    script = EXAMPLES / "text_torch.py"
    assert whole(backprop, script, "--steps", "80", "--trace", "whole").returncode == 0
    cut(backprop, "cut", script, "--steps", "80", "--trace", "cut", *SLOWLY)
    steps = len(_trace(backprop, "cut"))
    resumed(backprop, "cut")
    theirs = [line.split()[1] for line in _trace(backprop, "whole")]
    ours = [line.split()[1] for line in _trace(backprop, "cut")]
    assert 0 < steps < 80
    assert ours[:80] == theirs


@pytest.mark.faults
def test_two_ranks_are_one_run_and_stop_at_the_same_step(backprop: CommandLine) -> None:
    """Under torchrun both stop after the same step; resumed, each rank has the batches and the weights of the uncut run."""
    script = EXAMPLES / "digits_ddp.py"
    torchrun = (str(Path(sys.executable).with_name("torchrun")), "--nproc-per-node", "2")
    with_environment(backprop, OMP_NUM_THREADS="1")
    assert whole(backprop, script, "--epochs", "2", "--trace", "whole.txt", launcher=torchrun).returncode == 0
    cut(backprop, "cut", script, "--epochs", "2", "--trace", "cut.txt", "--pause", "0.05", launcher=torchrun)
    first, second = (len(_trace(backprop, f"cut.{rank}")) for rank in "01")
    assert 0 < first == second < 94
    resumed(backprop, "cut")
    assert len(backprop.runs()) == 1
    for rank in "01":
        assert _trace(backprop, f"cut.{rank}") == _trace(backprop, f"whole.{rank}")


@pytest.mark.faults
def test_two_ranks_of_a_trainer_are_one_run_and_end_with_the_uncut_weights(backprop: CommandLine) -> None:
    """An unchanged transformers script under torchrun, stopped from outside: both ranks end as the uncut ones did."""
    script = EXAMPLES / "text_transformers.py"
    torchrun = (str(Path(sys.executable).with_name("torchrun")), "--nproc-per-node", "2")
    with_environment(backprop, OMP_NUM_THREADS="1")
    uncut = _last_words(whole(backprop, script, "--steps", "300", launcher=torchrun).stdout)
    cut(backprop, "cut", script, "--steps", "300", launcher=torchrun)
    assert _last_words(resumed(backprop, "cut").stdout) == uncut
    assert len(uncut) == 2
    assert len(backprop.runs()) == 1
    first, second = backprop.record("cut")["attempts"]
    assert first["outcome"] == "stopped"
    assert first["steps"] + second["steps"] == 300


def _last_words(stdout: str) -> list[str]:
    return [line for line in stdout.splitlines() if " steps, loss " in line]


@pytest.mark.faults
def test_a_time_box_ends_an_unchanged_script_in_time_and_the_rest_follows(backprop: CommandLine) -> None:
    """The session joined by itself and ended the process before the deadline."""
    script = EXAMPLES / "digits_torch.py"
    began = SYSTEM.monotonic()
    subprocess.run([sys.executable, str(script), "--epochs", "1"], check=True, capture_output=True)
    minutes = f"{(10.0 + 2 * (SYSTEM.monotonic() - began)) / 60:.3f}"
    words = ("-m", minutes, "--run-id", "boxed", "--", "--epochs", "2000", "--pause", "0.05")
    done = backprop("run", str(script), *words, timeout=400)
    assert done.returncode == 0, done.stderr
    record = backprop.record("boxed")
    assert record["status"] == "timeboxed"
    (attempt,) = record["attempts"]
    assert attempt["steps"] > 0
    assert attempt["measured"]["governor"]["unused_s"] >= 0
    assert not attempt["measured"]["governor"]["killed"]


@pytest.mark.parametrize(
    ("text", "status"),
    [
        (
            "import sys; print('out'); print('err', file=sys.stderr); open('made', 'w').write('x'); sys.exit(7)",
            7,
        ),
        ("raise ValueError('mine')", 1),
        ("import torch; print(torch.zeros(2)); raise SystemExit(4)", 4),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", 137),
    ],
)
def test_a_script_behaves_as_without_us(backprop: CommandLine, text: str, status: int) -> None:
    """Standard output, exit status and files are those of the script alone, and its traceback is not changed."""
    script = backprop.script(text)
    alone = whole(backprop, script)
    made = sorted(p.name for p in backprop.folder.iterdir())
    boxed = backprop("run", "train.py")
    assert boxed.stdout == alone.stdout
    assert (
        boxed.returncode,
        alone.returncode % 256 if alone.returncode >= 0 else 128 - alone.returncode,
    ) == (
        status,
        status,
    )
    assert sorted(p.name for p in backprop.folder.iterdir()) == made
    for line in alone.stderr.splitlines():
        assert line in boxed.stderr


@pytest.mark.long
def test_a_training_that_ends_within_its_box_prints_what_it_prints_alone(backprop: CommandLine) -> None:
    """The script's standard output under `backprop run` is byte for byte what it is without it."""
    script = EXAMPLES / "digits_torch.py"
    alone = whole(backprop, script, "--epochs", "2")
    boxed = backprop("run", str(script), "-m", "5", "--", "--epochs", "2", timeout=240)
    assert boxed.stdout == alone.stdout
    assert boxed.returncode == alone.returncode == 0
