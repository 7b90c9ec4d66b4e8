"""`dataclass` as in the standard library, made in a fraction of its time.

A hundred records are made each time the command or a box starts. The standard library compiles six functions for each of
them, and a third of opening a box was that (docs/decisions/0037-quick-dataclasses.md). Here it only collects the fields;
one function is compiled, `__init__`, and the others are the same few for all classes. Type checkers see the original.

Of the original's options only those are taken that are used here. What it makes of a class is the same: equality and hash by
the compared fields, a `repr` that can be typed in, `FrozenInstanceError` where a frozen one is set, `replace`, `fields`,
`asdict`, `copy` and `pickle`. tests/backprop_core/test_quick_dataclass.py holds both side by side.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

__all__ = ["dataclass"]

if TYPE_CHECKING:
    from dataclasses import dataclass
else:
    import dataclasses
    from operator import attrgetter
    from reprlib import recursive_repr

    _set = object.__setattr__

    def dataclass(cls=None, /, *, frozen=False, slots=False, eq=True, repr=True):
        """Make `cls` a dataclass; see the standard library's."""
        if cls is None:
            return lambda cls: _made(cls, frozen, slots, eq, repr)
        return _made(cls, frozen, slots, eq, repr)

    def _made(cls, frozen, slots, eq, shown):
        cls.__doc__ = cls.__doc__ or cls.__name__  # else the original makes one of the signature, at length
        own = cls.__dict__
        added = {"__repr__": _repr} if shown and "__repr__" not in own else {}
        cls = dataclasses.dataclass(init=False, repr=False, eq=False)(cls)
        fields = dataclasses.fields(cls)
        if "__init__" not in own:
            added["__init__"] = _init(cls, frozen, slots)
        if frozen:
            added |= {"__setattr__": _refuse_to_set, "__delattr__": _refuse_to_delete}
        if eq and "__eq__" not in own:
            added["__eq__"] = _eq_over([field.name for field in fields if field.compare])
        if eq and own.get("__hash__") is None:
            hashed = [field.name for field in fields if (field.compare if field.hash is None else field.hash)]
            added["__hash__"] = _hash_over(hashed) if frozen else None
        if slots:
            return _with_slots(cls, [field.name for field in fields], added, frozen)
        for name, function in added.items():
            setattr(cls, name, function)
        return cls

    def _with_slots(cls, names, added, frozen):
        inherited = {name for base in cls.__mro__[1:] for name in getattr(base, "__slots__", ())}
        space = {name: value for name, value in cls.__dict__.items() if name not in names}
        for gone in ("__dict__", "__weakref__"):
            space.pop(gone, None)
        space |= added
        space["__slots__"] = tuple(name for name in names if name not in inherited)
        if frozen:
            space.setdefault("__getstate__", _state)
            space.setdefault("__setstate__", _set_state)
        made = type(cls)(cls.__name__, cls.__bases__, space)
        made.__qualname__ = cls.__qualname__
        return made

    def _init(cls, frozen, slots):
        known = {"_set": _set, "_factory": _FACTORY}
        by_place, by_name, body = [], [], []
        for field in dataclasses.fields(cls):
            name, value = field.name, field.name
            known[f"_default_{name}"] = field.default
            if field.default_factory is not dataclasses.MISSING:
                known[f"_make_{name}"] = field.default_factory
                value = (
                    f"_make_{name}() if {name} is _factory else {name}" if field.init else f"_make_{name}()"
                )
                default = "=_factory"
            elif field.default is not dataclasses.MISSING:
                default = f"=_default_{name}"
            else:
                default = ""
            if field.init:
                (by_name if field.kw_only else by_place).append(name + default)
            elif field.default_factory is dataclasses.MISSING:
                if not slots or field.default is dataclasses.MISSING:
                    continue  # the class holds its value
                value = f"_default_{name}"
            body.append(f"_set(self, {name!r}, {value})" if frozen else f"self.{name} = {value}")
        if hasattr(cls, "__post_init__"):
            body.append("self.__post_init__()")
        taken = ", ".join(["self", *by_place, *(["*", *by_name] if by_name else [])])
        exec(f"def __init__({taken}):\n " + "\n ".join(body or ["pass"]), known)
        made = known["__init__"]
        made.__qualname__ = f"{cls.__qualname__}.__init__"
        made.__module__ = cls.__module__
        return made

    class _Factory:
        def __repr__(self):
            return "<factory>"

    _FACTORY = _Factory()

    @recursive_repr()
    def _repr(self):
        shown = (
            f"{field.name}={getattr(self, field.name)!r}" for field in dataclasses.fields(self) if field.repr
        )
        return f"{type(self).__qualname__}({', '.join(shown)})"

    def _values_of(names):
        if len(names) == 1:
            get = attrgetter(*names)
            return lambda self: (get(self),)
        return attrgetter(*names) if names else lambda self: ()

    def _eq_over(names):
        values = _values_of(names)

        def __eq__(self, other):  # noqa: N807 - it becomes the method
            return values(self) == values(other) if other.__class__ is self.__class__ else NotImplemented

        return __eq__

    def _hash_over(names):
        values = _values_of(names)
        return lambda self: hash(values(self))

    def _refuse_to_set(self, name, value):
        raise dataclasses.FrozenInstanceError(f"cannot assign to field {name!r}")

    def _refuse_to_delete(self, name):
        raise dataclasses.FrozenInstanceError(f"cannot delete field {name!r}")

    def _state(self):
        return [getattr(self, field.name) for field in dataclasses.fields(self)]

    def _set_state(self, state):
        for field, value in zip(dataclasses.fields(self), state, strict=True):
            _set(self, field.name, value)
