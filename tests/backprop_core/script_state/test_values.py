"""Values that JSON does not know: the same again from their forms, without code of the script's."""

from __future__ import annotations

import datetime
import decimal
import enum
import fractions
import uuid
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pytest

from backprop_core.checkpoints.numpy_arrays import NumpyTranslator
from backprop_core.script_state import values
from backprop_core.script_state.namespace import DictNamespace
from backprop_core.script_state.state import ScriptState
from tests.backprop_core.script_state.graphs import through_a_file


class Meters(float):
    """A number of the script's, whose making is counted."""

    made = 0

    def __new__(cls, number: float) -> Meters:
        cls.made += 1
        return super().__new__(cls, number)

    def __float__(self) -> float:
        raise AssertionError("code of the script's ran")


class Word(str):
    note: str


class Marks(enum.Flag):
    A = 1
    B = 2


@pytest.mark.parametrize(
    "value",
    [
        decimal.Decimal("1.50"),
        decimal.Decimal("NaN"),
        fractions.Fraction(-3, 7),
        uuid.UUID(int=9),
        ZoneInfo("Europe/Berlin"),
        datetime.datetime(2024, 10, 27, 2, 30, fold=1, tzinfo=ZoneInfo("Europe/Berlin")),
        datetime.time(1, 2, tzinfo=ZoneInfo("Asia/Tokyo")),
        datetime.timezone(datetime.timedelta(hours=2), "two"),
        Word("text"),
        Marks.A | Marks.B,
    ],
)
def test_a_value_that_took_another_s_place_comes_back(value: Any) -> None:
    """Stored where it stands in a list, through a file, in a process that has another value there."""

    def script() -> tuple[dict[str, Any], ScriptState]:
        names: dict[str, Any] = {"held": [0], "known": value}
        state = ScriptState([DictNamespace(names, "main")])
        state.baseline()
        return names, state

    names, state = script()
    names["held"][0] = value
    saved = through_a_file(state.changed())
    assert not state.unkept()
    names, state = script()
    assert not state.restore(saved).missing
    assert type(names["held"][0]) is type(value)
    assert repr(names["held"][0]) == repr(value)


def test_a_number_of_the_script_s_is_made_past_its_own_code() -> None:
    """Neither `__new__` nor `__float__` of its class runs, and the class stays."""
    number = Meters(2.5)
    made = Meters.made
    form = values.written(number)
    assert form is not None
    again = values.read(form, lambda reference: Meters)
    assert type(again) is Meters
    assert (float.__float__(again), Meters.made) == (2.5, made)


def test_what_has_no_form_is_named() -> None:
    """Text with attributes of its own, which its form would lose."""
    names: dict[str, Any] = {"word": Word("a")}
    state = ScriptState([DictNamespace(names, "main")])
    state.baseline()
    names["word"] = Word("b")
    names["word"].note = "of its own"
    state.changed()
    assert [one.name for one in state.unkept()] == ["main.word"]


@pytest.mark.parametrize("member", [[1], {"seen": [1]}, ([],)])
def test_a_change_inside_an_array_of_objects_is_named(member: Any) -> None:
    """Of a list in it, however deep; scipy's sparse matrices are made of such arrays."""
    array = np.empty(2, object)
    array[0] = member
    state = ScriptState(lambda: [DictNamespace({"array": array}, "main")], translators=[NumpyTranslator()])
    state.begin_anew()
    saved = state.changed()
    assert not any(saved[part] for part in ("nodes", "paths", "others", "objects", "numbers"))
    assert not list(state.unkept())
    inner: Any = (
        member["seen"] if isinstance(member, dict) else member if isinstance(member, list) else member[0]
    )
    inner.append(2)
    state.changed()
    assert [named.name for named in state.unkept()] == ["main.array"]
