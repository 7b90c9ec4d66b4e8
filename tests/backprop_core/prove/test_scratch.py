"""The copy that a proof works in."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from backprop_core.errors import UsageError
from backprop_core.prove.scratch import Scratch, differing_files, pattern_of


def _folder(path: Path) -> Path:
    source = path / "project"
    (source / "data").mkdir(parents=True)
    (source / "empty").mkdir()
    (source / "train.py").write_text("pass")
    (source / "data" / "x.bin").write_bytes(bytes(1000))
    (source / "latest").symlink_to("data")
    for name in (".git", "__pycache__"):
        (source / name).mkdir()
        (source / name / "more").write_text("not read by a training")
    (source / "venv").mkdir()
    (source / "venv" / "pyvenv.cfg").write_text("")
    return source


def test_a_copy_has_what_a_training_reads(tmp_path: Path) -> None:
    """Files, empty folders and links are there; caches, version control and virtual environments are not."""
    scratch = Scratch(_folder(tmp_path), tmp_path / "work")
    assert 1000 < scratch.measure() < 1100
    scratch.make()
    there = {str(path.relative_to(scratch.work)) for path in scratch.work.rglob("*")}
    assert there == {"train.py", "data", "data/x.bin", "empty", "latest"}
    assert (scratch.work / "latest").is_symlink()
    scratch.remove()
    assert not scratch.work.exists()


def test_what_was_written_is_known(tmp_path: Path) -> None:
    """New and changed files have digests, and nothing else; a change in the user's own folder is noticed."""
    scratch = Scratch(_folder(tmp_path), tmp_path / "work")
    scratch.measure()
    scratch.make()
    (scratch.work / "out").mkdir()
    (scratch.work / "out" / "log.txt").write_text("1")
    (scratch.work / "train.py").write_text("changed")
    assert set(scratch.written()) == {"out/log.txt", "train.py"}
    assert scratch.touched() == []
    (scratch.source / "data" / "x.bin").write_bytes(b"the script knew an absolute path")
    assert scratch.touched() == ["data/x.bin"]


def test_the_proofs_own_output_is_not_the_scripts(tmp_path: Path) -> None:
    """`backprop prove train.py > proof.txt` in the working directory does not suspect the script of writing proof.txt."""
    folder = _folder(tmp_path)
    told = (
        "import sys; from pathlib import Path; from backprop_core.prove.scratch import Scratch\n"
        "scratch = Scratch(Path('.').resolve(), Path('../work'))\n"
        "scratch.measure()\n"
        "print('a line of a proof', flush=True)\n"
        "Path('other.txt').write_text('the script')\n"
        "print(scratch.touched(), file=sys.stderr)\n"
    )
    with (folder / "proof.txt").open("w") as file:
        done = subprocess.run(
            [sys.executable, "-c", told],
            cwd=folder,
            stdout=file,
            stderr=subprocess.PIPE,
            text=True,
            check=True,
        )
    assert done.stderr.strip() == "['other.txt']"


def test_a_folder_that_is_too_large_is_refused(tmp_path: Path) -> None:
    """The sentence names the largest file and the option."""
    scratch = Scratch(_folder(tmp_path), tmp_path / "work", limit_bytes=500)
    with pytest.raises(UsageError, match=r"data/x\.bin.*--copy-limit"):
        scratch.measure()


def test_names_that_change_from_run_to_run_are_no_difference() -> None:
    """A file whose name holds a time or a process id has a pattern that both whole runs show."""
    first, second = {"events.1764412.77": "a", "model.pt": "x"}, {"events.1764999.78": "b", "model.pt": "x"}
    assert differing_files(first, second) == {pattern_of("events.1.2")}
    assert pattern_of("run-0a1b2c3d4e/log") == pattern_of("run-ffffffffff/log")


@pytest.mark.parametrize(
    ("word", "there"),
    [
        ("train.py", "train.py"),
        ("--lr=0.1", "--lr=0.1"),
        ("{source}/train.py", "{work}/train.py"),
        ("--data={source}/data", "--data={work}/data"),
        ("{source}", "{work}"),
        ("{source}-other/x", "{source}-other/x"),
        ("../beside/train.py", "{parent}/beside/train.py"),
        ("--data=../beside", "--data={parent}/beside"),
        ("../project/train.py", "{work}/train.py"),
        ("/etc/hosts", "/etc/hosts"),
        ("venv/bin/torchrun", "{source}/venv/bin/torchrun"),
        ("{source}/venv/bin/torchrun", "{source}/venv/bin/torchrun"),
    ],
)
def test_a_word_leads_to_the_same_place_from_the_copy(tmp_path: Path, word: str, there: str) -> None:
    """Into the copy what leads into the folder, unless it is not copied; elsewhere what leads out of it."""
    source, work = _folder(tmp_path), tmp_path / "copies" / "work"
    names = {"source": source, "work": work, "parent": tmp_path}
    assert Scratch(source, work).there(word.format(**names)) == there.format(**names)


def test_links_lead_to_the_same_place_from_the_copy(tmp_path: Path) -> None:
    """One that leads out of the folder does so from the copy; one with an absolute path into it leads into the copy."""
    source = _folder(tmp_path)
    (tmp_path / "beside").mkdir()
    (source / "beside").symlink_to("../beside")
    (source / "mine").symlink_to(source / "data")
    scratch = Scratch(source, tmp_path / "copies" / "work")
    scratch.make()
    assert (scratch.work / "beside").resolve() == tmp_path / "beside"
    assert (scratch.work / "mine").resolve() == scratch.work / "data"
    assert (scratch.work / "latest").resolve() == scratch.work / "data"


def test_what_may_not_be_read_is_not_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file and a folder of somebody else's beside the script end no proof: the script cannot read them either."""
    source = tmp_path / "project"
    (source / "locked").mkdir(parents=True)
    (source / "train.py").touch()
    (source / "secret.txt").write_text("words")
    real = shutil.copy2

    def copied(path: Path, target: Path) -> object:  # root may read everything
        if path.name == "secret.txt":
            raise PermissionError(13, "Permission denied", str(path))
        return real(path, target)

    monkeypatch.setattr(shutil, "copy2", copied)
    scratch = Scratch(source, tmp_path / "work", 10**9)
    scratch.measure()
    scratch.make()
    assert sorted(path.name for path in scratch.work.iterdir()) == ["locked", "train.py"]
