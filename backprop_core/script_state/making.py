"""New collections, generators, tuples and plain instances; classes and functions by name. No code of the script's runs."""

from __future__ import annotations

import array
import random
import sys
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Mapping
from typing import Any, Final

from backprop_core.script_state.attributes import class_reference, classes_of, own_names, type_text
from backprop_core.script_state.held_values import FUTURE, MADE_EMPTY
from backprop_core.script_state.kinds import MARSHALLED, Kind, Kinds
from backprop_core.script_state.script_classes import is_the_scripts

_EMPTY: Final[Mapping[str, Any]] = {
    "builtins.list": list,
    "builtins.dict": dict,
    "builtins.set": set,
    "builtins.bytearray": bytearray,
    "collections.OrderedDict": OrderedDict,
    "collections.Counter": Counter,
    "keras.src.utils.tracking.TrackedList": list,
    "keras.src.utils.tracking.TrackedDict": dict,
    "keras.src.utils.tracking.TrackedOrderedDict": OrderedDict,
    "keras.src.utils.tracking.TrackedSet": set,
}
"""Collections by the names of their classes. Keras makes its own of those that are set on a model, to hear of layers."""
_DATA: Final = "dataclass"
_COMPLETE: Final = "complete future"
_MORE: Final = frozenset({"collections.deque", "collections.defaultdict", "array.array"})


def can_be_made(type_text: str) -> bool:
    """Whether there is an empty collection of this class without running code of the script's."""
    return type_text in _EMPTY or type_text in _MORE


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
    if type_text in MADE_EMPTY:
        return MADE_EMPTY[type_text]()
    if type_text in _EMPTY:
        return _EMPTY[type_text]()
    raise NotMadeError(f"a {type_text.rpartition('.')[2]} of the script would have to be created")


def plain_instance(type_text: str, slots: Mapping[str, Any]) -> Any:
    """An instance of an installed package's class without its attributes, all of which are in `slots`; its code is not run.

    Raises:
        NotMadeError: the class is the script's, not loaded, or more than its attributes; or one of these is a process's own.
    """
    short = type_text.rpartition(".")[2]
    kind = _class_called(type_text)
    if kind is None or is_the_scripts(kind) or not _is_made_by_object(kind):
        raise NotMadeError(f"a {short} would have to be created")
    if any(type(written) is dict and "handle" in written for written in slots.values()):
        raise NotMadeError(f"a {short} with something of the earlier process would have to be created")
    return object.__new__(kind)


def recipe_of(value: object, kinds: Kinds) -> dict[str, Any] | None:
    """How another process makes an object of the class of `value`, which is the script's or a framework's.

    A data class holds values, and its attributes are all that it is. A framework knows what its own objects are. Of all
    other classes of the script's nothing is made: what else their `__init__` does nobody knows.
    """
    kind = type(value)
    if type_text(kind) == FUTURE and value.done() and _is_found(kind, kinds):  # type: ignore[attr-defined]
        return {"by": _COMPLETE, "class": class_reference(kind)}
    for framework in kinds.frameworks:
        told = framework.recipe(value)
        if told is not None:
            base = kind if told.get("derived") is None else classes_of(kind)[1]
            known = _is_found(base, kinds)
            return (
                {"by": framework.name, "class": class_reference(base), "told": dict(told)} if known else None
            )
    reference = class_reference(kind)
    if not _is_found(kind, kinds):
        return None
    if "__dataclass_fields__" in own_names(kind) and is_the_scripts(kind) and _is_made_by_object(kind):
        return {"by": _DATA, "class": reference}
    return None


def _is_found(kind: Any, kinds: Kinds) -> bool:
    """Whether another process finds the class by its name."""
    try:
        return found_by_name(class_reference(kind), kinds) is kind
    except NotMadeError:
        return False


def made_by(recipe: Mapping[str, Any], kinds: Kinds) -> Any:
    """An object without its attributes, of a recipe of another process.

    Raises:
        NotMadeError: its class or framework is not here.
    """
    kind = found_by_name(recipe["class"], kinds)
    if recipe["by"] == _DATA:
        return object.__new__(kind)
    if recipe["by"] == _COMPLETE:
        future = kind()
        future.set_result(None)
        return future
    for framework in kinds.frameworks:
        if framework.name == recipe["by"]:
            return framework.made(kind, recipe["told"])
    raise NotMadeError(f"a {recipe['class'][-1]} would have to be made")


def _is_made_by_object(kind: type) -> bool:
    return not any("__new__" in own_names(one) for one in classes_of(kind) if one is not object)


def arguments_of(value: object) -> list[Any] | None:
    """What an installed package's class takes to make a `value` like this one: plain values, as its `__reduce__` tells."""
    kind = type(value)
    if is_the_scripts(kind) or kind.__reduce__ is object.__reduce__:
        return None
    try:
        told = kind.__reduce__(value)
    except Exception:
        return None
    if not (type(told) is tuple and len(told) == 2 and told[0] is kind and type(told[1]) is tuple):
        return None
    return list(told[1]) if all(type(one) in MARSHALLED for one in told[1]) else None


def made_of(type_text: str, arguments: list[Any]) -> Any:
    """An object of an installed package's class, of the arguments that it has told.

    Raises:
        NotMadeError: the class is the script's or not loaded, or does not take them.
    """
    kind, short = _class_called(type_text), type_text.rpartition(".")[2]
    if kind is None or is_the_scripts(kind):
        raise NotMadeError(f"a {short} would have to be created")
    try:
        return kind(*arguments)
    except Exception as error:
        raise NotMadeError(f"{short} could not be made: {type(error).__name__}") from None


def _class_called(type_text: str) -> type | None:
    words = type_text.split(".")
    for length in range(len(words) - 1, 0, -1):
        found: Any = sys.modules.get(".".join(words[:length]))
        for word in words[length:]:
            found = None if found is None else vars(found).get(word)
        if isinstance(found, type):
            return found
    return None


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
