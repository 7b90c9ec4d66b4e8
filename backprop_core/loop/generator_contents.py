"""What generators hold in their own variables: taken for a checkpoint, compared after a generator was asked again, put back.

A generator that is made anew and asked as often as before stands at the same place of its code. But what it has drawn on the
way, such as the order of an epoch, it drew between other draws: training's. So the values are put into the same variables.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from types import CodeType, GeneratorType
from typing import Any, Final

import xxhash

from backprop_core.loop.asked_iterators import generators_in, inside, iterators_in
from backprop_core.script_state.arrays import write
from backprop_core.script_state.kinds import Kinds
from backprop_core.script_state.liveness import live_names
from backprop_core.script_state.namespace import FrameNamespace

_PLAIN: Final = (int, float, complex, str, bytes, bool, type(None))
_OVER_SEQUENCES: Final = frozenset({"list_iterator", "tuple_iterator", "iterator"})
"""Python's iterators over what it holds in a list, a tuple, or an array, whose `__reduce__` shows it."""
_DEEP: Final = 6
_GENERATORS_DEEP: Final = 4
_MOST_BYTES: Final = 8 << 20
"""Arrays of more are compared alone: what deals a data set holds the order, and whoever reads a file into a variable does so
again."""


class GeneratorContents:
    """Takes and puts back what the generators inside an iterator hold.

    Args:
        kinds: they know arrays.
    """

    def __init__(self, kinds: Kinds) -> None:
        self._kinds = kinds

    def digest(self, iterator: Any, *, whole: bool = True) -> str:
        """Of what they hold in variables that they will read again.

        Args:
            whole: also of the generators that they ask, and of what their loops go over, where earlier versions did not.
        """
        held: list[Any] = []
        for generator in _all_generators(iterator) if whole else generators_in(iterator):
            if generator.gi_frame is None:
                held.append(None)
            else:
                live = sorted(_live(generator).items())
                held.append([live, *_sequences(generator)] if whole else live)
        return self.digest_of(held)

    def digest_of(self, value: Any) -> str:
        """Of plain values and arrays, in collections; of anything else only its kind."""
        digest = xxhash.xxh3_128()
        self._feed(digest, value, _DEEP)
        return str(digest.hexdigest())

    def _feed(self, digest: Any, value: Any, deep: int) -> None:
        kind = type(value)
        digest.update(kind.__name__.encode())
        if kind in _PLAIN:
            digest.update(repr(value).encode("utf-8", "surrogatepass"))
        elif deep and kind in (list, tuple):
            for one in value:
                self._feed(digest, one, deep - 1)
        elif deep and kind is dict:
            for key, one in value.items():
                self._feed(digest, key, deep - 1)
                self._feed(digest, one, deep - 1)
        else:
            translator = self._kinds.translator(value)
            if translator is not None:
                for dense in translator.take_apart(value).arrays.values():
                    digest.update(dense.view())

    def taken(self, iterator: Any) -> list[dict[str, Any]]:
        """By generator: its place in its code, its variables, and what its loops go over. References, no copies."""
        left, found = _MOST_BYTES, []
        for generator in _all_generators(iterator):
            one: dict[str, Any] = {"at": -1, "names": {}, "over": []}
            if generator.gi_frame is not None:
                one["at"] = generator.gi_frame.f_lasti
                given = _only_given(generator.gi_code)
                for name, value in _live(generator).items():
                    size = None if name in given else self._size(value, _DEEP)
                    if size is not None and size <= left:
                        left -= size
                        one["names"][name] = value
                for value in _sequences(generator):
                    size = self._size(value, _DEEP)
                    fits = size is not None and size <= left
                    left -= size if fits and size is not None else 0
                    one["over"].append([value] if fits else [])
            found.append(one)
        return found

    def put(self, iterator: Any, saved: Sequence[Mapping[str, Any]]) -> None:
        """What `taken` has given, into generators that stand at the same places; into others nothing."""
        generators = _all_generators(iterator)
        if len(generators) != len(saved):
            return
        for generator, one in zip(generators, saved, strict=True):
            if generator.gi_frame is None or generator.gi_frame.f_lasti != one["at"]:
                continue
            space, here = FrameNamespace(generator.gi_frame, "generator"), _live(generator)
            for name, value in one["names"].items():
                if name in here and not self._is_put_into(here[name], value):
                    space.set(name, value)
            for there, kept in zip(_sequences(generator), one["over"], strict=False):
                if kept:
                    self._is_put_into(there, kept[0])

    def _is_put_into(self, there: Any, value: Any) -> bool:
        """Change `there` in place, or find it the same; False: another has to take its place."""
        kind = type(there)
        if kind is not type(value):
            return False
        if self.digest_of(there) == self.digest_of(value):
            return True
        if kind is list:
            there[:] = value
        elif kind is dict:
            there.clear()
            there.update(value)
        elif kind is tuple and len(there) == len(value):
            return all(self._is_put_into(*pair) for pair in zip(there, value, strict=True))
        elif self._kinds.translator(there) is not None and _can_be_written(there, value):
            write(there, value)
        else:
            return False
        return True

    def _size(self, value: Any, deep: int) -> int | None:
        """Bytes of a value that can be stored; None where it cannot."""
        kind = type(value)
        if kind in _PLAIN:
            return 64 + (len(value) if kind in (str, bytes) else 0)
        if kind in (list, tuple, dict):
            if not deep:
                return None
            every = [*value, *value.values()] if kind is dict else value
            total = 64
            for one in every:
                size = self._size(one, deep - 1)
                if size is None or total > _MOST_BYTES:
                    return None
                total += size
            return total
        translator = self._kinds.translator(value)
        if translator is None:
            return None
        return sum(dense.nbytes for dense in translator.take_apart(value).arrays.values())


