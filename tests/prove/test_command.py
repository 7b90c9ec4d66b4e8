"""`backprop prove`, the real command on real scripts."""

from __future__ import annotations

import json
import signal
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from backprop_core.prove.ask import ProofFailedError
from backprop_core.prove.verdict import Proof, ProofVerdict
from backprop_core.runs.locks import is_locked
from tests.backprop_cli.commandline import DEADLINE_S, CommandLine, end, gone, number_in, wait_for

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


def test_a_script_that_is_not_reproducible_is_told_so(
    backprop: CommandLine, prove: Callable[..., Proof]
) -> None:
    """A generator that nobody seeds is the script's own matter: exit status 3, the usual cause; as an assertion it fails."""
    script = backprop.script(_NUMPY.replace("default_rng(0)", "default_rng()"))
    with pytest.raises(AssertionError, match=r"not reproducible.*seed") as failed:
        prove(script.name, steps=8, cwd=backprop.folder, environ=backprop.environment)
    assert isinstance(failed.value, ProofFailedError)
    assert (failed.value.proof.verdict, failed.value.proof.exit_status) == (ProofVerdict.NOT_REPRODUCIBLE, 3)


@pytest.mark.long
def test_a_script_elsewhere_with_arguments_and_a_configuration_is_proven(
    backprop: CommandLine, tmp_path: Path, prove: Callable[..., Proof]
) -> None:
    """From Python: a script and a file beside the working directory; what the configuration has started at an end is not."""
    (tmp_path / "beside").mkdir()
    (tmp_path / "beside" / "train.py").write_text(
        textwrap.dedent(_NUMPY)
        .replace("range(4)", "range(int(open(sys.argv[1]).read()))")
        .replace("import numpy", "import numpy, sys")
    )
    (tmp_path / "beside" / "epochs").write_text("2")
    command = f"touch {tmp_path}/told"
    (backprop.folder / ".backprop.json").write_text(json.dumps({"onEnd": command, "timeboxedExitCode": 9}))
    words = ("../beside/train.py", "../beside/epochs")
    told = prove(*words, steps=20, cuts=2, cwd=backprop.folder, environ=backprop.environment)
    assert (told.verdict, told.steps) == (ProofVerdict.IDENTICAL, 16)
    assert told.notes[0] == "The training ended after 16 steps; 20 were asked for."
    assert not (tmp_path / "told").exists()


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


_STAYS = """
    import numpy, os, time
    weights = numpy.zeros(4)
    for epoch in range(2):
        for start in range(4):
            weights -= 0.1 * (weights - start)
            if os.environ["BACKPROP_ATTEMPT"] == "2":
                open("started", "w").write(str(os.getpid()))
                time.sleep(600)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, pytest.param(signal.SIGKILL, marks=pytest.mark.long)])
def test_an_interrupted_proof_leaves_no_training_behind(
    backprop: CommandLine, tmp_path: Path, number: signal.Signals
) -> None:
    """A resumed script ends with its proof, also where that is killed; then the next proof removes the folder."""
    script, broken = backprop.script(_STAYS), backprop.script("raise SystemExit(1)", "broken.py")
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    backprop.environment["TMPDIR"] = str(temporary)
    child = backprop.start("prove", script.name, "--steps", "8")
    try:
        pid = wait_for(lambda: next(filter(None, map(number_in, temporary.glob("*/work/started"))), None))
        child.send_signal(number)
        child.communicate(timeout=DEADLINE_S)
    finally:
        end(child)
    wait_for(lambda: gone(pid))
    if number is signal.SIGKILL:
        left = next(temporary.iterdir())
        wait_for(lambda: not is_locked(left / "lock"))
        assert str(left) in backprop("prove", broken.name).stderr
    assert not list(temporary.iterdir())


_RACE = """
    import torch
    from torch import nn
    torch.set_num_threads(2)
    torch.manual_seed(0)
    model = nn.Linear(1000, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    places = torch.randint(0, 1000, (400_000,))
    values = torch.arange(400_000, dtype=torch.float32) / 400_000
    for step in range(20):
        inputs = torch.zeros(1000).put_(places, values)
        loss = model(inputs).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
"""


@pytest.mark.faults
def test_an_operation_that_is_not_deterministic_is_named(backprop: CommandLine) -> None:
    """Threads that write to one place race; a third run has PyTorch refuse the operation, and what it says is passed on."""
    script = backprop.script(_RACE)
    told = proven(backprop, script.name, "--steps", "8")
    assert (told["verdict"], told["exit_status"]) == ("not_reproducible", 3), told
    assert told["group"] != "random generators"
    assert "put_ does not have a deterministic implementation" in told["mend"], told


@pytest.mark.faults
@pytest.mark.parametrize("static_graph", [False, True])
def test_several_processes_are_proven_over_a_kill(backprop: CommandLine, *, static_graph: bool) -> None:
    """torchrun ends with a status of its own when one of its processes is killed: that is the cut, and no failure.

    What DistributedDataParallel notes of its reducer is the process's own: with a static graph, a new one that is taken for
    one that has seen its first step never adds up the gradients of that step.
    """
    text = (Path(__file__).parent / "faulty" / "train_ranks.py").read_text()
    model = "nn.Linear(16, 2))"
    assert model in text
    script = backprop.script(text.replace(model, f"{model}, static_graph={static_graph}"))
    torchrun = str(Path(sys.executable).with_name("torchrun"))
    words = ("--standalone", "--nproc-per-node", "2", script.name)
    told = proven(backprop, "--exec", torchrun, "--steps", "8", "--cuts", "2", "--", *words)
    assert told["verdict"] == "identical", told
    assert any(text.startswith("by SIGKILL") for text in told["cuts"])
    assert {"parameters", "batches", "random generators"} <= {row["group"] for row in told["rows"]}


@pytest.mark.faults
@pytest.mark.timeout(900)
def test_processes_that_each_hold_a_part_of_the_model_are_proven(backprop: CommandLine) -> None:
    """With FSDP2 each compares its own blocks of weights and moments, which were not read at all.

    What torch hangs on a module under a name that each process draws anew was taken for the script's.
    """
    script = Path(__file__).parents[1] / "sudden_death" / "sharded_script.py"
    copied = backprop.script(script.read_text())
    torchrun = str(Path(sys.executable).with_name("torchrun"))
    words = ("--standalone", "--nproc-per-node", "2", copied.name, "fsdp")
    told = proven(backprop, "--exec", torchrun, "--steps", "12", "--cuts", "2", "--", *words)
    assert told["verdict"] == "identical", told
    rows = {row["group"]: row["pieces"] for row in told["rows"]}
    assert rows["parameters"] >= 4, told
    assert rows["optimizer state"] >= 8, told
    assert "cannot read" not in json.dumps(told), told
