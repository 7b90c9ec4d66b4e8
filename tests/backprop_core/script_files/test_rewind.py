"""What becomes of files on a resume, one attempt after another, each in a fresh process."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

from backprop_core.script_files.scope import Scope

ATTEMPT = """
import json, os, shutil, sys
from pathlib import Path
from backprop_core.script_files.rewind import ScriptFiles

run = sys.argv[1]
saved = Path(run) / "saved.json"
continues = len(sys.argv) > 2
files = ScriptFiles(run + "/files", [os.getcwd()], [], resuming=continues and saved.exists(), continues=continues)

def checkpoint():
    saved.write_text(json.dumps(files.capture()))

def arrives():
    for sentence in files.restore(json.loads(saved.read_text())):
        print(sentence)

def dies():
    os._exit(9)
"""


class Runs:
    """A folder, and the attempts of one run in it."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.run = folder / "work", folder / "run"
        self.folder.mkdir()
        self.run.mkdir()
        self._count = 0

    def attempt(self, script: str) -> str:
        """One attempt; what it said. The second and later ones go on from the checkpoint, if there is one."""
        self._count += 1
        done = subprocess.run(
            [
                sys.executable,
                "-c",
                ATTEMPT + textwrap.dedent(script),
                str(self.run),
                *["again"] * (self._count > 1),
            ],
            cwd=self.folder,
            capture_output=True,
            text=True,
            check=False,
            timeout=240,
        )
        assert done.returncode in (0, 9), done.stderr
        return done.stdout + done.stderr

    def text(self, name: str) -> str:
        return (self.folder / name).read_text()


def test_a_log_that_nobody_flushed_loses_no_row_and_has_none_twice(tmp_path: Path) -> None:
    """Rows in a buffer at the checkpoint are in the file behind it; the handle stands behind the rows that came back."""
    runs = Runs(tmp_path)
    runs.attempt(
        "log = open('log', 'w'); log.write('a b '); checkpoint(); log.write('x ' * 99999); log.flush(); dies()"
    )
    said = runs.attempt(
        "log = open('log', 'w'); log.write('header '); arrives(); log.write('c'); log.close()"
    )
    assert runs.text("log") == "a b c"
    assert said.count("Rewound") == 1


def test_a_file_is_put_back_where_the_next_attempt_died_on_its_way(tmp_path: Path) -> None:
    """The second attempt empties the log and dies before it is back: the third finds all of it."""
    runs = Runs(tmp_path)
    runs.attempt("log = open('log', 'w'); log.write('a b '); checkpoint(); dies()")
    runs.attempt("log = open('log', 'w'); dies()")
    assert runs.text("log") == ""
    runs.attempt("log = open('log', 'w'); arrives(); log.write('c'); log.close()")
    assert runs.text("log") == "a b c"


def test_what_the_top_of_a_script_writes_over_is_put_back(tmp_path: Path) -> None:
    """A best model that the code before the loop writes anew, replaces or removes is the best of the training again."""
    runs = Runs(tmp_path)
    top = "Path('best').write_text('0'); Path('new').write_text('0'); os.replace('new', 'other');"
    top += " shutil.rmtree('out', True);"
    runs.attempt(
        f"{top} os.mkdir('out'); Path('out/x').write_text('5'); Path('best').write_text('5'); "
        "Path('other').write_text('5'); checkpoint(); dies()"
    )
    assert runs.attempt(f"{top} os.mkdir('out'); arrives()") == ""
    assert [runs.text(name) for name in ("best", "other", "out/x")] == ["5", "5", "5"]


def test_a_log_that_is_emptied_through_its_open_file_has_its_rows_back(tmp_path: Path) -> None:
    """Python tells nobody of `file.truncate()`: what is opened for appending on the way back is kept before."""
    runs = Runs(tmp_path)
    top = """
        log = open("log.txt", "a+")
        log.truncate(0)
        log.write("top\\n"); log.flush()
        """
    runs.attempt(top + 'log.write("1\\n"); checkpoint(); log.write("2\\n"); log.flush(); dies()')
    said = runs.attempt(
        top + 'arrives(); log.write("2\\n"); log.write("3\\n"); log.flush(); checkpoint(); dies()'
    )
    assert said.startswith("Rewound to their state at the checkpoint: log.txt")
    assert runs.attempt(top + 'arrives(); log.write("4\\n")') == ""
    assert runs.text("log.txt") == "top\n1\n2\n3\n4\n"


def test_a_log_that_only_grew_on_the_way_back_is_cut_where_it_lies(tmp_path: Path) -> None:
    """Rows of the way back go, those from before the checkpoint stay; nobody is told of rows that come again."""
    runs = Runs(tmp_path)
    top = 'log = open("log.txt", "a"); log.write("top\\n"); log.flush()\n'
    runs.attempt(top + 'log.write("1\\n"); log.flush(); checkpoint(); dies()')
    runs.attempt(top + 'arrives(); log.write("2\\n"); log.flush()')
    assert runs.text("log.txt") == "top\n1\n2\n"


