"""What kind of thing a value is, decided by its type alone, so that nothing of the script's runs."""

from __future__ import annotations

import array
import datetime
import enum
import functools
import io
import logging
import random
import sys
import threading
import types
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Sequence
from enum import StrEnum
from typing import Any, Final

from backprop_core.checkpoints.arrays import Translator
from backprop_core.checkpoints.plain import PATHS
from backprop_core.ports.framework import Framework
from backprop_core.quick_dataclass import dataclass
from backprop_core.script_state.attributes import class_reference, classes_of, layout_of, own_names, type_text
from backprop_core.script_state.functions import CACHED, COMPILED, has_state
from backprop_core.script_state.held_values import (
    FUTURE,
    OF_FUTURES,
    holds_value,
    threads_of_the_script,
    wait_for_result,
)
from backprop_core.script_state.iterators import GENERATORS, ITERATORS, is_of_a_loader
from backprop_core.script_state.script_classes import is_of_the_script, is_the_scripts
from backprop_core.script_state.values import BASES, STANDARD


class Kind(StrEnum):
    """What is done with a value."""

    VALUE = "value"
    """Never changes itself, and is stored where it stands."""
    TUPLE = "tuple"
    """Never changes itself, but what is in it may."""
    FROZENSET = "frozenset"
    ENUM = "enum"
    LIST = "list"
    DICT = "dict"
    SET = "set"
    DEQUE = "deque"
    BYTES = "bytes"
    ARRAY = "array"
    RANDOM = "random"
    """A random generator."""
    STATE_DICT = "state_dict"
    """Of an installed package, with `state_dict` and `load_state_dict`."""
    INSTANCE = "instance"
    CLASS = "class"
    """A class of the script's, for the values that it keeps itself."""
    BOUND = "bound"
    """A method of an object, or a function with arguments: never stored, but what is bound may change."""
    ITERATOR = "iterator"
    CLOSURE = "closure"
    """A function of the script's, which keeps variables of the function around it."""
    NAMESPACE = "namespace"
    HANDLE = "handle"
    """Belongs to the process: a file, a thread, a logger, a function, a class. A new attempt has its own."""
    OPAQUE = "opaque"
    """Nothing can be seen of it from outside."""
    HELD = "held"
    """Holds a value where no attribute shows it: text in memory, a shared number, a buffer."""
    ELSEWHERE = "elsewhere"
    """The checkpoint has it already."""
    PART = "part"
    """An array whose elements the checkpoint has already: only which one it is and how it looks may change."""


MARSHALLED: Final = frozenset({type(None), bool, int, float, complex, str, bytes})
"""Values that `marshal` writes exactly, which is how they are compared."""
VALUES: Final = MARSHALLED | {
    range, slice, datetime.date, datetime.datetime, datetime.time, datetime.timedelta, *PATHS.values(),
}  # fmt: skip
_CONTAINERS: Final[Sequence[tuple[type, Kind]]] = (
    (list, Kind.LIST),
    (dict, Kind.DICT),
    (set, Kind.SET),
    (deque, Kind.DEQUE),
    (bytearray, Kind.BYTES),
    (array.array, Kind.BYTES),
    (tuple, Kind.TUPLE),
    (frozenset, Kind.FROZENSET),
)
_HANDLES: Final = (
    types.ModuleType, types.BuiltinFunctionType, types.FrameType, types.CodeType,
    types.TracebackType, types.MappingProxyType, types.EllipsisType, types.NotImplementedType,
    *GENERATORS, enumerate, zip, map, filter, type, io.IOBase,
    logging.Logger, logging.Handler, property, classmethod, staticmethod,
)  # fmt: skip
_HANDLE_PACKAGES: Final = frozenset(
    {"tqdm", "wandb", "tensorboard", "tensorboardX", "mlflow", "rich", "matplotlib", "IPython", "ray",
     "_pytest", "pluggy", "hypothesis", "ipykernel", "traitlets", "zmq", "jupyter_client",
     "backprop", "backprop_core", "backprop_torch", "backprop_lightning", "backprop_keras", "backprop_transformers",
     "backprop_fabric", "grpc", "sqlalchemy", "requests", "urllib3", "psutil",
     "aim", "clearml", "comet_ml", "dvclive", "loguru", "neptune", "neptune_scale", "sacred", "structlog", "swanlab",
     "trackio", "visdom"}
)  # fmt: skip
_ARRAY_PACKAGES: Final = frozenset({"numpy", "torch", "jax", "jaxlib", "tensorflow", "ml_dtypes"})
_QUEUES: Final = ("queue.Queue", "queue.LifoQueue", "queue.PriorityQueue")
"""Values of the script's, as long as no other thread of its own is there to fill them."""
_STANDARD_OBJECTS: Final = frozenset(
    {
        "argparse.Namespace",
        "types.SimpleNamespace",
        "collections.UserDict",
        "collections.UserList",
        "collections.ChainMap",
        "collections.UserString",
        "_thread._local",
        FUTURE,
        *_QUEUES,
    }
)
"""Instances of the standard library that hold a script's values. All others hold resources of the process."""
_SUMMARY_WRITER: Final = "torch.utils.tensorboard"
_TENSORFLOWS_EXECUTION: Final = "tensorflow.python.eager."
"""Traces of functions, tapes of gradients: made again by the next call."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How values of one type are handled.

    Attributes:
        kind: what is done with them.
        base: for containers the builtin type whose methods read and write them.
        dictionary: reads an instance's `__dict__`.
        members: descriptors of its `__slots__`, by name.
        text: the type's name.
        skip: attributes that are not looked at.
    """

    kind: Kind
    base: type | None = None
    dictionary: Callable[[object], dict[str, Any]] | None = None
    members: tuple[tuple[str, Any], ...] = ()
    text: str = ""
    skip: frozenset[str] = frozenset()


