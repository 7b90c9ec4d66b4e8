"""--checkpoint-glob while the run goes on: complete files are remembered at once, half-written ones are told apart."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from backprop_cli.matching import Matches
from backprop_core.outcome import Outcome
from backprop_core.runs.record import RunRecord, with_doubtful_checkpoint
from backprop_core.testing.clock import FakeClock
from tests.backprop_cli.commandline import CommandLine, end, wait_for


class Folder:
    """A folder whose files get their times from the fake clock, and a watch over `*.pt` in it."""

    def __init__(self, root: Path) -> None:
        self.root, self.clock, self.open = root, FakeClock(), set[str]()
        self.matches = Matches(root, "*.pt", self.clock.wall(), self.clock, lambda: self.open)

    def write(self, name: str, text: str) -> str:
        path = self.root / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        os.utime(path, (self.clock.wall(), self.clock.wall()))
        return str(path)

    def look(self, after_s: float = 1.0) -> list[str]:
        self.clock.sleep(after_s)
        return [Path(path).name for path in self.matches.look()]


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path.resolve())


def test_a_file_is_told_once_when_it_has_been_quiet(folder: Folder) -> None:
    """Seen twice unchanged and two seconds old: complete. Not before, and not again."""
    folder.write("a.pt", "x")
    assert [folder.look(0.5), folder.look(), folder.look(), folder.look(), folder.look()] == [
        [],
        [],
        ["a.pt"],
        [],
        [],
    ]


def test_a_file_that_grows_is_not_complete(folder: Folder) -> None:
    """Each change starts the wait anew; a rewritten file is told a second time."""
    for size in range(1, 6):
        folder.write("a.pt", "x" * size)
        assert folder.look() == []
    assert (folder.look(), folder.look()) == (["a.pt"], [])
    folder.write("a.pt", "again")
    assert [folder.look(), folder.look()] == [[], ["a.pt"]]


def test_a_slow_writer_that_holds_the_file_open_is_waited_for(folder: Folder) -> None:
    """Quiet but open for writing is not complete; a file inside a folder counts for the folder."""
    path = folder.write("a.pt", "x")
    folder.write("b.pt/model", "x")
    folder.open = {path, str(folder.root / "b.pt" / "model")}
    assert [folder.look(3), folder.look(3)] == [[], []]
    folder.open = {path}
    assert folder.look() == ["b.pt"]
    assert folder.matches.at_end(killed=True) == ([path], [str(folder.root / "b.pt")])


def test_a_file_from_a_machine_with_another_clock_is_complete_after_two_seconds(folder: Folder) -> None:
    """A time of writing in the future does not keep a file from being remembered."""
    path = folder.write("a.pt", "x")
    os.utime(path, (folder.clock.wall() + 3600,) * 2)
    assert [folder.look(), folder.look(), folder.look()] == [[], [], ["a.pt"]]


def test_at_the_end_of_a_killed_script_the_newest_file_is_doubted(folder: Folder) -> None:
    """What was still being written stands apart from what was complete, also when that name was complete before."""
    old, last = folder.write("old.pt", "x"), folder.write("last.pt", "x")
    folder.look(), folder.look(2.5), folder.look()
    folder.write("last.pt", "half")
    torn = folder.write("torn.pt", "half")
    assert folder.matches.at_end(killed=True) == ([last, torn], [old])
    assert folder.matches.at_end(killed=False) == ([], [old, last, torn])


def test_what_is_older_than_the_attempt_is_not_told(folder: Folder) -> None:
    """Files of an earlier run in the same folder are nobody's."""
    path = folder.write("a.pt", "x")
    os.utime(path, (folder.clock.wall() - 60,) * 2)
    assert [folder.look(), folder.look(3)] == [[], []]
    assert folder.matches.at_end(killed=False) == ([], [])


def test_a_doubtful_checkpoint_is_the_last_resort() -> None:
    """It goes before all others, wherever it stood; alone it is what there is."""
    record = RunRecord(
        "r", None, Outcome.RUNNING, 0.0, (), "/", "", checkpoints=("a", "b"), last_checkpoint="b"
    )
    after = with_doubtful_checkpoint(record, "b")
    assert (after.checkpoints, after.last_checkpoint) == (("b", "a"), "a")
    bare = RunRecord("r", None, Outcome.RUNNING, 0.0, (), "/", "")
    assert with_doubtful_checkpoint(bare, "x").last_checkpoint == "x"


SAVES = """
    import os, sys, time
    os.makedirs("ckpts", exist_ok=True)
    with open("ckpts/whole.pt", "w") as file: file.write("whole")
    while not os.path.exists("go"): time.sleep(0.01)
    torn = open("ckpts/torn.pt", "w", buffering=1)
    torn.write("half\\n")
    open("up", "w").close()
    while True: time.sleep(0.01)
"""


def checkpoints(backprop: CommandLine) -> list[str]:
    return [Path(path).name for path in backprop.record("g")["checkpoints"]]


def test_a_killed_governor_leaves_what_was_complete_in_the_record(backprop: CommandLine) -> None:
    """While the run goes on a file that appears is remembered; after kill -9 of backprop it is what a resume begins with."""
    backprop.script(SAVES)
    process = backprop.start(
        "run", "train.py", "--run-id", "g", "--checkpoint-glob", "ckpts/*.pt", "--grace", "1"
    )
    try:
        record = backprop.home / "runs" / "g" / "run.json"
        wait_for(lambda: record.exists() and checkpoints(backprop) == ["whole.pt"])
        (backprop.folder / "go").touch()
        wait_for((backprop.folder / "up").exists)
        process.kill()
        process.communicate()
        wait_for(lambda: backprop.runs()[0]["status"] == "lost")
        ran = backprop("resume", "g", "--dry-run", "--resume-flag", "--from")
        assert "--from " + str(backprop.folder / "ckpts" / "whole.pt") in ran.stderr
    finally:
        end(process)


def test_a_half_written_file_of_a_killed_script_is_not_resumed_from(backprop: CommandLine) -> None:
    """The script is killed while it writes: the older file that was complete is chosen, the torn one stays known."""
    backprop.script(SAVES)
    process = backprop.start(
        "run", "train.py", "--run-id", "g", "--checkpoint-glob", "ckpts/*.pt", "--grace", "1"
    )
    try:
        record = backprop.home / "runs" / "g" / "run.json"
        wait_for(lambda: record.exists() and checkpoints(backprop) == ["whole.pt"])
        (backprop.folder / "go").touch()
        wait_for((backprop.folder / "up").exists)
        os.kill(backprop.record("g")["attempts"][0]["process"]["pid"], 9)
        process.communicate(timeout=240)
        assert checkpoints(backprop) == ["torn.pt", "whole.pt"]
        assert backprop.record("g")["last_checkpoint"].endswith("whole.pt")
    finally:
        end(process)