def _all_generators(iterator: Any, deep: int = _GENERATORS_DEEP) -> list[GeneratorType[Any, Any, Any]]:
    """Those inside `iterator`, each followed by those that it asks itself."""
    found: list[GeneratorType[Any, Any, Any]] = []
    for generator in generators_in(iterator):
        found.append(generator)
        if deep and generator.gi_frame is not None and not generator.gi_running:
            for held in gc.get_referents(generator):
                known = {id(one) for one in found}
                found += [one for one in _all_generators(held, deep - 1) if id(one) not in known]
    return found


def _live(generator: GeneratorType[Any, Any, Any]) -> dict[str, Any]:
    """The variables that it will read again, by name."""
    frame: Any = generator.gi_frame  # it has one: it is not over
    live = live_names(frame.f_code, frame.f_lasti)
    return {name: value for name, value in FrameNamespace(frame, "generator").items() if name in live}


@lru_cache(maxsize=1000)
def _only_given(code: CodeType) -> frozenset[str]:
    """The arguments that a function is called with and does not set: whoever calls it again gives them again."""
    import dis

    arguments = frozenset(code.co_varnames[: code.co_argcount + code.co_kwonlyargcount])
    set_by_it: set[str] = set()
    for step in dis.get_instructions(code):
        if step.opname.startswith("STORE_FAST"):  # from Python 3.13 on some set two
            set_by_it |= set(step.argval) if isinstance(step.argval, tuple) else {step.argval}
    return arguments - set_by_it


def _sequences(generator: GeneratorType[Any, Any, Any]) -> Iterator[Any]:
    """What its loops go over, where nothing else may hold it: `for i in torch.randperm(9).tolist()`."""
    for held in inside(generator):
        for iterator in (held, *iterators_in(held)):
            if type(iterator).__name__ in _OVER_SEQUENCES and type(iterator).__module__ == "builtins":
                _, arguments, *place = iterator.__reduce__()
                if arguments and place:  # one that is over holds an empty one
                    yield arguments[0]


def _can_be_written(there: Any, value: Any) -> bool:
    return (
        getattr(there, "shape", None) == getattr(value, "shape", 0)
        and getattr(there, "dtype", None) == getattr(value, "dtype", 0)
        and (hasattr(there, "copy_") or type(there).__module__.partition(".")[0] == "numpy")
        and not getattr(there, "requires_grad", False)
        and getattr(getattr(there, "flags", None), "writeable", True)
    )
