"""torchrun's own restart of workers inside an attempt."""

from __future__ import annotations

import sys

import pytest

from tests.backprop_cli.commandline import CommandLine
from tests.backprop_startup.cutting import with_environment


@pytest.mark.faults
@pytest.mark.timeout(300)
def test_a_plain_loop_that_torchrun_starts_again_goes_on_from_the_newest_checkpoint(
    backprop: CommandLine,
) -> None:
    """The worker dies behind step 60 with an earlier one saved: the next goes on there, and its log has each step once."""
    with_environment(backprop, OMP_NUM_THREADS="1")
    backprop.script(
        """
        import os, time, torch
        from pathlib import Path
        model = torch.nn.Linear(2, 1)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        first = os.environ["TORCHELASTIC_RESTART_COUNT"] == "0"
        steps = 0
        for step in range(80):
            optimizer.zero_grad()
            model(torch.ones(2)).sum().backward()
            optimizer.step()
            steps += 1
            with open("log", "a") as log:
                log.write(f"{step} {steps}\\n")
            saved = list((Path(os.environ["BACKPROP_CHECKPOINT_DIR"])).glob("step-*[1-9]"))
            while first and step == 60 and not saved:
                time.sleep(0.05)
                saved = list((Path(os.environ["BACKPROP_CHECKPOINT_DIR"])).glob("step-*[1-9]"))
            if first and step == 60:
                os._exit(9)
            time.sleep(0.05)
        """
    )
    words = ["-m", "torch.distributed.run", "--nproc-per-node", "1", "--max-restarts", "1", "train.py"]
    done = backprop(
        "run", "-m", "4", "-c", "1s", "--run-id", "again", "--exec", sys.executable, "--", *words, timeout=240
    )
    assert done.returncode == 0, done.stderr
    assert (backprop.folder / "log").read_text() == "".join(f"{step} {step + 1}\n" for step in range(80))
    assert len(backprop.record("again")["attempts"]) == 1


@pytest.mark.faults
@pytest.mark.timeout(300)
def test_a_worker_that_torchrun_starts_again_goes_on_from_the_newest_checkpoint(
    backprop: CommandLine,
) -> None:
    """The worker dies behind step 130 with step 121 saved: the next one goes on there, in the same attempt and box."""
    with_environment(backprop, OMP_NUM_THREADS="1")
    backprop.script(
        """
        import os
        import backprop
        first = os.environ["TORCHELASTIC_RESTART_COUNT"] == "0"
        seen = []
        with backprop.timebox(seen=seen) as box:
            session = box._inside().loops.session
            for step in box.steps(200):
                seen.append(step)
                session.wake = 0.0
                session.requests.save_asked |= first and step == 120
                if first and step == 130:
                    session.saver.wait()
                    os._exit(9)
        print("whole", seen == list(range(200)), box.resumed_from, flush=True)
        """
    )
    words = ["-m", "torch.distributed.run", "--nproc-per-node", "1", "--max-restarts", "1", "train.py"]
    done = backprop(
        "run", "-m", "4", "--run-id", "again", "--exec", sys.executable, "--", *words, timeout=240
    )
    assert done.returncode == 0, done.stderr
    assert "whole True" in done.stdout
    assert "step-000000000121" in done.stdout
    assert len(backprop.record("again")["attempts"]) == 1
