"""The start-up hook: what it leaves alone, what it survives, and what it says."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.backprop_cli.commandline import CommandLine
from tests.backprop_startup.cutting import EXAMPLES, ROOT, cut, events, path_with, with_environment

TRAINS = """
    import torch
    model = torch.nn.Linear(4, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for step in range(20):
        optimizer.zero_grad()
        model(torch.ones(2, 4)).sum().backward()
        optimizer.step()
    print("trained")
"""


def _module(folder: Path, name: str, text: str) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / f"{name}.py").write_text(text)
    return folder


def test_an_existing_sitecustomize_still_runs_and_the_path_is_as_without_us(backprop: CommandLine) -> None:
    """The user's own start-up code runs once, and `sys.path` holds nothing of ours."""
    own = _module(backprop.folder / "own", "sitecustomize", "import builtins; builtins.OWN = 'mine'")
    with_environment(backprop, PYTHONPATH=path_with(own))
    text = "import builtins, sys; print(builtins.OWN, sys.modules['sitecustomize'].__file__); print(sys.path[1:])"
    script = backprop.script(text)
    alone = subprocess.run(
        [sys.executable, str(script)], env=backprop.environment, capture_output=True, text=True, check=True
    )
    boxed = backprop("run", str(script))
    assert boxed.stdout == alone.stdout
    assert "mine" in boxed.stdout


@pytest.mark.parametrize(
    "place",
    [
        "backprop_core.loop.script_training.ScriptTraining._begin",
        pytest.param("backprop_core.loop.unmodified_loop.AttachedBox.watch", marks=pytest.mark.faults),
        pytest.param("backprop_torch.training_watch.wait_for_training", marks=pytest.mark.faults),
    ],
)
def test_a_broken_hook_never_fails_a_script(backprop: CommandLine, place: str) -> None:
    """An exception inside our code is one line on standard error; the script trains on and ends with status 0."""
    module, _, name = place.rpartition(".")
    owner, _, holder = (module, "", "") if "training_watch" in place else module.rpartition(".")
    target = f"m.{holder}.{name}" if holder else f"m.{name}"
    breaks = f"import importlib; m = importlib.import_module({owner!r})\ndef broken(*a, **k): raise RuntimeError('broken')\n"
    if "training_watch" in place:
        breaks = (
            "import importlib.util, sys, types\nm = types.ModuleType('backprop_torch.training_watch')\n"
            "def broken(*a, **k): raise RuntimeError('broken')\nsys.modules['backprop_torch.training_watch'] = m\n"
        )
    own = _module(backprop.folder / "own", "sitecustomize", f"{breaks}{target} = broken\n")
    with_environment(backprop, PYTHONPATH=path_with(own))
    backprop.script(TRAINS)
    counted = "script_training" in place
    done = backprop("run", "train.py", *([] if counted else ["--no-rewrite"]))
    assert done.returncode == 0, done.stderr
    assert done.stdout == "trained\n"
    what = "the script's loops" if counted else "pytorch"
    assert f"could not attach to {what}: RuntimeError: broken" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.long
def test_a_missing_adapter_never_fails_a_script(backprop: CommandLine) -> None:
    """A package of ours that cannot be imported leaves the script governed from outside."""
    own = _module(
        backprop.folder / "own",
        "sitecustomize",
        "import sys; sys.modules['backprop_torch.training_watch'] = None\n",
    )
    with_environment(backprop, PYTHONPATH=path_with(own))
    backprop.script(TRAINS)
    done = backprop("run", "train.py")
    assert (done.returncode, done.stdout) == (0, "trained\n")
    assert "governed from outside" in done.stderr


def test_framework_none_leaves_the_script_alone(backprop: CommandLine) -> None:
    """`-f none` attaches nothing: no session, and no start-up hook on the import path."""
    backprop.script(TRAINS + "\n    import os; print(os.environ.get('PYTHONPATH'))")
    done = backprop("run", "train.py", "-f", "none", "--run-id", "none")
    assert done.stdout == "trained\nNone\n"
    assert events(backprop, "none") == []


@pytest.mark.long
def test_another_framework_by_force_is_not_attached_to_this_one(backprop: CommandLine) -> None:
    """`-f keras` on a plain PyTorch script attaches nothing to PyTorch."""
    backprop.script(TRAINS)
    assert backprop("run", "train.py", "-f", "keras", "--run-id", "other").returncode == 0
    assert events(backprop, "other") == []


def test_a_script_with_its_own_box_is_not_given_a_second_one(backprop: CommandLine) -> None:
    """One session, the script's own, although its loop would have been attached to."""
    own = TRAINS.replace("import torch", "import torch, backprop", 1).replace(
        "    for step in range(20):",
        "    for step in backprop.timebox(model=model, optimizer=optimizer).__enter__().steps(20):",
    )
    backprop.script(own)
    done = backprop("run", "train.py", "--run-id", "own")
    assert done.returncode == 0, done.stderr
    started = [e for e in events(backprop, "own") if e["kind"] == "session_started"]
    assert [e["attached"] for e in started] == [False]
    assert "the script imports backprop, so it has its own time box" in done.stderr


@pytest.mark.long
def test_loader_workers_and_children_that_do_not_train_stay_alone(backprop: CommandLine) -> None:
    """Workers and a child that only computes open no session; the one that trains has it."""
    backprop.script(
        """
        import multiprocessing, subprocess, sys, torch
        from torch.utils.data import DataLoader

        def main():
            subprocess.run([sys.executable, "-c", "import torch; print(torch.ones(1).item())"], check=True)
            loader = DataLoader(torch.arange(40.0).reshape(20, 2), batch_size=4, num_workers=2,
                                multiprocessing_context="spawn")
            model = torch.nn.Linear(2, 1)
            optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
            for x in loader:
                optimizer.zero_grad()
                model(x).sum().backward()
                optimizer.step()

        if __name__ == "__main__":
            main()
        """
    )
    done = backprop("run", "train.py", "--run-id", "workers", timeout=240)
    assert done.returncode == 0, done.stderr
    kinds = [e["kind"] for e in events(backprop, "workers")]
    assert (kinds.count("session_started"), kinds.count("session_finished")) == (1, 1)
    assert done.stderr.count("attached to a PyTorch loop, starting from scratch") == 1


def test_an_interpreter_without_backprop_is_governed_from_outside(
    backprop: CommandLine, tmp_path: Path
) -> None:
    """It is said, with the command that would give more, and the script runs."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(tmp_path / "bare")], check=True)
    backprop.script("import sys; print(sys.prefix)")
    done = backprop("run", "train.py", "--python", str(tmp_path / "bare" / "bin" / "python"))
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{tmp_path / 'bare'}\n"
    assert "has no backprop" in done.stderr
    assert "pip install backprop-timebox" in done.stderr


@pytest.mark.long
def test_another_model_than_the_saved_one_is_refused_in_one_sentence(backprop: CommandLine) -> None:
    """A resume that does not fit ends with status 1 and no traceback; nothing is restored, nothing trained."""
    text = (EXAMPLES / "digits_torch.py").read_text()
    script = backprop.script(text)
    cut(backprop, "cut", script, "--epochs", "3", "--pause", "0.02")
    backprop.script(text.replace("nn.Linear(64, 128)", "nn.Linear(64, 96)").replace("(128", "(96"))
    done = backprop("resume", "cut", "-m", "5", timeout=240)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "epoch" not in done.stdout
    assert "does not fit" in done.stderr
    assert backprop.record("cut")["status"] == "failed"


def test_without_backprop_run_nothing_is_attached() -> None:
    """An ordinary process with torch, Lightning's factory and the hook loads nothing of the core but names of variables."""
    code = (
        "import torch, sys, backprop_lightning.attach as lightning, backprop_startup.hook as hook\n"
        "hook.install(); assert lightning.callbacks() == []\n"
        "print([m for m in sys.modules if m.startswith('backprop_core.') and m != 'backprop_core.contract'])\n"
        "print([f for f in sys.meta_path if 'backprop' in repr(f)])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n[]\n"
