"""Objects in a checkpoint that torch's `weights_only` rules refuse: read without running their code, and found again.

Values of the standard library and of numpy that do nothing but hold data come back as they were. In place of any other class
or function stands one of ours that accepts everything and does nothing, so that the rest of the file can be read.
"""

from __future__ import annotations

import argparse
import collections
import datetime
import decimal
import fractions
import pathlib
import types
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import IO, Any

import numpy as np
import torch


class Refused:
    """Stands for an object whose class would have to be run: takes what its pickle does to it, and does nothing."""

    kind = ""

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        return object.__new__(cls if isinstance(cls, type) else type(cls))

    def __init__(self, *args: Any, **kwargs: Any) -> None: ...

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self

    def __setstate__(self, state: Any) -> None: ...

    def __eq__(self, other: object) -> bool:
        return (
            True  # torch asks in this way whether what is called or built is one of those that it was told of
        )

    def __hash__(self) -> int:
        return id(self)


def _harmless() -> dict[str, Any]:
    """Classes and functions that make data and do nothing else, by the name that a pickle gives them."""
    kinds: list[Any] = [
        *(pathlib.Path, pathlib.PosixPath, pathlib.PurePath, pathlib.PurePosixPath, pathlib.PureWindowsPath),
        *(datetime.date, datetime.datetime, datetime.time, datetime.timedelta, datetime.timezone),
        *(argparse.Namespace, types.SimpleNamespace, decimal.Decimal, fractions.Fraction, uuid.UUID),
        *(frozenset, range, slice, complex, bytearray),
        *(np.dtype, np.ndarray, *{type(np.dtype(code)) for code in np.typecodes["All"] if code != "O"}),
    ]
    names = {f"{kind.__module__}.{kind.__qualname__}": kind for kind in kinds}
    names |= {f"__builtin__.{kind.__name__}": kind for kind in (frozenset, range, slice, complex, bytearray)}
    names["__builtin__.xrange"] = range  # as protocol 2 calls it
    names["pathlib._local.PosixPath"] = pathlib.PosixPath  # Python 3.13's
    numpy_core = getattr(np, "_core", None) or np.core
    for package in ("numpy._core", "numpy.core"):
        names[f"{package}.multiarray.scalar"] = numpy_core.multiarray.scalar
        names[f"{package}.multiarray._reconstruct"] = numpy_core.multiarray._reconstruct
    return names


def readable(file: IO[bytes]) -> AbstractContextManager[Any]:
    """Inside, `torch.load(file, weights_only=True)` reads what it would refuse; see `named` for what it could not make.

    Does nothing before torch 2.6, which cannot tell what a file needs.
    """
    serialization: Any = torch.serialization
    asks: Callable[..., list[str]] | None = getattr(serialization, "get_unsafe_globals_in_checkpoint", None)
    if asks is None:
        return nullcontext()
    at = file.tell()
    try:
        names = asks(file)
    finally:
        file.seek(at)
    allowed = {name: _stand_in(name) for name in names} | _harmless()
    context: AbstractContextManager[Any] = serialization.safe_globals(
        [(made, name) for name, made in allowed.items()]
    )
    return context


def _stand_in(name: str) -> type[Refused]:
    return type(name.rpartition(".")[2], (Refused,), {"kind": name})


def named(value: Any) -> Iterator[str]:
    """The classes and functions in `value` that could not be made."""
    yield from _named(value, set())


def _named(value: Any, seen: set[int]) -> Iterator[str]:
    if isinstance(value, Refused) or (isinstance(value, type) and issubclass(value, Refused)):
        yield value.kind
        return
    if id(value) in seen:
        return
    seen.add(id(value))
    inside: list[Any] = []
    if isinstance(value, Mapping):
        inside = [*value.keys(), *value.values()]
    elif isinstance(value, list | tuple | set | frozenset | collections.deque):
        inside = list(value)
    elif isinstance(value, argparse.Namespace | types.SimpleNamespace):
        inside = list(vars(value).values())
    for one in inside:
        yield from _named(one, seen)
