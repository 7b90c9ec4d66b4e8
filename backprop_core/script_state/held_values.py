"""Objects of the standard library that hold a value of the script's where no attribute shows it: text in memory, numbers
shared with other processes, buffers, context variables; and some of which only can be seen that they changed.
"""

from __future__ import annotations

import contextvars
import ctypes
import functools
import gc
import io
import sys
import threading
import types
from collections.abc import Callable, Mapping
from typing import Any, Final

import xxhash

from backprop_core.script_state.attributes import attributes_of, classes_of, type_text

_MOST: Final = 64 << 20
_PLAIN: Final = frozenset({type(None), bool, int, float, complex, str, bytes})
_POINTERS: Final = frozenset("zZPOX")
_SHARED: Final = "multiprocessing.sharedctypes."
_C_TYPES: Final[tuple[type, ...]] = (
    ctypes.Structure,
    ctypes.Union,
    ctypes.Array,
    ctypes.c_int.__base__,  # type: ignore[assignment]
)


class CannotSayError(TypeError):
    """What it holds cannot be stored; `mark` differs once it has changed."""

    def __init__(self, why: str, mark: object) -> None:
        super().__init__(why)
        self.mark = mark


def holds_value(kind: type) -> bool:
    """Whether instances of `kind` are such objects."""
    if kind in _READ or type_text(kind) in _SEEN:
        return True
    if type_text(kind).startswith(_SHARED):
        return True
    return issubclass(kind, _C_TYPES) and _is_plain_memory(kind)


def held(value: Any) -> Any:
    """What it holds, as plain values.

    Raises:
        CannotSayError: it has no form that could be stored.
    """
    kind = type(value)
    if kind in _READ:
        return _READ[kind](value)
    seen = _SEEN.get(type_text(kind))
    if seen is not None:
        raise CannotSayError(*seen(value))
    return _bytes_of(value)


def put(value: Any, content: Any) -> None:
    """Have it hold what `held` told."""
    kind = type(value)
    if kind in (io.StringIO, io.BytesIO):
        if content is not None and not value.closed:
            text, place = content
            value.seek(0)
            value.truncate()
            value.write(text)
            value.seek(place)
    elif kind is contextvars.ContextVar:
        if content:
            value.set(content[0])
    elif kind is memoryview:
        value.cast("B")[:] = content
    else:
        inner = _c_object(value)
        ctypes.memmove(ctypes.addressof(inner), content, len(content))


def unfit(value: Any, content: Any) -> str:
    """Why it cannot hold that, as half a sentence, or nothing."""
    if type(content) is bytes:
        size = value.nbytes if type(value) is memoryview else ctypes.sizeof(_c_object(value))
        if size != len(content):
            return f"it was {len(content)} bytes long and is {size}"
    return ""


def digest(content: Any) -> bytes:
    """Of what `held` told."""
    seen = xxhash.xxh3_128()
    for one in content if type(content) in (list, tuple) else [content]:
        seen.update(one if type(one) is bytes else repr(one).encode("utf-8", "surrogatepass"))
    return bytes(seen.digest())


def cache_of(function: Any) -> dict[Any, Any] | None:
    """The results that a `functools.cache` has kept, where nothing limits their number; else None."""
    if (
        type(function) is not functools._lru_cache_wrapper
        or function.cache_parameters()["maxsize"] is not None
    ):
        return None
    own = function.__dict__
    found = [one for one in gc.get_referents(function) if type(one) is dict and one is not own]
    return found[0] if len(found) == 1 else None


def threads_of_the_script(is_scripts: Callable[[object], bool]) -> bool:
    """Whether another thread runs that may read and write what the script holds."""
    for thread in list(threading._active.values()):  # type: ignore[attr-defined]
        if thread is threading.current_thread() or thread is threading.main_thread():
            continue
        target = vars(thread).get("_target")
        if isinstance(target, types.MethodType):
            target = target.__func__
        module = getattr(target, "__module__", None)
        if is_scripts(type(thread)) or is_scripts(target) or module == "concurrent.futures.thread":
            return True
    return False


def wait_for_result(future: Any) -> None:
    """What an executor makes ahead of training is complete before it is looked at, or replaced; what takes longer is not."""
    if not future.done() and id(future) not in _SLOW:
        sys.modules["concurrent.futures"].wait([future], _PATIENCE_S)
        if not future.done():
            _SLOW.add(id(future))


