"""Plain PyTorch loops of every shape that people write, attached to from outside, cut and resumed in fresh processes."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.backprop_cli.commandline import CommandLine
from tests.backprop_startup.cutting import cut, events, resumed, whole

NO_REWRITE = ("--no-rewrite",)
"""These loops are watched from outside; test_counted_loops.py has them counted."""
SHAPES = Path(__file__).with_name("plain_loops.py")


def _trace(backprop: CommandLine, name: str) -> list[str]:
    return (backprop.folder / name).read_text().splitlines()


@pytest.mark.parametrize(
    "shape",
    [
        pytest.param("critic_first", marks=pytest.mark.faults),
        *(
            pytest.param(shape, marks=pytest.mark.faults)
            for shape in (
                "accelerated",
                "accumulation",
                "scaler",
                "closure",
                "compiled",
                "inside_a_function",
                "looked_at_first",
                "mean_from_a_file",
                "two_at_once",
                "two_loaders",
            )
        ),
    ],
)
def test_every_shape_goes_on_with_the_same_bits(backprop: CommandLine, shape: str) -> None:
    """After the resume each further optimizer step leaves the weights that it leaves in the uncut run."""
    assert whole(backprop, SHAPES, shape, "whole", "0").returncode == 0
    cut(backprop, "cut", SHAPES, shape, "cut", "0.04", options=NO_REWRITE)
    steps = len(_trace(backprop, "cut"))
    resumed(backprop, "cut")
    theirs, ours = _trace(backprop, "whole"), _trace(backprop, "cut")
    assert 0 < steps < len(theirs)
    if shape in ("inside_a_function", "mean_from_a_file"):
        # the first step finds nothing to restore to, or is taken for one before the training: it is taken back
        del ours[steps]
    common = min(len(theirs), len(ours))
    assert common > steps
    assert ours[:common] == theirs[:common]


@pytest.mark.long
def test_a_script_that_restores_itself_is_not_restored_a_second_time(backprop: CommandLine) -> None:
    """With --resume-flag the script gets its own announced checkpoint, and the session that we attach restores nothing."""
    backprop.script(
        """
        import json, sys, torch
        model = torch.nn.Linear(2, 1)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        if "--resume" in sys.argv:
            model.load_state_dict(torch.load(sys.argv[sys.argv.index("--resume") + 1]))
            print("own", model.weight.sum().item())
        with torch.no_grad():
            model.weight.fill_(0.25)
        torch.save(model.state_dict(), "own.pt")
        print(json.dumps({"event": "checkpoint_saved", "path": "own.pt"}), flush=True)
        for step in range(10):
            optimizer.zero_grad()
            model(torch.ones(1, 2)).sum().backward()
            optimizer.step()
        if "--resume" not in sys.argv:
            sys.exit(3)
        """
    )
    assert backprop("run", "train.py", "--run-id", "own", "--resume-flag", "--resume").returncode == 3
    assert any(e["kind"] == "session_started" for e in events(backprop, "own"))
    done = backprop("resume", "own")
    assert done.returncode == 0, done.stderr
    assert "own 0.5" in done.stdout
    kinds = [e["kind"] for e in events(backprop, "own", 2)]
    assert "session_started" in kinds
    assert "checkpoint_restored" not in kinds


@pytest.mark.faults
@pytest.mark.parametrize("shape", ["teacher_and_student", "fine_tuning"])
def test_a_second_training_in_one_process_is_saved_and_goes_on(backprop: CommandLine, shape: str) -> None:
    """Cut in the second training: the first runs again with the same bits, the second goes on where it was cut."""
    assert whole(backprop, SHAPES, shape, "whole", "0").returncode == 0
    theirs = _trace(backprop, "whole")
    first = 3 * 30
    cut(
        backprop,
        "cut",
        SHAPES,
        shape,
        "cut",
        "0.03",
        when=lambda: len(_trace(backprop, "cut")) > first + 20,
        options=NO_REWRITE,
    )
    steps = len(_trace(backprop, "cut"))
    assert first < steps < len(theirs)
    done = resumed(backprop, "cut")
    assert "runs again first" in done.stderr
    again = _trace(backprop, "cut")[steps:]
    assert again[:first] == theirs[:first]
    on = again[
        first + 1 :
    ]  # the first step of the second training has no effect: its state comes back behind it
    common = min(len(on), len(theirs) - steps)
    assert common > 0
    assert on[:common] == theirs[steps : steps + common]