class Kinds:
    """Plans by type.

    Args:
        frameworks: they know their generators.
        translators: they know their arrays.
        iterators: whether iterators are looked at; else somebody else keeps their places.
    """

    def __init__(
        self, frameworks: Sequence[Framework], translators: Sequence[Translator], *, iterators: bool = True
    ) -> None:
        self.frameworks = frameworks
        self._iterators = iterators
        self.translators = translators
        self._plans: dict[type, Plan] = {}
        self._same_for_all: dict[type, Plan] = {}
        self._have_arrays: dict[type, bool] = {}

    def plan(self, value: object) -> Plan:
        """How `value` is handled."""
        return self._same_for_all.get(type(value)) or self._plan(value)

    def _plan(self, value: object) -> Plan:
        kind = type(value)
        plan = self._plans.get(kind)
        if plan is None:
            plan = self._plans[kind] = self._new(kind, value)
        if plan.text == FUTURE:
            wait_for_result(value)
        if plan.text in _QUEUES and threads_of_the_script(is_of_the_script):
            return Plan(Kind.HANDLE, text=plan.text)
        if kind is CACHED and not has_state(getattr(value, "__wrapped__", None), cached=True):
            return Plan(Kind.HANDLE, text=plan.text)
        if plan.kind is Kind.HANDLE and kind is types.FunctionType and has_state(value):
            return _CLOSURE
        if kind is types.BuiltinMethodType and type(value.__self__) not in (types.ModuleType, type):  # type: ignore[attr-defined]
            return _BOUND
        if plan.kind in _SAME_FOR_ALL and plan.text not in (FUTURE, *_QUEUES):
            self._same_for_all[kind] = plan
        return plan

    def plan_to_make(self, value: object, plan: Plan) -> Plan:
        """How an object is handled that no new process has: where a framework can make one, by its attributes."""
        if plan.kind not in (Kind.STATE_DICT, Kind.INSTANCE) or plan.skip:
            return plan  # of a module its class tells what is left out
        for framework in self.frameworks:
            told = framework.recipe(value)
            if told is not None:
                skip = plan.skip.union(told.get("without", ()))
                return Plan(Kind.INSTANCE, None, plan.dictionary, plan.members, plan.text, skip)
        return plan

    def type_named(self, module: str, name: str) -> type | None:
        """A class that was met, by module and qualified name; also one that is defined inside a function."""
        wanted = [module, name]
        return next((kind for kind in self._plans if class_reference(kind) == wanted), None)

    def translator(self, value: object) -> Translator | None:
        """The translator that knows `value`. Only values of packages that have arrays are asked for their class."""
        kind = type(value)
        has_arrays = self._have_arrays.get(kind)
        if has_arrays is None:
            packages = (type_text(one).partition(".")[0] for one in classes_of(kind))
            has_arrays = self._have_arrays[kind] = not _ARRAY_PACKAGES.isdisjoint(packages)
        if not has_arrays:
            return None
        return next((one for one in self.translators if one.handles(value)), None)

    def _new(self, kind: type, value: object) -> Plan:
        text = type_text(kind)
        if issubclass(kind, enum.Enum):
            return Plan(Kind.ENUM, text=text)
        for base, container in _CONTAINERS:
            if issubclass(kind, base):
                return _of_container(kind, base, container, text, self._skipped(kind) or frozenset())
        if kind in VALUES or text in STANDARD:
            return Plan(Kind.VALUE, text=text)
        if self._iterators and (kind in ITERATORS or is_of_a_loader(kind)):
            return Plan(Kind.ITERATOR, text=text)
        if kind in (types.MethodType, functools.partial) or text == COMPILED:
            return _BOUND
        return self._of_object(kind, value, text)

    def _of_object(self, kind: type, value: object, text: str) -> Plan:
        if holds_value(kind):
            return Plan(Kind.HELD, text=text)
        if issubclass(kind, (*_HANDLES, types.FunctionType)) or self._is_handle(kind, text):
            return Plan(Kind.HANDLE, text=text)
        # A variable of Keras' is looked into, though TensorFlow calls it a tensor.
        if self._skipped(kind) is None and self.translator(value) is not None:
            numpy = sys.modules.get("numpy")
            scalar = numpy is not None and issubclass(kind, numpy.generic)
            return Plan(Kind.VALUE if scalar else Kind.ARRAY, text=text)
        if issubclass(kind, BASES):
            return Plan(Kind.VALUE, text=text)
        if self._is_random(kind, value):
            own = layout_of(kind)[0] if is_the_scripts(kind) else None
            return Plan(Kind.RANDOM, None, own, (), text, _OF_RANDOM)
        return self._of_instance(kind, text)

    def _skipped(self, kind: type) -> frozenset[str] | None:
        """What is not looked at in a framework's object; None where none knows it. A Keras layer may be torch's, too."""
        told = [parts for one in self.frameworks if (parts := one.script_parts(kind)) is not None]
        return frozenset[str]().union(*told) if told else None

    def _is_random(self, kind: type, value: object) -> bool:
        numpy = sys.modules.get("numpy")
        known: tuple[type, ...] = (random.Random,)
        if numpy is not None and hasattr(numpy, "random"):
            known = (*known, numpy.random.Generator, numpy.random.RandomState, numpy.random.BitGenerator)
            known = (*known, numpy.random.SeedSequence)
        if issubclass(kind, known):
            return True
        named = kind.__name__ == "Generator" and kind.__module__.startswith("torch")
        return named and any(framework.adopt(value) is not None for framework in self.frameworks)

    @staticmethod
    def _is_handle(kind: type, text: str) -> bool:
        package = text.partition(".")[0]
        if package in _HANDLE_PACKAGES or text.startswith((_SUMMARY_WRITER, _TENSORFLOWS_EXECUTION)):
            return True
        if issubclass(kind, random.SystemRandom):  # it draws from the operating system, and has no state
            return True
        if text in _STANDARD_OBJECTS or package in (
            "__main__",
            "__mp_main__",
            "builtins",
            "random",
            "itertools",
        ):
            return False
        return package in sys.stdlib_module_names

    def _of_instance(self, kind: type, text: str) -> Plan:
        dictionary, members = layout_of(kind)
        skip = self._skipped(kind)
        if skip is None and _speaks(kind) and not is_the_scripts(kind):
            return Plan(Kind.STATE_DICT, None, dictionary, members, text)
        # None of an array's elements is among its attributes.
        is_array = hasattr(kind, "__dlpack__") and not is_the_scripts(kind)
        if is_array or (dictionary is None and not members):
            return Plan(Kind.OPAQUE, text=text)
        if text == FUTURE:
            skip = OF_FUTURES
        if issubclass(kind, threading.Thread):
            skip = (skip or frozenset()) | _of_threads()
        return Plan(Kind.INSTANCE, None, dictionary, members, text, skip or frozenset())


