"""The JSON of all our files: what is written every parser reads, what is read nobody vouches for.

`decode` raises ValueError and nothing else. What it gives is still of any shape: a field is read with one of the `as_`
functions, which answer None (or the empty value) for whatever is not of the kind that was asked for. So a damaged or
hostile file can be refused or passed over, and never ends the process that looks at it.
"""

from __future__ import annotations

import contextlib
import json
import math
import operator
import os
from collections.abc import Mapping
from enum import StrEnum
from typing import Any, TypeAlias, TypeVar

JSON: TypeAlias = Any  # None, bool, int, float, str, and lists and string-keyed dicts of them

_TAG = "float"
_SPECIAL = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}
_MAX_DEPTH = 100
_MOST_DIGITS = 300
"""Longer integers do not fit into a float; they are read as infinite, so that no arithmetic on them raises."""
_MOST_WHOLE = 2**63 - 1
_LONGEST_PLACE = 4096
_YEAR_10000 = 253_402_300_800
_Word = TypeVar("_Word", bound=StrEnum)


# Writing


def encode(value: object, *, indent: int | None = None) -> str:
    """`value` as strict JSON in ASCII; nan and infinities become `{"float": "nan"}`, unknown objects their text.

    Never raises for what a training script hands in, unless the text of an object itself raises: nothing of it must be able
    to end the training.
    """
    try:
        return json.dumps(value, allow_nan=False, default=_plain, indent=indent)
    except (ValueError, TypeError, RecursionError):
        return json.dumps(_tagged(value, []), allow_nan=False, indent=indent)


def encode_exactly(value: object, *, indent: int | None = None) -> bytes:
    """`value`, which holds JSON's own kinds alone, as ASCII text.

    Raises:
        ValueError, TypeError: it holds something else, such as a nan.
    """
    separators = (",", ": ") if indent else (",", ":")
    return json.dumps(value, allow_nan=False, indent=indent, separators=separators).encode("ascii")


def _plain(value: Any) -> object:
    """A JSON value for what json does not know: numbers of other libraries, paths, anything else as text."""
    if hasattr(value, "__index__"):
        with contextlib.suppress(Exception):  # such as a tensor of several elements, or of floats
            return operator.index(value)
    if hasattr(value, "__float__"):
        with contextlib.suppress(Exception):
            return _tagged(float(value), [])
    return str(value)


def _tagged(value: object, above: list[object]) -> object:
    """`value` without what json refuses; `above` are the containers that it stands in."""
    if isinstance(value, Mapping | list | tuple | set | frozenset):
        if len(above) >= _MAX_DEPTH or any(value is container for container in above):
            return "(nested too deep)"
        inner = [*above, value]
        if isinstance(value, Mapping):
            return {str(key): _tagged(item, inner) for key, item in value.items()}
        return [_tagged(item, inner) for item in value]
    return _tagged_leaf(value)


def _tagged_leaf(value: object) -> object:
    if isinstance(value, float) and not math.isfinite(value):
        return {_TAG: str(float(value))}
    if isinstance(value, int) and abs(value) >= 10**_MOST_DIGITS:
        return hex(value)  # Python itself refuses to write thousands of decimal digits
    if value is None or isinstance(value, str | int | float):
        return value
    return _plain(value)


# Reading


def decode(text: str | bytes) -> JSON:
    """The value of `encode`d text.

    Raises:
        ValueError: it is not JSON, not UTF-8, or nested too deep.
    """
    try:
        return json.loads(text, object_hook=_untagged, parse_int=_integer)
    except RecursionError as error:
        raise ValueError("nested too deep") from error


def decode_exactly(text: bytes | memoryview) -> JSON:
    """The value of text that `encode_exactly` has written.

    Raises:
        ValueError: it is not JSON, not UTF-8, holds a key twice or a number that JSON does not have, or is nested too deep.
    """
    try:
        return json.loads(bytes(text).decode("utf-8"), object_pairs_hook=_object, parse_constant=_no_constant)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def _untagged(value: dict[str, Any]) -> object:
    if len(value) == 1 and isinstance(word := value.get(_TAG), str):
        return _SPECIAL.get(word, value)
    return value


def _integer(digits: str) -> int | float:
    return int(digits) if len(digits) <= _MOST_DIGITS else float(digits)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise ValueError("a key comes twice in one object")
    return value


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


# Fields: a value of the kind that is asked for, or None


def as_number(value: object) -> float | None:
    """A finite number, as a float: times, sizes."""
    number = as_float(value)
    return number if number is not None and math.isfinite(number) else None


def as_duration(value: object) -> float | None:
    """A finite number of seconds that something took: never negative."""
    number = as_number(value)
    return number if number is not None and number >= 0 else None


def as_float(value: object) -> float | None:
    """A number, as a float: a loss may be nan or infinite, and an integer too large for a float is infinite."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf


def as_instant(value: object) -> float | None:
    """Seconds since 1970, before the year 10000: what a calendar can show."""
    number = as_number(value)
    return number if number is not None and 0 <= number < _YEAR_10000 else None


def as_whole(value: object, *, least: int = -_MOST_WHOLE, most: int = _MOST_WHOLE) -> int | None:
    """An integer within limits that every reader of JSON can hold: steps, counts, numbers of processes."""
    if isinstance(value, bool) or not isinstance(value, int):
        return None
    return value if least <= value <= most else None


def as_text(value: object) -> str | None:
    """Text, also empty."""
    return value if isinstance(value, str) else None


def as_place(value: object) -> str | None:
    """Text that can be handed to the file system, or an address: not empty, no NUL, nothing that cannot be encoded."""
    if not isinstance(value, str) or not value or len(value) > _LONGEST_PLACE or "\0" in value:
        return None
    return value if can_be_encoded(value) else None


def can_be_encoded(text: str) -> bool:
    """Whether the file system can take `text`: half of a surrogate pair it cannot."""
    try:
        os.fsencode(text)
    except UnicodeEncodeError:
        return False
    return True


def as_texts(value: object) -> tuple[str, ...] | None:
    """A list of nothing but texts."""
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return tuple(value)
    return None


def as_object(value: object) -> dict[str, JSON]:
    """An object; empty for anything else."""
    return value if isinstance(value, dict) else {}


def as_list(value: object) -> list[JSON]:
    """A list; empty for anything else."""
    return value if isinstance(value, list) else []


def as_word(kind: type[_Word], value: object) -> _Word | None:
    """The member of an enumeration of words."""
    try:
        return kind(value) if isinstance(value, str) else None
    except ValueError:
        return None
