"""Tags and notes of a run."""

from __future__ import annotations

import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings

from backprop_core.errors import StoreError, UsageError
from backprop_core.runs.labels import (
    LABELS_FILE,
    LONGEST_NOTE,
    MOST_TAGS,
    Note,
    add_note,
    change_tags,
    read_labels,
)
from backprop_core.testing.clock import FakeClock
from tests.hostile_json import twisted


def test_tags_are_added_and_removed(tmp_path: Path) -> None:
    """Each tag is there once, sorted; adding what is there and removing what is not changes nothing."""
    clock = FakeClock()
    assert change_tags(tmp_path, ["slow", "lr=0.1", "slow"], [], clock).tags == ("lr=0.1", "slow")
    before = (tmp_path / LABELS_FILE).stat().st_ino
    assert change_tags(tmp_path, ["slow"], ["other"], clock).tags == ("lr=0.1", "slow")
    assert (tmp_path / LABELS_FILE).stat().st_ino == before
    assert change_tags(tmp_path, [], ["slow"], clock).tags == ("lr=0.1",)
    assert read_labels(tmp_path).tags == ("lr=0.1",)


def test_notes_keep_their_order_their_time_and_the_tags(tmp_path: Path) -> None:
    """A second note stands behind the first, with line breaks and any letters, and tags stay."""
    clock = FakeClock()
    change_tags(tmp_path, ["kept"], [], clock)
    add_note(tmp_path, "first\nline  ", clock)
    began = clock.wall()
    clock.advance(5)
    labels = add_note(tmp_path, "zweite è \udcff", clock)
    assert labels == read_labels(tmp_path)
    assert labels.tags == ("kept",)
    assert labels.notes == (Note(began, "first\nline"), Note(began + 5, "zweite è ?"))


@pytest.mark.parametrize("tag", ["", "-x", "+x", "a b", "x" * 65, "a\n", ",", "a,b"])
def test_what_cannot_be_a_tag_is_refused(tmp_path: Path, tag: str) -> None:
    """Nothing is written for a word that could not be typed again as a tag."""
    with pytest.raises(UsageError, match="cannot be a tag"):
        change_tags(tmp_path, [tag], [], FakeClock())
    assert not (tmp_path / LABELS_FILE).exists()


def test_labels_are_bounded(tmp_path: Path) -> None:
    """Too many tags, an empty note and one that is too long are refused in a sentence."""
    clock = FakeClock()
    with pytest.raises(UsageError, match="100 tags"):
        change_tags(tmp_path, [f"t{n}" for n in range(MOST_TAGS + 1)], [], clock)
    for text in (" \n", "x" * (LONGEST_NOTE + 1)):
        with pytest.raises(UsageError, match="note"):
            add_note(tmp_path, text, clock)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(twisted({"format_version": 1, "tags": ["a"], "notes": [{"wall": 1.0, "text": "b"}]}))
def test_whatever_stands_in_the_file_is_read_as_far_as_it_makes_sense(content: Any) -> None:
    """No content raises, and what is read can be written and read again."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        (folder / LABELS_FILE).write_text(json.dumps(content))
        labels = read_labels(folder)
        if labels.damage is None and len(labels.tags) < MOST_TAGS:
            assert change_tags(folder, ["x"], [], FakeClock()).notes == labels.notes
            assert read_labels(folder).tags == tuple(sorted({*labels.tags, "x"}))


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff", b"7"])
def test_what_is_no_file_of_labels_is_never_replaced(tmp_path: Path, content: bytes) -> None:
    """A damaged file is said to be damaged by whoever reads it, and a change leaves it as it is."""
    path = tmp_path / LABELS_FILE
    path.write_bytes(content)
    assert read_labels(tmp_path).damage
    with pytest.raises(StoreError, match="damaged"):
        change_tags(tmp_path, ["x"], [], FakeClock())
    assert path.read_bytes() == content