def test_an_attempt_that_saved_nothing_leaves_nothing_appended(tmp_path: Path) -> None:
    """Without a checkpoint the script begins anew, and its log is what it was before the run."""
    runs = Runs(tmp_path)
    (runs.folder / "log").write_text("before ")
    runs.attempt("open('log', 'a').write('a '); open('new', 'a').write('a'); dies()")
    assert "before the run" in runs.attempt("assert not Path('new').exists(); open('log', 'a').write('a ')")
    assert runs.text("log") == "before a "


def test_a_file_first_appended_to_behind_the_checkpoint_is_as_it_was(tmp_path: Path) -> None:
    """One that was not there is gone, and comes back with the training; files of earlier attempts stay known for good."""
    runs = Runs(tmp_path)
    runs.attempt("open('early', 'a').write('a'); checkpoint(); open('late', 'a').write('a'); dies()")
    runs.attempt(
        "arrives(); assert not Path('late').exists(); checkpoint(); open('late', 'a').write('a'); dies()"
    )
    runs.attempt("arrives(); open('late', 'a').write('a')")
    assert (runs.text("early"), runs.text("late")) == ("a", "a")


def test_nothing_is_cut_from_a_file_that_is_another_now(tmp_path: Path) -> None:
    """A log that somebody has written anew, and one that is shorter, are left as they are, and named."""
    runs = Runs(tmp_path)
    runs.attempt("open('log', 'a').write('a b'); open('short', 'a').write('a b'); checkpoint(); dies()")
    (runs.folder / "log").write_text("of somebody else")
    (runs.folder / "short").write_text("a")
    said = runs.attempt("arrives()")
    assert (runs.text("log"), runs.text("short")) == ("of somebody else", "a")
    assert "log differs from the checkpoint: something has rewritten it since." in said
    assert "short differs from the checkpoint: it is shorter now." in said


def test_what_is_cut_off_is_kept(tmp_path: Path) -> None:
    """Rows of another program that wrote into the same file are in the folder that is named."""
    runs = Runs(tmp_path)
    runs.attempt("open('log', 'a').write('ours '); checkpoint(); dies()")
    with (runs.folder / "log").open("a") as log:
        log.write("theirs")
    runs.attempt("arrives()")
    assert runs.text("log") == "ours "
    assert (runs.run / "files" / "cut-0" / "log").read_text() == "theirs"


def test_a_compressed_log_is_named_and_its_rows_kept(tmp_path: Path) -> None:
    """Bytes in the middle of a compressed stream cannot be written on: the file stays readable."""
    runs = Runs(tmp_path)
    runs.attempt(
        "import gzip; log = gzip.open('log.gz', 'wt'); log.write('a'); log.flush(); checkpoint(); dies()"
    )
    said = runs.attempt(
        "import gzip; log = gzip.open('log.gz', 'wt'); arrives(); log.write('b'); log.close()"
    )
    assert "log.gz is compressed and cannot be continued from the middle" in said
    runs.attempt("import gzip; assert gzip.open('log.gz', 'rt').read() == 'b'")


def test_scope_is_the_scripts_folders_and_no_cache(tmp_path: Path) -> None:
    """Files elsewhere, in hidden folders and caches, and in the run's own folder are never touched."""
    scope = Scope([str(tmp_path)], [str(tmp_path / "run")])
    assert scope.holds(str(tmp_path / "out" / "log"))
    for name in ("run/log", ".cache/log", "__pycache__/a.pyc", "venv/lib/site-packages/log"):
        assert not scope.holds(str(tmp_path / name)), name
    elsewhere = tmp_path.parent / f"{tmp_path.name}-other"
    assert not scope.holds(str(elsewhere / "log"))
    scope.add(str(elsewhere))
    assert scope.holds(str(elsewhere / "log"))


def test_with_keep_files_no_file_is_followed(tmp_path: Path) -> None:
    """BACKPROP_KEEP_FILES, which --keep-files sets, keeps all of it from beginning; without it the files are followed."""
    code = "from backprop_core.script_files import start; start.begin(['.']); print(start.current() is None)"
    for keep, followed in (("1", "True"), ("", "False")):
        environment = {**os.environ, "BACKPROP_RUN_DIR": str(tmp_path), "BACKPROP_KEEP_FILES": keep}
        done = subprocess.run(
            [sys.executable, "-c", code],
            env=environment,
            capture_output=True,
            text=True,
            check=True,
            cwd=tmp_path,
        )
        assert done.stdout == f"{followed}\n"


def test_a_database_is_named_once(tmp_path: Path) -> None:
    """What SQLite writes is neither heard of nor rewound."""
    said = Runs(tmp_path).attempt(
        """
        import sqlite3
        held = [sqlite3.connect("runs.db"), sqlite3.connect(":memory:"), sqlite3.connect("/dev/null")]
        checkpoint()
        checkpoint()
        """
    )
    assert said.count("runs.db is an SQLite database") == 1
    assert said.count("SQLite") == 1
