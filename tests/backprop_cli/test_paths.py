"""Paths that a person types: what cannot be used is a sentence and status 2, and nothing but a file is ever replaced."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import threading
from pathlib import Path

import click
import pytest

from backprop_cli.__main__ import main
from backprop_cli.paths import check_can_write, check_schedule, given, shortened, unusable, write_output
from backprop_core import contract
from backprop_core.errors import StoreError, UsageError

LONG = "x" * 5000
"""Longer than any name or path that a file system takes."""
AT_ONCE = [
    (["run", ""], "SCRIPT is empty"),
    (["run", "."], "is a folder without __main__.py"),
    (["run", os.devnull], "is not a file"),
    (["run", LONG], "File name too long"),
    (["run", "--module", LONG], "File name too long"),
    (["run", "t.py", "-r", LONG], "File name too long"),
    (["run", "t.py", "-r", ""], "'-r' / '--resume-from': the path is empty"),
    (["run", "t.py", "--config", ""], "'--config': the path is empty"),
    (["run", "t.py", "--config", "."], "is a folder, not a configuration file"),
    (["run", "t.py", "--json-to", ""], "'--json-to': the path is empty"),
    (["run", "t.py", "--json-to", "/nowhere/result.json"], "is in /nowhere, which is not a folder"),
    (["run", "t.py", "--replay-schedule", "nowhere"], "neither a run nor a file"),
    (["run", "t.py", "--on-event", "nonsense"], '--on-event is "nonsense"'),
    (["prove", LONG], "File name too long"),
    (["checkpoints", LONG], "File name too long"),
    (["verify", LONG], "File name too long"),
    (["export", LONG, "--to", "out"], "File name too long"),
    (["export", "run", "--to", ""], "'--to': the path is empty"),
    (["report", "run", "-o", ""], "'--output': the path is empty"),
]


@pytest.fixture(autouse=True)
def _somewhere_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "t.py").write_text("open('ran', 'w')\nprint('ran')\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PWD", str(tmp_path))
    monkeypatch.setenv(contract.HOME, str(tmp_path / "home"))


@pytest.mark.parametrize(("arguments", "words"), AT_ONCE, ids=lambda value: " ".join(value)[:40])
def test_a_path_that_cannot_be_used_is_named_before_anything_starts(
    arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A name that is empty, too long or that of a device is the user's mistake: status 2, no fault of ours, no run."""
    assert main(arguments) == 2
    said = capsys.readouterr().err
    assert words in said
    assert "Something is wrong in backprop itself" not in said
    assert len(said) < 1000
    assert not Path("ran").exists()


def test_an_error_about_another_path_stays_a_fault_of_ours() -> None:
    """Only a path that was typed makes an error of the system the user's."""
    error = FileNotFoundError(2, "No such file or directory", "/usr/lib/backprop/part")
    assert unusable(error, ["run", "t.py", "-m", "5"]) is None
    assert unusable(OSError("no path in it"), ["run"]) is None
    assert "cannot be used" in str(unusable(error, ["verify", "/usr/lib/backprop"]))
    assert "cannot be used" in str(unusable(error, ["--config=/usr/lib/backprop/part"]))


def test_a_long_path_is_shortened() -> None:
    """A message stays readable whatever was typed."""
    assert shortened("a/b") == "a/b"
    assert len(shortened(LONG)) < 200


def test_an_empty_path_is_refused_and_none_is_not() -> None:
    """A shell variable that was never set gives an empty path; an option that is left out gives none."""
    option = click.Option(["--config"])
    context = click.Context(click.Command("run"))
    assert given(context, option, None) is None
    assert given(context, option, "a b") == "a b"
    with pytest.raises(click.BadParameter):
        given(context, option, " ")


