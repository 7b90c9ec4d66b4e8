"""A script whose loader gives other batches when it is resumed."""

from __future__ import annotations

import pytest

from tests.backprop_cli.commandline import CommandLine, end, wait_for

SCRIPT = """
    import time, torch
    from pathlib import Path
    from torch.utils.data import DataLoader, TensorDataset

    size = int(Path("size").read_text())
    model = torch.nn.Linear(1, 1)
    optimizer = torch.optim.SGD(model.parameters(), 0.01)
    for (x,) in DataLoader(TensorDataset(torch.zeros(800, 1)), batch_size=size):
        optimizer.zero_grad()
        model(x).sum().backward()
        optimizer.step()
        with open("trace", "a") as trace:
            trace.write("step\\n")
        time.sleep(0.05)
"""


@pytest.mark.long
def test_another_batch_size_is_refused(backprop: CommandLine) -> None:
    """A place is a number of batches: with batches of another size it would be another place, and nothing is trained."""
    backprop.script(SCRIPT)
    trace = backprop.folder / "trace"
    (backprop.folder / "size").write_text("4")
    child = backprop.start("run", "-m", "5", "--run-id", "cut", "train.py")
    try:
        wait_for(lambda: child.poll() is not None or (trace.exists() and trace.stat().st_size > 50), 180)
        assert backprop("stop", "cut", timeout=120).returncode == 0
        out, err = child.communicate(timeout=180)
    finally:
        end(child)
    assert child.returncode == 0, out + err
    before = trace.read_text()
    (backprop.folder / "size").write_text("8")
    again = backprop("resume", "cut", "-m", "5", timeout=180)
    assert again.returncode == 1, again.stderr
    assert "yields batches of 8, but yielded batches of 4" in again.stderr
    assert trace.read_text() == before
