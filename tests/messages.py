"""Every sentence that our packages can show to a person, read from their source; `make messages` lists them in messages.txt.

A sentence is a string of two words or more that is neither a docstring nor a program, a pattern or a name.
The help of a command is its docstring.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
FILE = Path(__file__).with_suffix(".txt")
_PACKAGES = sorted(path.parent for path in ROOT.glob("backprop*/__init__.py"))
_LEFT_OUT = ("backprop_core/testing",)
"""Fakes and contract suites speak to developers."""
_WORDS = re.compile(r"[A-Za-z']{2,}[,.:;]?\s[A-Za-z{('\"]|\} [A-Za-z]{2,}|[A-Za-z]{2,}[,:;]? \{")
_PROGRAM = re.compile(
    r"^\s*(import |from \w+ import |SELECT |<\w|\(\?|#!)|\\[bsdwS]|\n\s*(def|import) |^\^|\{\}"
)


def sentences(module: Path) -> list[str]:
    """The sentences of one module in the order of its lines, holes in braces."""
    tree = ast.parse(module.read_text())
    skipped = _docstrings(tree)
    found: list[str] = []
    for node in _outermost_strings(tree):
        text = _text(node)
        if id(node) not in skipped and _WORDS.search(text) and not _PROGRAM.search(text):
            found.append(_one_line(text))
    return found + [_one_line(text) for text in _command_helps(tree)]


def whole() -> str:
    """The content of `tests/messages.txt`."""
    parts = []
    for package in _PACKAGES:
        for module in sorted(package.rglob("*.py")):
            name = module.relative_to(ROOT).as_posix()
            if not name.startswith(_LEFT_OUT) and (found := sentences(module)):
                parts.append("\n".join([name, *(f"  {text}" for text in found)]))
    return "\n\n".join(parts) + "\n"


def _outermost_strings(node: ast.AST) -> Iterator[ast.expr]:
    """Strings that stand in no other string; `a + b` of strings is one."""
    if _is_string(node):
        assert isinstance(node, ast.expr)
        yield node
        return
    for child in ast.iter_child_nodes(node):
        if not (isinstance(node, ast.Subscript) and child is node.slice):
            yield from _outermost_strings(child)


def _is_string(node: ast.AST) -> bool:
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return _is_string(node.left) or _is_string(node.right)
    return isinstance(node, ast.JoinedStr) or (isinstance(node, ast.Constant) and isinstance(node.value, str))


def _text(node: ast.expr) -> str:
    match node:
        case ast.Constant(value=str(value)):
            return value
        case ast.JoinedStr(values=values):
            return "".join(map(_text, values))
        case ast.FormattedValue(value=value):
            return "{" + _hole(value) + "}"
        case ast.BinOp(op=ast.Add()):
            return _text(node.left) + _text(node.right)
    return "{" + _hole(node) + "}"


def _hole(node: ast.expr) -> str:
    """What stands in a hole, as short as a reader needs it; words that it may bring are kept."""
    match node:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name
        case ast.Constant():
            return _text(node) if isinstance(node.value, str) else ast.unparse(node)
        case ast.IfExp(body=body, orelse=other):
            return f"{_hole(body)}|{_hole(other)}"
        case ast.JoinedStr() | ast.BinOp(op=ast.Add()):
            return _text(node)
        case ast.Call(func=ast.Name(id=name) | ast.Attribute(attr=name)):
            return f"{name}()"
    return ast.unparse(node)


def _docstrings(tree: ast.AST) -> set[int]:
    """Strings that stand as statements: docstrings of modules, classes, functions and attributes."""
    return {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}


def _command_helps(tree: ast.AST) -> Iterator[str]:
    """The docstring of a command is the help that its users read."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            decorators = " ".join(map(ast.unparse, node.decorator_list))
            if re.search(r"\b(command|group)\(", decorators) and (text := ast.get_docstring(node)):
                yield text


def _one_line(text: str) -> str:
    return re.sub(r"\s+", " ", text.replace("\b", "")).strip()


if __name__ == "__main__":
    FILE.write_text(whole())
    sys.stdout.write(f"{FILE.relative_to(ROOT)} is written: `git diff` shows which words have changed.\n")
