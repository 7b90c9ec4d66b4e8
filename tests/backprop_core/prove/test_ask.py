"""`backprop.prove(...)` with arguments that cannot be used: each is a sentence, before any process is started."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import backprop

SCRIPT = "train.py"


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"cwd": "/nowhere/at/all"}, "does not exist"),
        ({"cwd": __file__}, "is not a folder"),
        ({"cwd": "a" * 300}, "cannot be used"),
        ({"cwd": f"{__file__}/below"}, "does not exist"),
        ({"cwd": "~nobody-of-this-name"}, "cannot be used"),
        ({"cwd": "a\0b"}, "cwd="),
        ({"cwd": 7}, "cwd=7"),
        ({"script": ""}, "script=''"),
        ({"script": b"train.py"}, "script=b"),
        ({"script": None}, "script=None"),
        ({"arguments": (["--lr"],)}, "arguments="),
        ({"options": "--seed 7"}, "is one string"),
        ({"options": [7]}, "could not be started"),
        ({"environ": {"A": 1}}, "could not be started"),
        ({"budget": "soon"}, "budget="),
        ({"budget": -1}, "budget="),
        ({"budget": float("nan")}, "budget="),
    ],
    ids=str,
)
def test_what_cannot_be_used_is_named(wrong: dict[str, Any], said: str) -> None:
    """A folder that is not there, a word that is no text or a budget that is none ends in a UsageError that names it."""
    given = {"script": SCRIPT, "arguments": (), **wrong}
    with pytest.raises(backprop.UsageError) as raised:
        backprop.prove(given.pop("script"), *given.pop("arguments"), **given)
    assert said in str(raised.value)
    assert raised.value.hint


def test_a_script_that_is_not_there_is_a_usage_error(tmp_path: Path) -> None:
    """What the command itself refuses comes back as its sentence; numbers may be arguments."""
    with pytest.raises(backprop.UsageError, match="does not exist"):
        backprop.prove("gone.py", "--epochs", 2, cwd=tmp_path)  # type: ignore[arg-type]
