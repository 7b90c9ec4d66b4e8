"""`%%timebox` in a kernel: cut cells go on exactly, completed ones run again, mistakes are told in a sentence."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import nbformat
import pytest
from jupyter_client.manager import start_new_kernel
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, DeadKernelError

from backprop_core.clock import SYSTEM
from backprop_core.errors import BackpropError, UsageError
from backprop_notebook.extension import MagicLine, _CellSettings, parse_line
from backprop_notebook.hosts import host_of
from tests.backprop_cli.commandline import wait_for

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


@dataclass
class Told:
    """What a cell put out: text, the HTML of its displays, and the name of its error."""

    text: str = ""
    html: str = ""
    error: str | None = None


class Run(Protocol):
    def __call__(self, cell: str, interrupt_when: Callable[[], bool] | None = None) -> Told: ...


@contextlib.contextmanager
def kernel() -> Iterator[Run]:
    """A kernel that runs one cell after another, and is interrupted as Jupyter does it."""
    manager, client = start_new_kernel(kernel_name="python3")

    def run(cell: str, interrupt_when: Callable[[], bool] | None = None) -> Told:
        told = Told()

        def hear(message: dict[str, Any]) -> None:
            content = message["content"]
            told.text += content.get("text", "") + content.get("data", {}).get("text/plain", "")
            told.html += content.get("data", {}).get("text/html", "")
            told.error = content.get("ename", told.error)

        if interrupt_when is not None:
            hand = threading.Thread(target=lambda: (wait_for(interrupt_when), manager.interrupt_kernel()))
            hand.start()
        client.execute_interactive(cell, timeout=300, output_hook=hear, allow_stdin=False)
        if interrupt_when is not None:
            hand.join()
        return told

    try:
        yield run
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)


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
    assert "Resume: run=" not in told[3]  # to continue is said once, and as it is done here
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
def test_an_interrupt_from_the_keyboard_saves_and_the_cell_goes_on(tmp_path: Path) -> None:
    """What Jupyter's stop button sends, once, in the middle of a step: the cell is left without an error and its training is
    saved; run again it ends with the bits of one that nobody interrupted. The display has a bar and a curve.
    """
    begun, train = tmp_path / "begun", TRAIN.format(run="cut")
    slow = f"cuts, pause, mark = [], 0.02, {str(begun)!r}"
    telling = train.replace(
        "train_epoch()", "train_epoch()\n    loss = losses[-1]\n    open(mark, 'w').close()"
    )
    with kernel() as run:
        for cell in ("%load_ext backprop", SETUP, slow):
            run(cell)
        told = run(telling, interrupt_when=begun.exists)
        assert "Run the cell again to continue" in told.text
        assert told.error is None
        assert "<progress value=" in told.html
        again = run(telling)
        assert "resumed from step" in again.text
        assert again.error is None
        assert "<polyline" in again.html
        cut = _digest(run(DIGEST).text)
        for cell in (SETUP, "pause = 0.0", TRAIN.format(run="whole")):
            run(cell)
        assert _digest(run(DIGEST).text) == cut


PAPERS = """%%timebox 4s --run papers
for epoch in range(2):
    train_epoch()"""


@pytest.mark.faults
def test_papermill_runs_a_boxed_notebook_and_goes_on_in_the_next_run(tmp_path: Path) -> None:
    """The real papermill: the boxed cell ends in time, the cells behind it run, and a second run, in a kernel of its own,
    goes on where the first was cut, to the bits of a training that was never cut. The example runs with it, too.
    """
    cells = ["%load_ext backprop", SETUP, "pause = 0.06", PAPERS, DIGEST]
    nbformat.write(_notebook(*cells), tmp_path / "train.ipynb")
    whole = [*cells[:2], PAPERS.replace("4s --run papers", "10m --run whole"), DIGEST]
    first, second = (_papermill(tmp_path / "train.ipynb", tmp_path / name) for name in ("1.ipynb", "2.ipynb"))
    assert "Run the cell again to continue" in first[3]
    assert "resumed from step" in second[3]
    for _ in range(9):  # under load a box of four seconds trains little
        if "Run the cell again" not in second[3]:
            break
        second = _papermill(tmp_path / "train.ipynb", tmp_path / "2.ipynb")
    assert _digest(second[4]) == _digest(_execute(_notebook(*whole))[3])
    example = Path(__file__).parents[2] / "examples/notebooks/digits.ipynb"
    assert "backprop: run " in "".join(_papermill(example, tmp_path / "digits.ipynb"))


def _papermill(notebook: Path, out: Path) -> list[str]:
    """What each cell put out."""
    command = [
        sys.executable,
        "-m",
        "papermill",
        str(notebook),
        str(out),
        "-k",
        "python3",
        "--no-progress-bar",
    ]
    done = subprocess.run(command, cwd=out.parent, capture_output=True, text=True, check=False, timeout=600)
    assert done.returncode == 0, done.stderr[-3000:]
    return [_text(cell) for cell in nbformat.read(out, as_version=4).cells]


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


KAGGLE, COLAB = {"KAGGLE_KERNEL_RUN_TYPE": "Batch"}, {"COLAB_RELEASE_TAG": "release"}


@pytest.mark.parametrize(("more", "hours"), [({}, 12.0), ({"TPU_NAME": "local"}, 9.0)])
def test_the_end_of_a_kaggle_session_is_a_deadline(
    more: dict[str, str], hours: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A cell with a longer budget than the session has left must be over 5 minutes before it ends; a deadline that the user
    has set holds instead.
    """
    import psutil

    from backprop_core.deadline.budget import resolve_deadlines
    from backprop_core.deadline.scheduler import with_job_end

    for name, value in (KAGGLE | more).items():
        monkeypatch.setenv(name, value)
    began = SYSTEM.wall() - 3600.0
    monkeypatch.setattr(psutil.Process, "create_time", lambda _: began)
    asked = _CellSettings(MagicLine("20h"), "cell", SYSTEM.monotonic())

    def earliest_s() -> float:
        settings = asked.of_session("loop")
        environ = with_job_end(settings.environ)
        found = resolve_deadlines(budget=settings.budget, until=None, environ=environ, clock=SYSTEM)
        return found.earliest.at - SYSTEM.monotonic()

    assert earliest_s() == pytest.approx(hours * 3600.0 - 3600.0 - 300.0, abs=60.0)
    monkeypatch.setenv("BACKPROP_DEADLINE", str(SYSTEM.wall() + 600.0))
    assert earliest_s() == pytest.approx(600.0, abs=60.0)


