"""Plain Python values as JSON and back, exactly: what comes back is equal to the last bit, or was refused at
save time.

JSON's own types stand for themselves. Everything else is an object with the key "$" that names its kind; a
dict with other than ordinary string keys is one of them. docs/checkpoint-format.md lists all kinds.
"""

from __future__ import annotations

import base64
import datetime
import json
import math
import pathlib
import struct
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, TypeAlias

from backprop_core.errors import UnsavableStateError

from .arrays import JSON

KIND: Final = "$"
MAX_DEPTH: Final = 100
"""Containers inside containers. Far below what the JSON parser can take, even at three JSON levels for one of
ours.
"""

KeyPath: TypeAlias = "tuple[KeyPath, object] | None"
"""Where a value sits: a chain of keys, turned into text only when something is wrong."""

Foreign: TypeAlias = Callable[[object, KeyPath], "JSON | None"]

_EXACT_INT = 1 << 53  # beyond it other JSON readers round
FACTORIES: Mapping[str, type] = {
    t.__name__: t
    for t in (int, float, complex, str, bytes, bool, list, dict, set, frozenset, tuple, bytearray)
}
PATHS: Mapping[str, type[pathlib.PurePath]] = {
    t.__name__: t for t in (pathlib.PurePosixPath, pathlib.PureWindowsPath, type(pathlib.Path()))
}


def where(root: str, place: KeyPath) -> str:
    """`optimizer.state[0]['foo']`: how a person would write the way to a value."""
    keys: list[object] = []
    while place is not None:
        place, key = place
        keys.append(key)
    text = root
    for depth, key in enumerate(reversed(keys)):
        dotted = depth == 0 and isinstance(key, str) and key.isidentifier()
        text += f".{key}" if dotted else f"[{_shortened(key)}]"
    return text


def _shortened(key: object) -> str:
    text = repr(key)
    return text if len(text) <= 80 else text[:77] + "..."


class PlainEncoder:
    """Turns plain values into JSON. `foreign` is asked for all other values and answers None if it does not
    know one.

    Args:
        root: the name of the whole, for messages.
        foreign: takes values of frameworks.
    """

    def __init__(self, root: str, foreign: Foreign) -> None:
        self._root = root
        self._foreign = foreign
        self._open: set[int] = set()

    def encode(self, value: object, place: KeyPath = None) -> JSON:
        """The JSON of `value`.

        Raises:
            UnsavableStateError: a value with no plain form, one that contains itself, or one nested too
                deeply.
        """
        kind = type(value)
        if value is None or kind is bool:
            return value  # type: ignore[return-value]
        leaf = _LEAVES.get(kind)
        if leaf is not None:
            return leaf(value)
        container = _CONTAINERS.get(kind)
        if container is not None:
            return self._container(container, value, place)
        foreign = self._foreign(value, place)
        if foreign is None:
            raise self.refusal(place, f"is {_a_kind(kind)}, which cannot be stored without pickle.")
        return foreign

    def _container(self, encode: _EncodeContainer, value: object, place: KeyPath) -> JSON:
        if id(value) in self._open:
            raise self.refusal(place, "contains itself.")
        if len(self._open) >= MAX_DEPTH:
            raise self.refusal(place, f"is nested more than {MAX_DEPTH} levels deep.")
        self._open.add(id(value))
        try:
            return encode(self, value, place)
        finally:
            self._open.discard(id(value))

    def refusal(self, place: KeyPath, problem: str) -> UnsavableStateError:
        """The error for the value at `place`."""
        return UnsavableStateError(
            f"{where(self._root, place)} {problem}",
            "Leave it out of state_dict(), or replace it by numbers, text, arrays or tensors.",
        )


def _a_kind(kind: type) -> str:
    import enum

    name = f"{kind.__module__}.{kind.__qualname__}"
    return f"the enum {name} (its .value could be stored)" if issubclass(kind, enum.Enum) else f"a {name}"


_EncodeContainer: TypeAlias = Callable[[PlainEncoder, Any, KeyPath], JSON]


def float_bits(value: float) -> str:
    """The eight bytes of a float, most significant first, in hexadecimal."""
    return struct.pack(">d", value).hex()


def _float(value: float) -> JSON:
    if math.isfinite(value) and (value or math.copysign(1.0, value) > 0):
        return value
    return {KIND: "float", "bits": float_bits(value)}


def _int(value: int) -> JSON:
    return value if -_EXACT_INT <= value <= _EXACT_INT else {KIND: "int", "hex": hex(value)}


def _is_text(value: str) -> bool:
    """Whether `value` is proper Unicode: JSON would glue lone surrogates together."""
    if value.isascii():
        return True
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _str(value: str) -> JSON:
    return (
        value if _is_text(value) else {KIND: "str", "base64": _base64(value.encode("utf-8", "surrogatepass"))}
    )


def _base64(data: bytes | bytearray) -> str:
    return base64.b64encode(data).decode("ascii")


def _microseconds(delta: datetime.timedelta) -> int:
    return (delta.days * 86_400 + delta.seconds) * 1_000_000 + delta.microseconds