def test_where_a_result_can_be_written_is_found_out_first(tmp_path: Path) -> None:
    """A file, a new file, a pipe and a device pass; a folder, a closed descriptor and a missing folder do not."""
    (tmp_path / "old.json").write_text("{}")
    os.mkfifo(tmp_path / "pipe")
    for good in (
        None,
        str(tmp_path / "old.json"),
        "new.json",
        str(tmp_path / "pipe"),
        os.devnull,
        "/dev/fd/1",
    ):
        check_can_write("--json-to", good)
    for bad in (str(tmp_path), "/dev/fd/4711", "missing/new.json"):
        with pytest.raises(UsageError, match="--json-to"):
            check_can_write("--json-to", bad)


def test_a_result_that_may_not_be_written_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither a file nor a folder that is read-only is found out only when the run is over."""
    (tmp_path / "old.json").touch()
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # root may write everywhere
    for bad in (tmp_path / "new.json", tmp_path / "old.json"):
        with pytest.raises(UsageError, match="cannot be written to"):
            check_can_write("--json-to", str(bad))


def test_a_schedule_to_replay_has_to_be_there(tmp_path: Path) -> None:
    """A run, its folder or a file; what is none of them ends before the training and not in it."""
    (tmp_path / "home" / "runs" / "first").mkdir(parents=True)
    (tmp_path / "schedule.f64").touch()
    for good in (None, "", "first", "schedule.f64", str(tmp_path)):
        check_schedule(good)
    with pytest.raises(UsageError, match="neither a run nor a file"):
        check_schedule("second")


def test_output_replaces_files_and_nothing_else(tmp_path: Path) -> None:
    """A link stays a link to its file, a pipe gets the bytes, and a device stays a device."""
    target, link, pipe = tmp_path / "page.html", tmp_path / "link.html", tmp_path / "pipe"
    link.symlink_to(target)
    write_output(link, b"one")
    assert link.is_symlink()
    assert target.read_bytes() == b"one"
    os.mkfifo(pipe)
    got: list[bytes] = []
    reader = threading.Thread(target=lambda: got.append(pipe.read_bytes()))
    reader.start()
    write_output(pipe, b"two")
    reader.join()
    assert got == [b"two"]
    assert stat.S_ISFIFO(pipe.stat().st_mode)
    full = tmp_path / "full"
    full.symlink_to("/dev/full")
    with pytest.raises(StoreError, match="No space left"):
        write_output(full, b"three")
    assert stat.S_ISCHR(Path("/dev/full").stat().st_mode)


def test_a_closed_standard_output_ends_no_command(tmp_path: Path) -> None:
    """`backprop logs RUN >&-` has nowhere to print to, and that is no fault of ours."""
    command = f"{sys.executable} -m backprop_cli"
    subprocess.run(f"{command} run t.py --run-id r --min-free-ram 0 --max-load 1000", shell=True, check=True)
    ran = subprocess.run(f"{command} logs r >&-", shell=True, stderr=subprocess.PIPE, text=True, check=False)
    assert (ran.returncode, ran.stderr) == (0, "")


def test_a_script_that_may_not_be_read_is_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """No run is made of a script that Python could not open."""
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # root may read everything
    assert main(["run", "t.py"]) == 2
    assert "cannot be read (Permission denied)" in capsys.readouterr().err


def test_a_pipe_that_nobody_reads_keeps_no_command_alive(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A reader that comes a little later gets everything; where none comes, that is an error in a while."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    got: list[bytes] = []
    reader = threading.Thread(target=lambda: got.append(pipe.read_bytes()))
    reader.start()
    write_output(pipe, b"all of it")
    reader.join()
    assert got == [b"all of it"]
    monkeypatch.setattr("backprop_cli.paths._READER_COMES_S", 0.1)
    with pytest.raises(StoreError, match="nobody reads this pipe"):
        write_output(pipe, b"all of it")


def test_a_schedule_that_is_a_pipe_is_refused(tmp_path: Path) -> None:
    """It is neither a run nor a file, and would be waited for."""
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UsageError, match="neither a run nor a file"):
        check_schedule(str(tmp_path / "pipe"))
