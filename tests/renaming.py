"""A framework of another version: one name of a package is another one, everywhere in it, and its code works as before."""

from __future__ import annotations

import gc
import inspect
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import CodeType, FunctionType
from typing import Any
from unittest import mock


@contextmanager
def renamed(packages: tuple[str, ...], name: str) -> Iterator[int]:
    """Inside, `name` is called otherwise in all loaded modules of `packages`; how many places of code say so."""
    other = f"{name}_as_of_another_version"
    functions = [
        one for one in gc.get_objects() if type(one) is FunctionType and _is_of(packages, one.__module__)
    ]
    count = sum(_rename(function, name, other) for function in functions)
    owners = [owner for owner in _owners(packages) if name in vars(owner)]
    for owner in owners:
        _move(owner, name, other)
    try:
        yield count + len(owners)
    finally:
        for owner in owners:
            _move(owner, other, name)
        for function in functions:
            _rename(function, other, name)


def _is_of(packages: tuple[str, ...], module: Any) -> bool:
    return isinstance(module, str) and any(module == one or module.startswith(f"{one}.") for one in packages)


def _owners(packages: tuple[str, ...]) -> list[Any]:
    modules = [module for name, module in list(sys.modules.items()) if _is_of(packages, name)]
    kinds = {
        id(value): value
        for module in modules
        for value in list(vars(module).values())
        if isinstance(value, type) and _is_of(packages, value.__module__)
    }
    return [*modules, *kinds.values()]


def _move(owner: Any, name: str, other: str) -> None:
    value = vars(owner)[name]
    setattr(owner, other, value)
    delattr(owner, name)


def _rename(function: Any, name: str, other: str) -> bool:
    code = _renamed_code(function.__code__, name, other)
    if code is function.__code__:
        return False
    function.__code__ = code
    return True


def _renamed_code(code: CodeType, name: str, other: str) -> CodeType:
    consts = tuple(
        _renamed_code(one, name, other) if isinstance(one, CodeType) else one for one in code.co_consts
    )
    names = tuple(other if one == name else one for one in code.co_names)
    same = names == code.co_names and all(a is b for a, b in zip(consts, code.co_consts, strict=True))
    return code if same else code.replace(co_names=names, co_consts=consts)


@contextmanager
def hidden(name: str) -> Iterator[int]:
    """The same for us alone: for a name that other packages and users' classes share, so that it cannot be another."""
    original = inspect.getattr_static

    def getattr_static(owner: Any, attribute: str, *default: Any) -> Any:
        return default[0] if attribute == name and default else original(owner, attribute, *default)

    with mock.patch("inspect.getattr_static", getattr_static):
        yield 1