def _zone(zone: datetime.tzinfo | None) -> JSON:
    if zone is None:
        return None
    if type(zone) is not datetime.timezone:
        raise UnsavableStateError(
            f"A time in the zone {zone!r} cannot be stored.",
            "Convert it with .astimezone(datetime.UTC) first.",
        )
    offset, *name = zone.__getinitargs__()  # type: ignore[attr-defined]
    return [_microseconds(offset), *name]


def _datetime(value: datetime.datetime) -> JSON:
    naive = value.replace(tzinfo=None, fold=0).isoformat()
    return {KIND: "datetime", "naive": naive, "fold": value.fold, "zone": _zone(value.tzinfo)}


def _time(value: datetime.time) -> JSON:
    naive = value.replace(tzinfo=None, fold=0).isoformat()
    return {KIND: "time", "naive": naive, "fold": value.fold, "zone": _zone(value.tzinfo)}


_LEAVES: Mapping[type, Callable[[Any], JSON]] = {
    str: _str,
    int: _int,
    float: _float,
    bytes: lambda v: {KIND: "bytes", "base64": _base64(v)},
    bytearray: lambda v: {KIND: "bytearray", "base64": _base64(v)},
    complex: lambda v: {KIND: "complex", "bits": [float_bits(v.real), float_bits(v.imag)]},
    datetime.datetime: _datetime,
    datetime.time: _time,
    datetime.date: lambda v: {KIND: "date", "iso": v.isoformat()},
    datetime.timedelta: lambda v: {KIND: "timedelta", "microseconds": _microseconds(v)},
    **{
        path: lambda v: {KIND: "path", "type": type(v).__name__, "path": _str(str(v))}
        for path in PATHS.values()
    },
}


_MANY: Final = 32


def _all_small_integers(values: Any) -> bool:
    """Whether these are many integers that JSON holds as they are: each save has the state of a generator, such a list."""
    if len(values) < _MANY or type(values[0]) is not int or set(map(type, values)) != {int}:
        return False
    return bool(min(values) >= -_EXACT_INT and max(values) <= _EXACT_INT)


def _items(encoder: PlainEncoder, values: Any, place: KeyPath) -> list[JSON]:
    if _all_small_integers(values):
        return list(values)
    return [encoder.encode(value, (place, index)) for index, value in enumerate(values)]


def _pairs(encoder: PlainEncoder, value: Mapping[Any, object], place: KeyPath) -> list[JSON]:
    return [[encoder.encode(k, (place, "(a key)")), encoder.encode(v, (place, k))] for k, v in value.items()]


def _dict(encoder: PlainEncoder, value: dict[Any, object], place: KeyPath) -> JSON:
    for key in value:
        if type(key) is not str or key == KIND or not (key.isascii() or _is_text(key)):
            return {KIND: "dict", "items": _pairs(encoder, value, place)}
    return {key: encoder.encode(item, (place, key)) for key, item in value.items()}


def _ordered(encoder: PlainEncoder, value: OrderedDict[Any, object], place: KeyPath) -> JSON:
    node: dict[str, JSON] = {KIND: "OrderedDict", "items": _pairs(encoder, value, place)}
    extra = vars(value)
    if set(extra) - {"_metadata"}:
        raise encoder.refusal(
            place, f"carries attributes ({', '.join(sorted(extra))}) that cannot be stored."
        )
    if extra:  # torch hangs the versions of its modules on the state_dict
        node["_metadata"] = encoder.encode(extra["_metadata"], (place, "_metadata"))
    return node


def _default(encoder: PlainEncoder, value: defaultdict[Any, object], place: KeyPath) -> JSON:
    factory = value.default_factory
    name = getattr(factory, "__name__", "")
    if factory is not None and FACTORIES.get(name) is not factory:
        raise encoder.refusal(
            place, f"is a defaultdict of {factory!r}, which cannot be stored without pickle."
        )
    return {KIND: "defaultdict", "factory": name or None, "items": _pairs(encoder, value, place)}


def _set_order(item: JSON) -> tuple[bool, str]:
    """The same set always gives the same bytes; what refers to another member comes behind it."""
    text = json.dumps(item)
    return f'"{KIND}": "same"' in text, text


def _set(encoder: PlainEncoder, value: Iterable[object], place: KeyPath) -> JSON:
    items = [encoder.encode(item, (place, "(a member)")) for item in value]
    items.sort(key=_set_order)
    return {KIND: type(value).__name__, "items": items}


_CONTAINERS: Mapping[type, _EncodeContainer] = {
    list: _items,
    dict: _dict,
    tuple: lambda e, v, p: {KIND: "tuple", "items": _items(e, v, p)},
    set: _set,
    frozenset: _set,
    OrderedDict: _ordered,
    defaultdict: _default,
    Counter: lambda e, v, p: {KIND: "Counter", "items": _pairs(e, v, p)},
    deque: lambda e, v, p: {KIND: "deque", "maxlen": v.maxlen, "items": _items(e, v, p)},
    range: lambda e, v, p: {KIND: "range", "items": [_int(n) for n in (v.start, v.stop, v.step)]},
    slice: lambda e, v, p: {KIND: "slice", "items": _items(e, (v.start, v.stop, v.step), p)},
}


def refuse_foreign(value: object, place: KeyPath) -> None:
    """For trees that hold plain values only."""
