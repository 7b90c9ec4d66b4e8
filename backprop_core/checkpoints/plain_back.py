"""Plain values out of the JSON that `plain` made of them. Nothing in it is ever executed."""

from __future__ import annotations

import base64
import datetime
import pathlib
import struct
import sys
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable, Mapping
from typing import Any

from .arrays import JSON
from .plain import FACTORIES, KIND, PATHS


class PlainDecoder:
    """Turns JSON back into values. `foreign` builds the kinds that `PlainEncoder`'s foreign callback wrote.

    Malformed input raises ValueError, KeyError, TypeError or OverflowError and never runs anything.
    """

    def __init__(self, foreign: Callable[[Mapping[str, JSON]], object]) -> None:
        self._foreign = foreign

    def decode(self, node: JSON) -> Any:
        """The value of `node`, which comes straight from the JSON parser."""
        if isinstance(node, list):
            return [self.decode(item) for item in node]
        if not isinstance(node, dict):
            return _name(node)
        kind = node.get(KIND)
        if kind is None:
            return {_name(key): self.decode(item) for key, item in node.items()}
        build = _BUILDERS.get(kind) if isinstance(kind, str) else None
        return self._foreign(node) if build is None else build(self, node)

    def items(self, node: Mapping[str, Any]) -> list[Any]:
        """The decoded members of a container."""
        return [self.decode(item) for item in node["items"]]

    def fill(self, target: Any, node: Mapping[str, Any]) -> Any:
        """Put the decoded pairs of a mapping into `target`; a key that comes twice is an error."""
        pairs = node["items"]
        for key, value in pairs:
            target[self.decode(key)] = self.decode(value)
        if len(target) != len(pairs):
            raise ValueError("a key comes twice in a mapping")
        return target


def _name(value: Any) -> Any:
    """A string that looks like a name is one object for all of a process, as in source text: pickle writes it once."""
    return sys.intern(value) if type(value) is str and value.isidentifier() else value


def _build_float(bits: str) -> float:
    return float(struct.unpack(">d", bytes.fromhex(bits))[0])


def _build_zone(zone: Any) -> datetime.timezone | None:
    return None if zone is None else datetime.timezone(datetime.timedelta(microseconds=zone[0]), *zone[1:])


def _build_datetime(decoder: PlainDecoder, node: Mapping[str, Any]) -> object:
    naive = datetime.datetime.fromisoformat(node["naive"])
    return naive.replace(fold=node["fold"], tzinfo=_build_zone(node["zone"]))


def _build_time(decoder: PlainDecoder, node: Mapping[str, Any]) -> object:
    naive = datetime.time.fromisoformat(node["naive"])
    return naive.replace(fold=node["fold"], tzinfo=_build_zone(node["zone"]))


def _build_ordered(decoder: PlainDecoder, node: Mapping[str, Any]) -> object:
    value = decoder.fill(OrderedDict(), node)
    if "_metadata" in node:
        value._metadata = decoder.decode(node["_metadata"])
    return value


def _build_default(decoder: PlainDecoder, node: Mapping[str, Any]) -> object:
    name = node["factory"]
    return decoder.fill(defaultdict(None if name is None else FACTORIES[name]), node)


def _build_set(kind: type) -> Callable[[PlainDecoder, Mapping[str, Any]], object]:
    def build(decoder: PlainDecoder, node: Mapping[str, Any]) -> object:
        items = decoder.items(node)
        members = kind(items)
        if len(members) != len(items):
            raise ValueError("a member comes twice in a set")
        return members

    return build


_BUILDERS: Mapping[str, Callable[[PlainDecoder, Mapping[str, Any]], object]] = {
    "int": lambda d, n: int(n["hex"], 16),
    "float": lambda d, n: _build_float(n["bits"]),
    "complex": lambda d, n: complex(*map(_build_float, n["bits"])),
    "str": lambda d, n: base64.b64decode(n["base64"], validate=True).decode("utf-8", "surrogatepass"),
    "bytes": lambda d, n: base64.b64decode(n["base64"], validate=True),
    "bytearray": lambda d, n: bytearray(base64.b64decode(n["base64"], validate=True)),
    "datetime": _build_datetime,
    "time": _build_time,
    "date": lambda d, n: datetime.date.fromisoformat(n["iso"]),
    "timedelta": lambda d, n: datetime.timedelta(microseconds=n["microseconds"]),
    "path": lambda d, n: PATHS.get(n["type"], pathlib.PurePosixPath)(d.decode(n["path"])),
    "tuple": lambda d, n: tuple(d.items(n)),
    "set": _build_set(set),
    "frozenset": _build_set(frozenset),
    "dict": lambda d, n: d.fill({}, n),
    "OrderedDict": _build_ordered,
    "defaultdict": _build_default,
    "Counter": lambda d, n: d.fill(Counter(), n),
    "deque": lambda d, n: deque(d.items(n), n["maxlen"]),
    "range": lambda d, n: range(*d.items(n)),
    "slice": lambda d, n: slice(*d.items(n)),
}


def refuse_foreign_node(node: Mapping[str, JSON]) -> object:
    """For trees that hold plain values only."""
    raise ValueError(f"unknown kind {node.get(KIND)!r}")
