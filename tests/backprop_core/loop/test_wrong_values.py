"""Values that cannot be meant, given to `backprop.timebox`: each is an error that names it, before any training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import backprop
from backprop_core import contract
from backprop_core.errors import shown

HUGE = 10**5000
"""Python refuses to write out a number of so many digits."""
WHERE_THEY_ARE_GIVEN: list[dict[str, Any]] = [
    {"budget": HUGE}, {"budget": "x" * 100_000}, {"budget": True}, {"budget": b"10m"},
    {"checkpoint_every": float("nan")}, {"grace": -HUGE}, {"keep": True}, {"keep": -HUGE}, {"keep_every": "5"},
    {"run": ""}, {"run": 7}, {"name": 7}, {"name": "x" * 201}, {"resume": ""}, {"resume": None}, {"resume": HUGE},
    {"strict": HUGE}, {"checkpoint_dir": 7}, {"checkpoint_dir": ""}, {"checkpoint_dir": "://"}, {"checkpoint_dir": b"a"},
    {"checkpoint_dir": "~nobody-of-this-name/x"}, {"checkpoint_dir": "a\0b"},
]  # fmt: skip
WHERE_THE_BLOCK_BEGINS: list[dict[str, Any]] = [
    {"until": "2026"}, {"until": HUGE}, {"run": "a b"}, {"run": "x" * 65},
    {"checkpoint_dir": "/dev/null"}, {"checkpoint_dir": "/proc/nowhere"},
    {"checkpoint_dir": "x" * 5000}, {"checkpoint_dir": __file__}, {"resume": "x" * 5000},
    {"resume": "/nowhere"},
    {"resume": __file__}, {"model": 5}, {"model": None}, {"a/b": []},
]  # fmt: skip


class _Unspeakable:
    def __repr__(self) -> str:
        raise RuntimeError("no words")


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(contract.HOME, str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("wrong", WHERE_THEY_ARE_GIVEN, ids=shown)
def test_a_wrong_value_is_refused_where_it_is_given(wrong: dict[str, Any]) -> None:
    """Wrong types, numbers without end and empty names are named in a message of readable length."""
    with pytest.raises(backprop.UsageError) as raised:
        backprop.timebox(**wrong)
    assert next(iter(wrong)) in str(raised.value)
    assert raised.value.hint
    assert len(str(raised.value)) < 500


@pytest.mark.parametrize("wrong", WHERE_THE_BLOCK_BEGINS, ids=shown)
def test_what_only_the_machine_knows_is_refused_where_the_block_begins(wrong: dict[str, Any]) -> None:
    """A folder that cannot be made ends the script before it has trained, and not at its first save."""
    with pytest.raises(backprop.BackpropError) as raised, backprop.timebox("10s", **wrong):
        raise AssertionError("the block was entered")
    assert len(str(raised.value)) < 500


def test_any_value_can_be_shown() -> None:
    """What a message shows of a value is short, and its own `repr` breaks no message."""
    assert shown("a") == "'a'"
    assert shown(HUGE) == "<int>"
    assert shown(_Unspeakable()) == "<_Unspeakable>"
    assert len(shown("x" * 1000)) < 100
