"""JSON that every parser reads: numbers that JSON has no word for are tagged instead of written bare."""

from __future__ import annotations

import contextlib
import json
import math
import operator
from collections.abc import Mapping
from typing import Any, TypeAlias

JSON: TypeAlias = Any  # None, bool, int, float, str, and lists and string-keyed dicts of them

_TAG = "float"
_SPECIAL = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}


def encode(value: object, *, indent: int | None = None) -> str:
    """`value` as strict JSON; nan and infinities become `{"float": "nan"}`, unknown objects their text.

    Never raises for data of finite depth: what a training script hands in must not be able to end the
    training.
    """
    try:
        return json.dumps(value, allow_nan=False, default=_plain, indent=indent)
    except (ValueError, TypeError):
        return json.dumps(_tagged(value), allow_nan=False, indent=indent)


def decode(text: str | bytes) -> JSON:
    """The value of `encode`d text.

    Raises:
        ValueError: it is not JSON, not UTF-8, or nested too deep.
    """
    try:
        return json.loads(text, object_hook=_untag)
    except RecursionError as error:
        raise ValueError("nested too deep") from error


def finite(value: object) -> float | None:
    """`value` as a float if it is a finite number, else None."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def _plain(value: Any) -> object:
    """A JSON value for what json does not know: numbers of other libraries, paths, anything else as text."""
    if hasattr(value, "__index__"):
        with contextlib.suppress(Exception):  # such as a tensor of several elements, or of floats
            return operator.index(value)
    if hasattr(value, "__float__"):
        with contextlib.suppress(Exception):
            return _tagged(float(value))
    return str(value)


def _tagged(value: object) -> object:
    if isinstance(value, float) and not math.isfinite(value):
        return {_TAG: str(float(value))}
    if isinstance(value, Mapping):
        return {str(key): _tagged(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_tagged(item) for item in value]
    if value is None or isinstance(value, str | int | float):
        return value
    return _plain(value)


def _untag(value: dict[str, Any]) -> object:
    if len(value) == 1 and value.get(_TAG) in _SPECIAL:
        return _SPECIAL[value[_TAG]]
    return value
