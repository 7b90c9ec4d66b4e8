"""The files that a script writes are, behind a resume, what they are without a cut: every row once."""

from __future__ import annotations

import os
import signal
import struct
import subprocess
import sys
from pathlib import Path

import pytest
from tensorboard.compat.proto.event_pb2 import Event

from tests.backprop_cli.commandline import CommandLine, end, number_in, wait_for
from tests.backprop_startup.cutting import cut, events, resumed

SCRIPT = Path(__file__).with_name("written_files.py")
STEPS = "400"
FILES = ("held.csv", "appended.csv", "out/train.log", "best.npy", "late.txt")


def _uncut(backprop: CommandLine) -> dict[str, bytes]:
    folder = backprop.folder / "uncut"
    folder.mkdir()
    subprocess.run(
        [sys.executable, str(SCRIPT), "0", STEPS],
        cwd=folder,
        check=True,
        timeout=240,
        env=backprop.environment,
    )
    return {name: (folder / name).read_bytes() for name in FILES}


def _steps_of_events(folder: Path) -> list[int]:
    found = []
    for path in sorted(folder.iterdir()):
        content, at = path.read_bytes(), 0
        while at < len(content):  # its length, a checksum, the event, another checksum
            (length,) = struct.unpack_from("<Q", content, at)
            event = Event.FromString(content[at + 12 : at + 12 + length])
            found += [event.step] * event.HasField("summary")
            at += length + 16
    return found


def _killed(backprop: CommandLine, command: list[str], attempt: int, after: int) -> str:
    """Kill the training without a word, some steps behind a checkpoint of this attempt."""
    child = backprop.start(*command)
    try:
        seen = backprop.folder / "seen"

        def saved() -> bool:
            assert child.poll() is None, child.communicate()
            step = number_in(seen) or 0
            made = [e["step"] for e in events(backprop, "cut", attempt) if e["kind"] == "checkpoint_saved"]
            return step > after and any(0 < at < step - 3 for at in made[-1:])

        wait_for(saved)
        pid = backprop.record("cut")["attempts"][-1]["process"]["pid"]
        os.kill(pid, signal.SIGKILL)
        return child.communicate(timeout=240)[1]
    finally:
        end(child)


def test_every_row_comes_once_though_the_training_was_killed_twice(backprop: CommandLine) -> None:
    """Logs that are appended to, held open, opened with "w" at the top, removed at the top; event files; a best model."""
    theirs = _uncut(backprop)
    _killed(
        backprop, ["run", "-m", "5", "-c", "1s", "--run-id", "cut", str(SCRIPT), "--", "0.02", STEPS], 1, 60
    )
    said = _killed(backprop, ["resume", "cut", "-m", "5", "-c", "1s"], 2, 160)
    assert said.count("Rewound to their state at the checkpoint") == 1
    done = backprop("resume", "cut", "-m", "5")
    assert done.returncode == 0, done.stderr
    ours = {name: (backprop.folder / name).read_bytes() for name in FILES}
    for name in FILES:
        assert ours[name] == theirs[name], (name, done.stderr)
    assert _steps_of_events(backprop.folder / "events") == list(range(int(STEPS)))
    assert "could not" not in done.stderr


@pytest.mark.long  # TensorFlow is imported four times
def test_event_files_that_tensorflow_opens_in_c_have_every_row_once(backprop: CommandLine) -> None:
    """Where TensorFlow is installed TensorBoard writes through it; the training is killed twice behind a checkpoint."""
    backprop.script(
        """
        import time, numpy as np
        from pathlib import Path
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.compat.proto.summary_pb2 import Summary
        from tensorboard.summary.writer.event_file_writer import EventFileWriter, tf
        assert tf.__version__ != "stub"
        events = EventFileWriter("events")
        w = np.zeros(3)
        for step in range(300):
            w -= 0.1 * (w - step)
            events.add_event(Event(step=step, summary=Summary(value=[Summary.Value(tag="w", simple_value=w[0])])))
            events.flush()
            Path("seen").write_text(str(step))
            time.sleep(0.02)
        events.close()
        """
    )
    _killed(backprop, ["run", "-m", "9", "-c", "1s", "--run-id", "cut", "train.py"], 1, 60)
    _killed(backprop, ["resume", "cut", "-m", "9", "-c", "1s"], 2, 160)
    done = backprop("resume", "cut", "-m", "9")
    assert done.returncode == 0, done.stderr
    assert sorted(_steps_of_events(backprop.folder / "events")) == list(range(300)), done.stderr


@pytest.mark.long
def test_a_model_that_torch_saves_before_the_loop_is_the_best_again(backprop: CommandLine) -> None:
    """torch.save opens its file in C: what the top of the script saves on the way back is not what stays."""
    backprop.script(
        """
        import time, torch
        model = torch.nn.Linear(2, 1)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        torch.save({"best": None}, "best.pt")
        for step in range(30):
            optimizer.zero_grad()
            model(torch.ones(2)).sum().backward()
            optimizer.step()
            if step == 3:
                torch.save({"best": step}, "best.pt")
            print(step, flush=True)
            time.sleep(0.1)
        assert torch.save.__module__ == "torch.serialization"
        print(torch.load("best.pt"))
        """
    )

    def is_behind_the_best() -> bool:
        output = backprop.attempt_dir("cut") / "output.log"
        return output.exists() and "6\n" in output.read_text()

    cut(backprop, "cut", backprop.folder / "train.py", when=is_behind_the_best)
    done = resumed(backprop, "cut")
    assert done.stdout.splitlines()[-1] == "{'best': 3}", done.stderr
