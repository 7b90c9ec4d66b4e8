"""A script that has never heard of us, one of whose optimizer steps is a whole training: it is saved inside."""

from __future__ import annotations

import json

import pytest

from tests.backprop_cli.commandline import CommandLine, end, wait_for

SCRIPT = """
    import json, sys, time, torch
    from torch import nn

    torch.manual_seed(0)
    x = torch.linspace(-1, 1, 64)[:, None]
    y = torch.sin(3 * x)

    def fit(fold):
        net = nn.Sequential(nn.Linear(1, 10), nn.Tanh(), nn.Linear(10, 1))
        adam = torch.optim.Adam(net.parameters(), 1e-2)
        losses = []
        for k in range(4):
            adam.zero_grad()
            loss = nn.functional.mse_loss(net(x), y)
            loss.backward()
            adam.step()
            losses.append(loss.item())
        print("adam", fold, loss.item())
        lbfgs = torch.optim.LBFGS(net.parameters(), max_iter=70, line_search_fn="strong_wolfe")
        calls = 0

        def closure():
            nonlocal calls
            calls += 1
            lbfgs.zero_grad()
            total = 0.0
            for a, b in zip(x.split(32), y.split(32)):
                loss = nn.functional.mse_loss(net(a), b) / 2
                loss.backward()
                total += loss.item()
            with open("trace", "a") as trace:
                trace.write(json.dumps([fold, calls, total]) + "\\n")
            time.sleep(float(sys.argv[1]) if fold else 0)
            return torch.tensor(total)

        losses.append(lbfgs.step(closure).item())
        print("fold", fold, len(losses))

    for fold in range(2):
        fit(fold)
"""


@pytest.mark.long
def test_a_step_that_is_the_whole_training_is_saved_inside(backprop: CommandLine) -> None:
    """It begins anew at the lowest loss that was saved, in its own loops, with all variables as they were before it."""
    backprop.script(SCRIPT)
    trace = backprop.folder / "trace"

    def calls() -> list[list[float]]:
        lines = trace.read_text().splitlines() if trace.exists() else []
        return [call for call in map(json.loads, lines) if call[0] == 1]

    child = backprop.start("run", "-m", "5", "--run-id", "cut", "train.py", "--", "0.05")
    try:
        wait_for(lambda: child.poll() is not None or len(calls()) >= 45, 180)
        assert child.poll() is None, child.communicate()
        assert backprop("stop", "cut", timeout=120).returncode == 0
        out, err = child.communicate(timeout=180)
    finally:
        end(child)
    assert child.returncode == 0, out + err
    assert "repeats this step" in err
    before = calls()
    again = backprop("resume", "cut", "-m", "5", timeout=180)
    assert again.returncode == 0, again.stderr
    assert "Not restored" not in again.stderr
    assert backprop.record("cut")["status"] == "completed"
    first = calls()[len(before)]
    assert first[1] == 1, "the count of evaluations is the one from before the step"
    assert first[2] in [loss for _, _, loss in before[29:]]
    assert first[2] <= min(loss for _, _, loss in before[:29])
    assert "fold 0" not in again.stdout
    assert again.stdout.splitlines()[-1] == "fold 1 5"
    assert [line for line in out.splitlines() if line.startswith("adam 1")] == again.stdout.splitlines()[:1]
