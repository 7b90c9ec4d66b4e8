"""JSON from files that nobody vouches for: no key twice, no depth that ends the process, no NaN."""

from __future__ import annotations

import json
from typing import Any

from .arrays import JSON


def dump_json(value: JSON, *, indent: int | None = None) -> bytes:
    """`value` as ASCII text."""
    separators = (",", ": ") if indent else (",", ":")
    return json.dumps(value, ensure_ascii=True, allow_nan=False, indent=indent, separators=separators).encode(
        "ascii"
    )


def parse_json(text: bytes | memoryview) -> Any:
    """The value in `text`.

    Raises:
        ValueError: not JSON, not UTF-8, a key that comes twice, a number JSON does not have, or nested too
            deeply.
    """
    try:
        return json.loads(bytes(text).decode("utf-8"), object_pairs_hook=_object, parse_constant=_no_constant)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise ValueError("a key comes twice in one object")
    return value


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")