def _of_container(kind: type, base: type, container: Kind, text: str, skip: frozenset[str]) -> Plan:
    dictionary, members = layout_of(kind) if kind.__dictoffset__ else (None, ())
    if kind in (defaultdict, Counter):
        dictionary = None  # torch hangs the versions of the modules onto the OrderedDict of a state_dict
    return Plan(container, base, dictionary, members, text, skip)


@functools.cache
def _of_threads() -> frozenset[str]:
    """What a thread that runs keeps of itself: whether it has ended, say, which is another's fact in a new process."""
    return frozenset(vars(threading.Thread(name="backprop")))


_SAME_FOR_ALL: Final = (Kind.LIST, Kind.DICT, Kind.TUPLE, Kind.ARRAY, Kind.INSTANCE)
"""Kinds that follow from the type alone, but for a future and a queue. Of these a script has the most."""
_OF_RANDOM: Final = frozenset({"gauss_next"})
_CLOSURE: Final = Plan(Kind.CLOSURE, text="builtins.function")
_BOUND: Final = Plan(Kind.BOUND, text="builtins.method")


def _speaks(kind: type) -> bool:
    return all(
        any(name in own_names(one) for one in classes_of(kind)) for name in ("state_dict", "load_state_dict")
    )


def is_storable(value: Any) -> bool:
    """Whether a value that never changes has a form of its own in a checkpoint."""
    kind = type(value)
    if kind in (datetime.datetime, datetime.time):
        return value.tzinfo is None or type(value.tzinfo) is datetime.timezone
    if kind is slice:
        return {type(value.start), type(value.stop), type(value.step)} <= MARSHALLED
    return kind in VALUES or kind.__module__.partition(".")[0] in ("numpy", "ml_dtypes")
