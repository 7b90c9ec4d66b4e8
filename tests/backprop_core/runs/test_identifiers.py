"""Run ids."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backprop_core.errors import UsageError
from backprop_core.runs.identifiers import MAX_LENGTH, is_run_id, new_run_id, valid_run_id
from backprop_core.testing.clock import FakeClock

HOSTILE = [
    "",
    ".", "..", "../x", "/etc/passwd", "a/b", "a\\b", "a\0b", "a" * (MAX_LENGTH + 1), "-rf", ".hidden", "_x",
    "a..b", "a.", "con", "NUL", "com1.txt", "Lpt9", "a b", "a\n", "é", "a:b", "a*", "a?", 'a"', "a<b", "a|b",
    "~root", "$HOME", "\ud800", "a\u202eb",
]  # fmt: skip


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_ids_are_refused_with_what_is_allowed(text: str) -> None:
    """Nothing that could climb out of the folder, or that some file system cannot hold, is an id."""
    with pytest.raises(UsageError) as caught:
        valid_run_id(text)
    assert "such as" in caught.value.hint
    assert len(str(caught.value)) < 400


@given(
    st.one_of(
        st.text(max_size=80), st.text("aZ09-_. /~", max_size=80), st.text("ab0-_", min_size=1, max_size=70)
    )
)
def test_an_accepted_id_names_a_child_of_the_folder(text: str) -> None:
    """Whatever text is accepted, the path made from it is a direct child."""
    if is_run_id(text):
        base = Path("/home/x/runs")
        assert Path(base, text).resolve().parent == base
        assert Path(text).name == text


def test_new_ids_are_valid_sort_by_time_and_differ() -> None:
    """Made-up ids are ids, later ones sort later, and two of one second differ."""
    clock = FakeClock()
    first = [new_run_id(clock) for _ in range(50)]
    clock.advance(1.0)
    later = new_run_id(clock)
    assert first[0].startswith("20231114-221320-")
    assert all(valid_run_id(text) < later for text in first)
    assert len(set(first)) > 40
