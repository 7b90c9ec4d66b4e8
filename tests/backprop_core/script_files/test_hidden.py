"""What training has written is hidden from the code before it, one attempt after another, each in a fresh process."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from backprop_core.script_files.hidden import show_hidden_of
from tests.backprop_core.script_files.test_rewind import Runs

LOOK = "print(sorted(one.name for one in Path('.').rglob('*') if not one.name.startswith('.')))\n"


def test_what_training_has_made_is_away_until_it_goes_on(tmp_path: Path) -> None:
    """Files, a folder and what is in it, a link, and what was renamed into its place; what was there before stays."""
    runs = Runs(tmp_path)
    runs.attempt(
        """
        open('log', 'w').write('before')
        files.training_begins()
        open('last', 'w').write('1'); open('tmp', 'w').write('2'); os.replace('tmp', 'best')
        os.makedirs('saved/epoch-1'); open('saved/epoch-1/model', 'w').write('3')
        os.symlink('last', 'latest'); open('log', 'a').write(' and behind')
        checkpoint(); dies()
        """
    )
    for _ in range(2):  # a second resume hides the same
        said = runs.attempt(
            f"{LOOK}print(files.training_begins())\n{LOOK}open('last', 'a').write('+')\narrives(); checkpoint(); dies()"
        )
        before, hidden, after, *_ = said.splitlines()
        assert before == "['log']"
        assert hidden == "['last', 'best', 'saved', 'latest']"
        assert after == "['best', 'epoch-1', 'last', 'latest', 'log', 'model', 'saved']"
    assert (runs.text("best"), runs.text("saved/epoch-1/model"), runs.text("log")) == (
        "2",
        "3",
        "before and behind",
    )
    assert [one.name for one in runs.folder.iterdir() if one.name.startswith(".")] == []


def test_what_the_script_makes_in_its_place_meanwhile_gets_what_was_in_it(tmp_path: Path) -> None:
    """A folder is filled up, and a file that is open stays the one that it is."""
    runs = Runs(tmp_path)
    runs.attempt(
        "files.training_begins(); os.mkdir('out'); open('out/a', 'w').write('old'); open('note', 'w').write('old'); "
        "checkpoint(); dies()"
    )
    runs.attempt(
        """
        os.mkdir('out'); open('out/b', 'w').write('new'); note = open('note', 'w'); note.write('new'); note.flush()
        files.training_begins(); arrives()
        note.seek(0, 2); note.write('!'); note.flush(); dies()
        """
    )
    assert (runs.text("out/a"), runs.text("out/b"), runs.text("note")) == ("old", "new", "old!")


@pytest.mark.parametrize("by", ["the next attempt", "the governor"])
def test_a_death_before_training_loses_nothing(tmp_path: Path, by: str) -> None:
    """What is hidden then comes back, whoever comes next."""
    runs = Runs(tmp_path)
    runs.attempt("files.training_begins(); open('last', 'w').write('1'); checkpoint(); dies()")
    runs.attempt("dies()")
    assert not (runs.folder / "last").exists()
    if by == "the governor":
        show_hidden_of(str(runs.run))
    else:
        runs.attempt("files.starts_anew(); dies()")
    assert runs.text("last") == "1"
    assert [one.name for one in runs.folder.iterdir()] == ["last"]


def test_where_the_run_lies_on_another_disk_it_is_hidden_beside_its_place(tmp_path: Path) -> None:
    """Under a name that begins with a dot, and comes back."""
    runs = Runs(tmp_path)
    runs.attempt("files.training_begins(); open('last', 'w').write('1'); checkpoint(); dies()")
    (runs.run / "files" / "hidden").write_text("no folder, as if nothing could be moved there")
    said = runs.attempt("print(os.listdir('.'))\nfiles.training_begins()\nprint(os.listdir('.')); dies()")
    assert said.splitlines() == ["['.last.backprop-hidden']", "['last']"]


def test_what_was_there_before_the_run_is_never_hidden(tmp_path: Path) -> None:
    """Also where training removes it, or moves it away, and writes it anew: the code before training needs it."""
    runs = Runs(tmp_path)
    for name in ("given", "moved", "over"):
        (runs.folder / name).write_text("0")
    runs.attempt(
        """
        files.training_begins()
        os.remove('given'); open('given', 'w').write('1')
        os.replace('moved', 'previous'); open('moved', 'w').write('1')
        open('over', 'w').write('1')
        checkpoint(); dies()
        """
    )
    assert runs.attempt(LOOK).strip().endswith("['given', 'moved', 'over']")


def test_what_was_made_before_training_is_not_hidden(tmp_path: Path) -> None:
    """A cache that is built once is there on a resume."""
    runs = Runs(tmp_path)
    runs.attempt("open('cache', 'w').write('1'); files.training_begins(); checkpoint(); dies()")
    assert runs.attempt(LOOK).strip() == "['cache']"


def test_notes_that_are_torn_or_forged_move_nothing_elsewhere(tmp_path: Path) -> None:
    """A path outside of the script's folders, one that is no text, and half a line."""
    runs = Runs(tmp_path)
    (tmp_path / "other").write_text("0")
    runs.attempt("files.training_begins(); open('last', 'w').write('1'); checkpoint(); dies()")
    with (runs.run / "files" / "made.jsonl").open("a") as notes:
        notes.write(json.dumps({"path": str(tmp_path / "other"), "at": ""}) + '\n{"path": 7}\n[]\n{"pa')
    assert runs.attempt(LOOK).strip() == "[]"
    assert (tmp_path / "other").read_text() == "0"


def test_half_a_note_of_an_earlier_death_costs_no_file(tmp_path: Path) -> None:
    """A kill tore the only line that says what is hidden: what is hidden next, before another death, comes back."""
    runs = Runs(tmp_path)
    runs.attempt("files.training_begins(); open('last', 'w').write('1'); checkpoint(); dies()")
    (runs.run / "files" / "hidden.jsonl").write_text('{"pa')
    runs.attempt("dies()")
    assert not (runs.folder / "last").exists()
    assert show_hidden_of(str(runs.run))
    assert runs.text("last") == "1"
