"""Files that a script reads piece by piece, without a loop over them: where they are comes back."""

from __future__ import annotations

import csv
import gzip
import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from backprop_core.checkpoints.numpy_arrays import NumpyTranslator
from backprop_core.loop.asked_iterators import asked_iterators
from backprop_core.loop.asked_state import AskedState
from backprop_core.loop.read_files import place_in
from backprop_core.script_state.namespace import DictNamespace

LINES = "".join(f"line {number} \N{GREEK SMALL LETTER ALPHA}\n" for number in range(50))


class Feed:
    """A source of the script's that holds a file."""

    def __init__(self, file: Any) -> None:
        self.file = file


def _two(tmp_path: Path, opened: Callable[[Path], Any], reads: Callable[[Any], Any]) -> tuple[Any, Any]:
    """What the next read gives in a process that went on, and in one that resumes behind five reads."""
    made, stored = [], ""
    for resumes in (False, True):
        space: dict[str, Any] = {"file": opened(tmp_path)}
        state = AskedState([], [NumpyTranslator()])
        state.baseline([DictNamespace(space, "main")])
        if resumes:
            assert state.restore(json.loads(stored), [DictNamespace(space, "main")]) == []
        else:
            for _ in range(5):
                reads(space["file"])
            stored = json.dumps(state.capture([DictNamespace(space, "main")]))
            assert not state.unkept
        made.append([reads(space["file"]) for _ in range(3)])
    return made[0], made[1]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "lines").write_text(LINES, encoding="utf-8")
    with gzip.open(tmp_path / "packed", "wt", encoding="utf-8") as packed:
        packed.write(LINES)
    return tmp_path


def _packed(path: Path, mode: str = "rb") -> Any:
    return gzip.open(path / "packed", mode, encoding="utf-8" if "t" in mode else None)


def _after_a_line(path: Path) -> Any:
    file = (path / "lines").open(encoding="utf-8")
    file.readline()
    return file


def _asked(file: Any) -> Any:
    return next(asked_iterators().ask(file))


@pytest.mark.parametrize(
    ("opened", "reads"),
    [
        (_after_a_line, lambda file: file.readline()),
        (_after_a_line, lambda file: file.read(7)),
        (_after_a_line, _asked),
        (lambda path: (path / "lines").open("rb"), lambda file: file.read(9)),
        (lambda path: (path / "lines").open("rb"), _asked),
        (lambda path: (path / "lines").open("rb", buffering=0), lambda file: file.read(9)),
        (lambda path: _packed(path, "rt"), lambda file: file.readline()),
        (_packed, lambda file: file.readline()),
        (lambda path: Feed(_after_a_line(path)), lambda feed: feed.file.readline()),
        (lambda path: [_after_a_line(path)], lambda files: files[0].readline()),
        (lambda path: csv.reader(_after_a_line(path)), _asked),
    ],
    ids=[
        "lines",
        "letters",
        "next",
        "bytes",
        "next-bytes",
        "raw",
        "packed",
        "packed-bytes",
        "held",
        "listed",
        "csv",
    ],
)
def test_it_is_read_on_where_it_was(
    folder: Path, opened: Callable[[Path], Any], reads: Callable[[Any], Any]
) -> None:
    """By lines, letters, bytes or `next`; as a variable or in an object of the script's."""
    went_on, resumed = _two(folder, opened, reads)
    assert went_on == resumed


def test_a_loop_that_begins_anew_counts_from_its_place(folder: Path) -> None:
    """The third pass over a file that is wound back is behind as many lines of its own, not of all passes."""
    file, lines = (folder / "lines").open(encoding="utf-8"), LINES.splitlines(keepends=True)
    state, iterators = AskedState([], [NumpyTranslator()]), asked_iterators()
    held = []
    for _ in range(3):
        file.seek(0)
        held.append(iterators.counted(file))
        for _ in range(4):
            next(held[-1])
    stored = json.loads(json.dumps(state.state_of(file)))
    again = (folder / "lines").open(encoding="utf-8")
    assert state.bring(again, stored) == ("", [lines[3]])
    assert again.readline() == lines[4]


def test_another_file_is_left_where_it_is(folder: Path) -> None:
    """An argument that was changed on purpose names another file: that is said, and it is read from its beginning."""
    file, state = _after_a_line(folder), AskedState([], [NumpyTranslator()])
    state.baseline([DictNamespace({"file": file}, "main")])
    file.readline()
    stored = state.capture([DictNamespace({"file": file}, "main")])
    (folder / "other").write_text(LINES, encoding="utf-8")
    with (folder / "other").open(encoding="utf-8") as other:
        (missing,) = state.restore(stored, [DictNamespace({"file": other}, "main")])
        assert missing.startswith("main.file (it was reading ")
        assert other.tell() == 0


def test_what_has_no_place_is_not_asked_for_one(folder: Path) -> None:
    """Files that are written, closed, or read by a thread of the script's; and what packages hold."""
    with (folder / "written").open("w", encoding="utf-8") as written:
        assert place_in(written) is None
    closed = _after_a_line(folder)
    closed.close()
    assert place_in(closed) is None
    text, stop = _after_a_line(folder), threading.Event()
    thread = threading.Thread(target=lambda: stop.wait(60))
    thread.start()
    try:
        assert place_in(text) is None
    finally:
        stop.set()
        thread.join()
    assert place_in(text) is not None
    packed, state = _packed(folder), AskedState([], [NumpyTranslator()])
    space = DictNamespace({"packed": packed}, "main")
    state.baseline([space])
    packed.read(4)
    assert [one["name"] for one in state.capture([space])] == ["main.packed"]


def test_a_file_that_training_opens_is_wound_where_the_code_has_opened_it_again(folder: Path) -> None:
    """An epoch's own file. Where it is not there yet, or another lies there, nothing is to be said."""
    state = AskedState([], [NumpyTranslator()])
    state.baseline([DictNamespace({}, "main")])
    file, again, closed = (_after_a_line(folder) for _ in range(3))
    file.readline()
    stored = json.loads(json.dumps(state.capture([DictNamespace({"file": file}, "main")])))
    closed.close()
    for there in ({"file": again}, {}, {"file": 3}, {"file": _packed(folder)}, {"file": closed}):
        assert state.restore(stored, [DictNamespace(there, "main")]) == []
    assert again.readline() == file.readline()
