"""Folders that a script puts on `sys.path`, read from its text: its own modules lie there, and are read before it starts.

What is understood is what people write: `sys.path.append(os.path.join(os.path.dirname(__file__), ".."))`, `pathlib`, names
that the file itself gives such values. Anything else is left to the moment when the script has changed `sys.path`.
"""

from __future__ import annotations

import ast
import os
from operator import add, truediv
from pathlib import Path

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

_OF_PATHS: dict[str, Callable[..., Any]] = {
    "join": os.path.join,
    "dirname": os.path.dirname,
    "abspath": os.path.abspath,
    "realpath": os.path.realpath,
    "normpath": os.path.normpath,
    "expanduser": os.path.expanduser,
    "getcwd": os.getcwd,
    "Path": Path,
    "str": str,
    "fspath": os.fspath,
}
"""Functions that change nothing, by the last part of their names."""
_OF_A_PATH = frozenset({"resolve", "absolute", "as_posix", "expanduser"})
_MEMBERS = frozenset({"parent", "parents"})


class _UnknownError(Exception):
    """It cannot be told without running the script."""


def folders_put_on_path(tree: ast.Module, file: str) -> list[str]:
    """Absolute paths of the folders that `file` puts on `sys.path`, as far as its text tells; they may not exist."""
    names: dict[str, Any] = {"__file__": os.path.abspath(file)}
    found: list[str] = []
    for node in _in_order(tree):
        if isinstance(node, ast.Assign) and len(node.targets) == 1 and isinstance(node.targets[0], ast.Name):
            try:
                names[node.targets[0].id] = _value(node.value, names)
            except _UnknownError:
                names.pop(node.targets[0].id, None)
        for expression in _added(node):
            try:
                found.append(os.path.abspath(os.fspath(_value(expression, names))))
            except (_UnknownError, TypeError):
                continue
    return found


def _in_order(tree: ast.Module) -> Iterator[ast.stmt]:
    """Statements as they stand in the file, those of functions included."""
    pending: list[ast.AST] = [tree]
    while pending:
        node = pending.pop()
        if isinstance(node, ast.stmt):
            yield node
        pending.extend(reversed([one for one in ast.iter_child_nodes(node) if not isinstance(one, ast.expr)]))


def _added(node: ast.stmt) -> list[ast.expr]:
    """What this statement puts on `sys.path`."""
    if (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Call)
        and isinstance(node.value.func, ast.Attribute)
    ):
        call = node.value
        method, arguments = node.value.func.attr, call.args
        if _is_sys_path(node.value.func.value) and arguments:
            if method in ("append", "insert"):
                return arguments[-1:]
            if method == "extend":
                return _elements(arguments[0])
    if isinstance(node, ast.AugAssign) and _is_sys_path(node.target):
        return _elements(node.value)
    if isinstance(node, ast.Assign) and any(map(_is_sys_path, node.targets)):
        return [one for part in ast.walk(node.value) if isinstance(part, ast.List) for one in part.elts]
    return []


def _is_sys_path(node: ast.expr) -> bool:
    if isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Slice):  # sys.path[:0] = …
        node = node.value
    if not isinstance(node, ast.Attribute) or node.attr != "path":
        return False
    return isinstance(node.value, ast.Name) and node.value.id == "sys"


def _elements(node: ast.expr) -> list[ast.expr]:
    return list(node.elts) if isinstance(node, ast.List | ast.Tuple) else []


def _value(node: ast.expr, names: dict[str, Any]) -> Any:
    """What an expression of paths is.

    Raises:
        _UnknownError: it is made of something else.
    """
    try:
        return _READERS[type(node)](node, names)
    except (KeyError, TypeError, ValueError, IndexError, OSError, RuntimeError, AttributeError) as error:
        raise _UnknownError from error


def _constant(node: Any, _names: dict[str, Any]) -> Any:
    return node.value


def _name(node: Any, names: dict[str, Any]) -> Any:
    return names[node.id]


def _member(node: Any, names: dict[str, Any]) -> Any:
    if node.attr == "pardir":
        return os.pardir
    if node.attr not in _MEMBERS:
        raise _UnknownError
    return getattr(_path(node.value, names), node.attr)


def _item(node: Any, names: dict[str, Any]) -> Any:
    return _value(node.value, names)[_value(node.slice, names)]


def _combined(node: Any, names: dict[str, Any]) -> Any:
    left, right = _value(node.left, names), _value(node.right, names)
    return {ast.Div: truediv, ast.Add: add}[type(node.op)](left, right)


def _text(node: Any, names: dict[str, Any]) -> Any:
    return "".join(str(_value(one, names)) for one in node.values)


def _formatted(node: Any, names: dict[str, Any]) -> Any:
    if node.format_spec is not None or node.conversion != -1:
        raise _UnknownError
    return _value(node.value, names)


def _called(node: Any, names: dict[str, Any]) -> Any:
    function, given = node.func, [_value(one, names) for one in node.args]
    if node.keywords:
        raise _UnknownError
    if isinstance(function, ast.Attribute) and not given:
        if function.attr in _OF_A_PATH:
            return getattr(_path(function.value, names), function.attr)()
        if function.attr == "cwd":
            return Path.cwd()
    name = function.attr if isinstance(function, ast.Attribute) else _name_of(function)
    return _OF_PATHS[name](*given)


def _name_of(function: ast.expr) -> str:
    return function.id if isinstance(function, ast.Name) else ""


def _path(node: ast.expr, names: dict[str, Any]) -> Path:
    value = _value(node, names)
    if not isinstance(value, Path):
        raise _UnknownError
    return value


_READERS: dict[type, Callable[[Any, dict[str, Any]], Any]] = {
    ast.Constant: _constant,
    ast.Name: _name,
    ast.Attribute: _member,
    ast.Subscript: _item,
    ast.BinOp: _combined,
    ast.JoinedStr: _text,
    ast.FormattedValue: _formatted,
    ast.Call: _called,
}
