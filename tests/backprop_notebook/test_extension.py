"""`%%timebox` in a kernel: cut cells go on exactly, completed ones run again, mistakes are told in a sentence."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, DeadKernelError

from backprop_core.clock import SYSTEM
from backprop_core.errors import BackpropError, UsageError
from backprop_notebook.extension import MagicLine, parse_line
from backprop_notebook.hosts import host_of

SETUP = """
import hashlib, os, signal, time, torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
torch.manual_seed(0)
generator = torch.Generator().manual_seed(1)
data = TensorDataset(torch.randn(160, 6, generator=generator), torch.randint(0, 3, (160,), generator=generator))
loader = DataLoader(data, batch_size=4, shuffle=True)
model = nn.Sequential(nn.Linear(6, 16), nn.Tanh(), nn.Linear(16, 3))
optimizer = torch.optim.Adam(model.parameters())
losses = []

def train_epoch():
    for x, y in loader:
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
        time.sleep(pause)
        if cuts and len(losses) == cuts[0]:
            os.kill(os.getpid(), cut_by)
cuts, cut_by, pause = [], signal.SIGTERM, 0.0
"""
TRAIN = """%%timebox 10m --run {run}
for epoch in range(4):
    train_epoch()
epoch"""
DIGEST = """
weights = b"".join(value.numpy().tobytes() for value in model.state_dict().values())
print("DIGEST", len(losses), hashlib.sha256(weights + repr(losses).encode()).hexdigest())"""


def _notebook(*cells: str) -> Any:
    return nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])


def _execute(notebook: Any) -> list[str]:
    """What each cell put out, as text."""
    NotebookClient(notebook, timeout=300, kernel_name="python3").execute()
    return [_text(cell) for cell in notebook.cells]


def _text(cell: Any) -> str:
    return "".join(
        str(o.get("text", o.get("data", {}).get("text/plain", ""))) for o in cell.get("outputs", ())
    )


def _digest(text: str) -> str:
    return next(line for line in text.splitlines() if line.startswith("DIGEST"))


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BACKPROP_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("BACKPROP_GRACE_S", "0")
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))


@pytest.mark.faults
def test_a_cut_cell_goes_on_exactly_in_the_same_kernel_and_a_completed_one_runs_again() -> None:
    """Cut inside a function of an earlier cell, run again: the bits of one never cut. Then a rerun, and a mistake."""
    cut, whole, wrong = TRAIN.format(run="cut"), TRAIN.format(run="whole"), "%%timebox soon\npass"
    cells = ["%load_ext backprop", SETUP, "cuts = [70]", cut, "cuts = []", cut, DIGEST]
    notebook = _notebook(*cells, SETUP, whole, DIGEST, SETUP, whole, DIGEST, wrong)
    with pytest.raises(CellExecutionError, match="cannot be read as a duration"):
        _execute(notebook)
    told = [_text(cell) for cell in notebook.cells]
    assert "Run the cell again to continue" in told[3]
    assert "resumed from step" in told[5]
    assert "completed" in told[5]
    assert _digest(told[6]) == _digest(told[9])
    assert "It trains from scratch" in told[11]
    assert _digest(told[12]) == _digest(told[9])
    assert "Traceback" not in "".join(told)


@pytest.mark.faults
def test_a_kernel_that_dies_goes_on_in_a_new_one() -> None:
    """SIGKILL inside the training: the next kernel resumes, to the same bits as a training that was never cut."""
    train = TRAIN.format(run="killed").replace("10m", "10m --checkpoint-every 1s")
    slow = "cuts, cut_by, pause = [110], signal.SIGKILL, 0.04"  # a checkpoint is due long before the kill
    dying = _notebook("%load_ext backprop", SETUP, slow, train)
    with pytest.raises(DeadKernelError):
        _execute(dying)
    told = _execute(
        _notebook("%load_ext backprop", SETUP, train, DIGEST, SETUP, TRAIN.format(run="whole"), DIGEST)
    )
    assert "resumed from step" in told[2]
    assert _digest(told[3]) == _digest(told[6])


@pytest.mark.faults
@pytest.mark.parametrize("name", ["digits", "budget_schedule"])
def test_the_example_notebooks_run(name: str) -> None:
    """Each example completes from top to bottom in a fresh kernel."""
    path = Path(__file__).parents[2] / "examples" / "notebooks" / f"{name}.ipynb"
    told = _execute(nbformat.read(path, as_version=4))
    assert "backprop: run " in "".join(told)


@pytest.mark.parametrize("line", ["soon", "5m 6m", "5m --run", "5m --colour red", "'5m"])
def test_a_line_that_cannot_be_read_is_told(line: str) -> None:
    """A mistake in the magic's line is a sentence with what to write."""
    with pytest.raises(BackpropError):
        parse_line(line)


def test_the_line_is_read() -> None:
    """Budget and options, in any order."""
    assert parse_line("") == MagicLine()
    assert parse_line("--fresh 5m --run a --name 'two words'") == MagicLine(
        "5m", "a", "two words", fresh=True
    )
    assert issubclass(UsageError, BackpropError)


def test_what_is_known_of_services() -> None:
    """Kaggle's limit is a deadline, unless the user has set one; Colab's is asked for; elsewhere nothing is said."""
    assert host_of({}, SYSTEM) is None
    kaggle = host_of({"KAGGLE_KERNEL_RUN_TYPE": "Batch"}, SYSTEM)
    assert kaggle is not None
    assert kaggle.ends_wall is not None
    assert kaggle.ends_wall < SYSTEM.wall() + 12 * 3600
    own = host_of({"KAGGLE_KERNEL_RUN_TYPE": "Batch", "BACKPROP_DEADLINE": "1"}, SYSTEM)
    assert own is not None
    assert own.ends_wall is None
    colab = host_of({"COLAB_RELEASE_TAG": "release"}, SYSTEM)
    assert colab is not None
    assert "BACKPROP_DEADLINE" in colab.advice[0]