def test_a_home_that_stays_is_proposed(tmp_path: Path) -> None:
    """Where the home folder is gone with the session a line names one that is not, or how to get one; nothing is said where
    the user has set one, or no service is known.
    """
    (tmp_path / "kaggle/working").mkdir(parents=True)
    proposed = f"%env BACKPROP_HOME={tmp_path}/kaggle/working/.backprop"
    assert proposed in " ".join(_advice(KAGGLE, tmp_path))
    assert _advice(KAGGLE | {"BACKPROP_HOME": "/x"}, tmp_path) == ()
    colab = _advice(COLAB, tmp_path)
    assert "%env BACKPROP_DEADLINE=" in colab[0]
    assert "drive.mount('/content/drive')" in colab[1]
    (tmp_path / "content/drive/MyDrive").mkdir(parents=True)
    assert f"%env BACKPROP_HOME={tmp_path}/content/drive/MyDrive/.backprop" in _advice(COLAB, tmp_path)[1]
    own = {"BACKPROP_HOME": "/x", "BACKPROP_DEADLINE": "2026-01-31T18:00+00:00"}
    assert _advice(COLAB | own, tmp_path) == ()
    assert host_of({}, SYSTEM, tmp_path) is None


def _advice(environ: dict[str, str], root: Path) -> tuple[str, ...]:
    host = host_of(environ, SYSTEM, root)
    assert host is not None
    return host.advice
