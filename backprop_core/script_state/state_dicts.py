"""States that an object gives of itself: only what a checkpoint can hold, and a digest of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import xxhash

from backprop_core.script_state.arrays import Reader
from backprop_core.script_state.kinds import MARSHALLED, Kind, Kinds, is_storable

_DEEPEST: Final = 50


def storable(value: Any, kinds: Kinds, depth: int = 0) -> Any:
    """`value` unchanged.

    Raises:
        TypeError: there is something in it that cannot be stored; a sentence says what.
    """
    kind = type(value)
    if kind in MARSHALLED:
        return value
    if depth > _DEEPEST:
        raise TypeError("its state_dict() is nested too deeply")
    plan = kinds.plan(value)
    if plan.kind in (Kind.LIST, Kind.TUPLE, Kind.DEQUE, Kind.SET, Kind.FROZENSET) and _is_builtin(kind):
        for member in value:
            storable(member, kinds, depth + 1)
        return value
    if plan.kind is Kind.DICT:
        for key, member in dict.items(value):
            storable(key, kinds, depth + 1)
            storable(member, kinds, depth + 1)
        return value if _is_builtin(kind) else dict(value)
    if plan.kind in (Kind.ARRAY, Kind.BYTES) or (plan.kind is Kind.VALUE and is_storable(value)):
        return value
    raise TypeError(f"its state_dict() holds a {kind.__name__}, which cannot be stored")


def _is_builtin(kind: type) -> bool:
    return kind.__module__ in ("builtins", "collections")


def digest_of_plain(value: Any, kinds: Kinds, reader: Reader) -> bytes:
    """A digest of a state made of plain values and arrays."""
    seen = xxhash.xxh3_128()
    _feed(seen, value, kinds, reader)
    return bytes(seen.digest())


def _feed(seen: Any, value: Any, kinds: Kinds, reader: Reader) -> None:
    kind = type(value)
    seen.update(kind.__name__.encode())
    if isinstance(value, Mapping):
        for key, member in value.items():
            _feed(seen, key, kinds, reader)
            _feed(seen, member, kinds, reader)
    elif isinstance(value, bytes):
        seen.update(value)
    elif kind in MARSHALLED:
        seen.update(repr(value).encode("utf-8", "surrogatepass"))
    elif kinds.plan(value).kind is Kind.ARRAY:
        translator = kinds.translator(value)
        assert translator is not None
        seen.update(reader.mark(value, translator))
    elif hasattr(value, "__iter__"):
        for member in value:
            _feed(seen, member, kinds, reader)
    else:
        seen.update(repr(value).encode("utf-8", "surrogatepass"))
