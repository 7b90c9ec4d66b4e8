"""New collections, generators and tuples; classes and functions found by name. No code of the script's runs here."""

from __future__ import annotations

import array
import random
import sys
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Mapping
from typing import Any, Final

from backprop_core.script_state.kinds import Kind, Kinds

_EMPTY: Final[Mapping[str, Any]] = {
    "builtins.list": list,
    "builtins.dict": dict,
    "builtins.set": set,
    "builtins.bytearray": bytearray,
    "collections.OrderedDict": OrderedDict,
    "collections.Counter": Counter,
}


class NotMadeError(Exception):
    """It cannot be made here; half a sentence says why."""


def empty(kind: Kind, data: Any, type_text: str) -> Any:
    """An empty collection of Python's own.

    Raises:
        NotMadeError: it is of a class of the script's or of a package.
    """
    if type_text == "collections.deque":
        return deque(maxlen=data["maxlen"])
    if type_text == "collections.defaultdict":
        return defaultdict(None)
    if type_text == "array.array":
        return array.array(data["code"])
    if type_text in _EMPTY:
        return _EMPTY[type_text]()
    raise NotMadeError(f"a {type_text.rpartition('.')[2]} of the script's own would have to be made")


def generator(state: Any, kinds: Kinds) -> Any:
    """A random generator of the kind whose state this is; its state is set later.

    Raises:
        NotMadeError: it is none that is known.
    """
    numpy, torch = sys.modules.get("numpy"), sys.modules.get("torch")
    if isinstance(state, Mapping) and {"version", "words"} <= state.keys():
        return random.Random()
    if numpy is not None and isinstance(state, Mapping) and "bit_generator" in state:
        bits = getattr(numpy.random, str(state["bit_generator"]), None)
        if isinstance(bits, type) and issubclass(bits, numpy.random.BitGenerator):
            return numpy.random.Generator(bits())
    if numpy is not None and isinstance(state, tuple):
        return numpy.random.RandomState()
    if torch is not None and isinstance(state, torch.Tensor):
        return torch.Generator()
    raise NotMadeError("it is a generator of a kind that cannot be made")


def tuple_of(members: list[Any], reference: Any, kinds: Kinds) -> Any:
    """A tuple, or a named one of the class that this process has.

    Raises:
        NotMadeError: the class is not here.
    """
    if reference is None:
        return tuple(members)
    kind = found_by_name(reference, kinds)
    if not (isinstance(kind, type) and issubclass(kind, tuple)):
        raise NotMadeError(f"{reference[-1]} is no tuple here")
    return tuple.__new__(kind, members)


def found_by_name(reference: Any, kinds: Kinds) -> Any:
    """A class or function that this process has loaded, by module and qualified name; nothing is imported.

    Raises:
        NotMadeError: it is not here.
    """
    module, name = (str(part) for part in reference)
    known = kinds.type_named(module, name)
    if known is not None:
        return known
    found: Any = sys.modules.get(module)
    for part in name.split("."):
        try:
            own = type.__dict__["__dict__"].__get__(found) if isinstance(found, type) else vars(found)
            found = own[part]
        except (KeyError, TypeError):
            raise NotMadeError(f"{name} is not defined here") from None
    return found
