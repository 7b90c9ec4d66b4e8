"""Values that never change themselves and that JSON does not know: numbers of the standard library, times in named zones,
and numbers and text of classes of the script's own. They are made again by Python's own constructors.
"""

from __future__ import annotations

import datetime
import sys
from collections.abc import Callable, Mapping
from typing import Any, Final

from backprop_core.script_state.attributes import attributes_of, class_reference, type_text

VALUE: Final = "value"
_TIMES: Final[Mapping[str, Any]] = {"datetime.datetime": datetime.datetime, "datetime.time": datetime.time}
_FORMS: Final[Mapping[str, Callable[[Any], Any]]] = {
    "decimal.Decimal": lambda value: [str(value)],
    "fractions.Fraction": lambda value: [value.numerator, value.denominator],
    "uuid.UUID": lambda value: [value.hex],
    "zoneinfo.ZoneInfo": lambda value: [value.key],
    "datetime.timezone": lambda value: list(value.__getinitargs__()),
}
STANDARD: Final = frozenset(_FORMS)
"""Classes of the standard library whose instances are such values; their constructors take the form."""
BASES: Final = (int, float, complex, str, bytes)
"""What a class of the script's may derive from to be a number or text."""
_PLAIN: Final[Mapping[str, Callable[[Any], Any]]] = {
    "int": int.__index__,
    "float": float.__float__,
    "complex": complex.__complex__,
    "str": str.__str__,
    "bytes": lambda value: bytes.__getitem__(value, slice(None)),
}
"""The number or text alone, read past all methods of its class."""


def written(value: Any) -> dict[str, Any] | None:
    """A form of plain values; None where there is none."""
    kind = type(value)
    name = type_text(kind)
    if name in _TIMES:
        return _zoned(value, name)
    if name in _FORMS:
        form = _FORMS[name](value)
        return None if None in form else {VALUE: name, "form": form}
    base = next((one.__name__ for one in BASES if issubclass(kind, one)), None)
    if base is None or attributes_of(value):
        return None
    return {VALUE: base, "form": [_PLAIN[base](value)], "class": class_reference(kind)}


def _zoned(value: Any, name: str) -> dict[str, Any] | None:
    zone = value.tzinfo
    if type_text(type(zone)) != "zoneinfo.ZoneInfo" or zone.key is None:
        return None
    return {VALUE: name, "form": [value.replace(tzinfo=None, fold=0).isoformat(), value.fold, zone.key]}


def read(form: Mapping[str, Any], named: Callable[[Any], Any]) -> Any:
    """What `written` was given.

    Args:
        named: finds a class of the script's.

    Raises:
        ValueError: it cannot be made here.
    """
    name, inner = str(form[VALUE]), form["form"]
    if "class" in form:
        kind, base = named(form["class"]), next(one for one in BASES if one.__name__ == name)
        if not (isinstance(kind, type) and issubclass(kind, base)):
            raise ValueError(f"{form['class'][-1]} is no {name} here")
        make: Any = base.__new__
        return make(kind, *inner)
    if name in _TIMES:
        naive, fold, key = inner
        zone = _standard("zoneinfo.ZoneInfo")(key)
        return _TIMES[name].fromisoformat(naive).replace(fold=fold, tzinfo=zone)
    if name == "datetime.timezone":
        offset, *rest = inner
        return datetime.timezone(offset, *rest)
    if name not in _FORMS:
        raise ValueError(f"a {name} is not known")
    return _standard(name)(*inner)


def _standard(name: str) -> Any:
    module, _, kind = name.rpartition(".")
    __import__(module)
    return getattr(sys.modules[module], kind)