def _text(value: Any) -> Any:
    if value.closed:
        return None
    if type(value) is io.BytesIO and value.getbuffer().nbytes > _MOST:
        raise CannotSayError("it is longer than 64 MB", [value.getbuffer().nbytes, value.tell()])
    return [value.getvalue(), value.tell()]


def _of_context(value: Any) -> Any:
    unset = object()
    now = value.get(unset)
    if now is unset:
        return []
    if type(now) not in _PLAIN:
        raise CannotSayError(f"it holds a {type(now).__name__}", id(now))
    return [now]


def _of_view(value: Any) -> Any:
    if value.readonly or not value.c_contiguous or value.nbytes > _MOST:
        raise CannotSayError("it is not a view of memory that can be written in one piece", [value.nbytes])
    return bytes(value)


def _c_object(value: Any) -> Any:
    return dict(attributes_of(value))["_obj"] if type_text(type(value)).startswith(_SHARED) else value


def _bytes_of(value: Any) -> bytes:
    inner = _c_object(value)
    if not _is_plain_memory(type(inner)) or ctypes.sizeof(inner) > _MOST:
        raise CannotSayError("it holds addresses in memory, or more than 64 MB", [ctypes.sizeof(inner)])
    return ctypes.string_at(ctypes.addressof(inner), ctypes.sizeof(inner))


def _is_plain_memory(kind: Any) -> bool:
    """Whether nothing in it is an address."""
    if issubclass(kind, ctypes.Array):
        return _is_plain_memory(kind._type_)
    if issubclass(kind, ctypes.Structure | ctypes.Union):
        fields = [field for one in classes_of(kind) for field in vars(one).get("_fields_", ())]
        return all(_is_plain_memory(field[1]) for field in fields)
    letter = getattr(kind, "_type_", None)
    return type(letter) is str and letter not in _POINTERS


def _of_weak(value: Any) -> tuple[str, object]:
    data: Any = dict(attributes_of(value)).get("data")
    pairs = list(data.items()) if type(data) is dict else [(one, None) for one in list(data or ())]
    mark = [tuple(one if type(one) in _PLAIN else id(one) for one in pair) for pair in pairs]
    return "it refers to objects without holding them", mark


def _of_frame(value: Any) -> tuple[str, object]:
    """Of a table of pandas: the memory of its columns, which are compared by some of their bytes where they are large."""
    manager = dict(attributes_of(value)).get("_mgr")
    seen: list[object] = [id(manager)]
    for block in getattr(manager, "blocks", ()):
        values = block.values
        seen.append(id(values))
        if (
            type_text(type(values)) == "numpy.ndarray"
            and not values.dtype.hasobject
            and values.nbytes <= _MOST
        ):
            seen.append(xxhash.xxh3_128(values.tobytes()).digest())
        elif type_text(type(values)) == "numpy.ndarray" and values.size <= _MOST >> 6:
            seen.append([one if type(one) in _PLAIN else id(one) for one in values.ravel().tolist()])
    return "its values lie in pandas' own memory", seen


def _of_cache(value: Any) -> tuple[str, object]:
    return "it keeps results that only the script's code can compute again", value.cache_info().currsize


FUTURE: Final = "concurrent.futures._base.Future"
OF_FUTURES: Final = frozenset({"_condition", "_state", "_exception", "_waiters", "_done_callbacks"})
"""Attributes of a future that belong to the process: all but its result."""
_PATIENCE_S: Final = 1.0
_SLOW: Final[set[int]] = set()
_READ: Final[Mapping[type, Callable[[Any], Any]]] = {
    io.StringIO: _text,
    io.BytesIO: _text,
    contextvars.ContextVar: _of_context,
    memoryview: _of_view,
}
_TABLES: Final = tuple(
    f"{module}.{name}"
    for module in ("pandas", "pandas.core.frame", "pandas.core.series")
    for name in ("DataFrame", "Series")
)
_SEEN: Final[Mapping[str, Callable[[Any], tuple[str, object]]]] = {
    "_queue.SimpleQueue": lambda value: ("its items can only be seen by taking them", value.qsize()),
    "weakref.WeakValueDictionary": _of_weak,
    "weakref.WeakKeyDictionary": _of_weak,
    "_weakrefset.WeakSet": _of_weak,
    "functools._lru_cache_wrapper": _of_cache,
    **dict.fromkeys(_TABLES, _of_frame),
}
MADE_EMPTY: Final[Mapping[str, Callable[[], Any]]] = {"_io.StringIO": io.StringIO, "_io.BytesIO": io.BytesIO}
"""Those that are made anew where the new process has none."""
