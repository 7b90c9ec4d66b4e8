"""Compiling a script so that its training loops can be counted, left and found again.

`for x in E:` becomes `for x in map({}.get, ticks(site), items(E)):`. `map` asks `ticks` first, which is where a boundary
lies, then the items themselves, and `{}.get(None, item)` is the item: all of it runs in C, so an exception that E raises has
the traceback that it always had. `while C:` becomes a loop over `ticks(site)` that looks at C first. Every new node stands
where the one that it replaces stood, so lines, carets, debuggers and coverage stay right. The names live in `builtins`.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Sequence
from types import CodeType, FrameType

from backprop_core.script_state.program import (
    EVALUATION,
    Loop,
    Program,
    holds_step,
    is_generator,
    names_in,
)

TICKS = "__backprop_ticks__"
OVER = "__backprop_over__"
ITEMS = "__backprop_items__"
ELSE = "__backprop_else__"
MAP = "__backprop_map__"
GET = "__backprop_get__"
SINK = "__backprop_sink__"
ASKED = "__backprop_asked__"
LOOPED = "__backprop_looped__"
OTHER = "__backprop_other__"

_CONSUMERS = frozenset(
    {"all", "any", "dict", "enumerate", "filter", "frozenset", "list", "map", "max", "min", "set", "sorted", "sum", "tuple",
     "zip", "accumulate", "batched", "chain", "compress", "islice", "pairwise", "starmap", "takewhile", "zip_longest"}
)  # fmt: skip
"""Functions in C that ask their arguments for items, and show nobody what they ask."""
_OTHER_WAYS = frozenset({"send", "throw", "__next__"})
_HELD = (ast.Name, ast.Attribute, ast.Subscript)
"""What an iterator that the script holds is written as."""

_ASKS_AT_ITERABLE = sys.version_info >= (3, 12)

TYPE_CHECKING = False  # `typing`, and records with `dataclass`, would cost each script 8 ms
if TYPE_CHECKING:
    from typing import TypeVar

    _Node = TypeVar("_Node", bound=ast.AST)


class Site:
    """One loop of the script.

    Attributes:
        key: module, function and number of the loop in it; the same in every process.
        where: file and line, for people.
        trains: a training step can be reached through its body; else it is an evaluation, in which time may run out.
        holds_loops: its body leads to further loops that train, or to a step that may be a whole training.
        followed: more training can come after it in the same iteration of the loop around it.
        by_update: no marker of a known framework led here, only that variables are updated.
    """

    __slots__ = ("by_update", "followed", "holds_loops", "key", "trains", "where")

    def __init__(
        self,
        key: str,
        where: str,
        trains: bool,
        holds_loops: bool = False,
        followed: bool = False,
        by_update: bool = False,
    ) -> None:
        self.key, self.where, self.trains = key, where, trains
        self.holds_loops, self.followed, self.by_update = holds_loops, followed, by_update


class Rewritten:
    """A compiled file and the loops in it that are counted.

    Attributes:
        asks: iterators are asked in it, which is counted.
    """

    __slots__ = ("asks", "code", "sites")

    def __init__(self, code: CodeType, sites: list[Site], asks: bool) -> None:
        self.code, self.sites, self.asks = code, sites, asks


def rewrite(source: str | bytes, filename: str, module: str, program: Program) -> Rewritten:
    """Compile `source` with its training loops counted.

    Args:
        filename: as tracebacks show it.
        module: the first part of the sites' keys.

    Raises:
        SyntaxError, ValueError: as `compile` does.
    """
    counted, sites, asks = count_loops(ast.parse(source, filename), filename, module, program)
    return Rewritten(compile(counted, filename, "exec", dont_inherit=True), sites, asks)


def count_loops(
    tree: ast.Module, filename: str, module: str, program: Program
) -> tuple[ast.Module, list[Site], bool]:
    """`tree`, which is changed, with its training loops counted; those loops; whether iterators are asked in it."""
    transformer = _Counting(filename, module, program, _names_given(tree))
    counted = transformer.visit(tree)
    assert isinstance(counted, ast.Module)
    return counted, transformer.sites, transformer.asks


class _Counting(ast.NodeTransformer):
    def __init__(self, filename: str, module: str, program: Program, given: set[str]) -> None:
        self.sites: list[Site] = []
        self.asks = False
        self._given = given
        self._file = filename.rpartition("/")[2]
        self._module = module
        self._program = program
        self._scope: list[str] = []
        self._scopes: list[ast.AST] = []
        self._count: dict[str, int] = {}
        self._behind: list[Sequence[ast.stmt]] = []
        self._in_loop = 0

    # -- scopes ------------------------------------------------------------------------------------------------

    def _in_scope(self, node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) -> ast.AST:
        self._scope.append(node.name)
        self._scopes.append(node)
        behind, self._behind = self._behind, []
        in_loop, self._in_loop = self._in_loop, 0
        try:
            return self._visit_blocks(node)
        finally:
            self._in_loop = in_loop
            self._scope.pop()
            self._scopes.pop()
            self._behind = behind

    visit_FunctionDef = visit_AsyncFunctionDef = visit_ClassDef = _in_scope  # noqa: N815 - ast's names

    def visit_Module(self, node: ast.Module) -> ast.AST:
        self._scopes.append(node)
        return self._visit_blocks(node)

    def visit(self, node: ast.AST) -> ast.AST:
        if isinstance(node, ast.stmt) and not isinstance(
            node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
        ):
            if isinstance(node, ast.For | ast.While):
                return self._loop(node)
            return self._visit_blocks(node)
        visited: ast.AST = super().visit(node)
        return visited

    def _visit_blocks(self, node: ast.AST) -> ast.AST:
        """Visit the fields of `node`, statements knowing what stands behind them."""
        for name, value in ast.iter_fields(node):
            if isinstance(value, list) and value and isinstance(value[0], ast.stmt):
                setattr(node, name, self._block(value))
            elif isinstance(value, list):
                value[:] = [self.visit(one) if isinstance(one, ast.AST) else one for one in value]
            elif isinstance(value, ast.AST):
                setattr(node, name, self.visit(value))
        return node

    def _block(self, body: list[ast.stmt]) -> list[ast.stmt]:
        done: list[ast.stmt] = []
        for number, statement in enumerate(body):
            self._behind.append(body[number + 1 :])
            new = self.visit(statement)
            self._behind.pop()
            assert isinstance(new, ast.stmt)
            done.append(new)
        return done

    # -- iterators that the script holds -----------------------------------------------------------------------

    def visit_Call(self, node: ast.Call) -> ast.AST:
        """`next(x)` becomes `next(asked(x))`: what is raised has the traceback that it always had."""
        self.generic_visit(node)
        called = node.func
        if isinstance(called, ast.Name) and called.id == "next" and "next" not in self._given and node.args:
            if not isinstance(node.args[0], ast.Starred):
                node.args[0] = self._noted(ASKED, node.args[0])
        elif isinstance(called, ast.Attribute) and called.attr in _OTHER_WAYS:
            if isinstance(called.value, _HELD):
                called.value = self._noted(OTHER, called.value)
        elif self._consumes(called):
            node.args = [self._noted(LOOPED, one) if isinstance(one, _HELD) else one for one in node.args]
        return node

    def _consumes(self, called: ast.expr) -> bool:
        if isinstance(called, ast.Name):
            return called.id in _CONSUMERS and called.id not in self._given
        return (
            isinstance(called, ast.Attribute)
            and isinstance(called.value, ast.Name)
            and called.value.id == "itertools"
            and called.attr in _CONSUMERS
        )

    def visit_comprehension(self, node: ast.comprehension) -> ast.AST:
        """What a comprehension goes over is counted, too."""
        self.generic_visit(node)
        if isinstance(node.iter, _HELD) and not node.is_async:
            node.iter = self._noted(LOOPED, node.iter)
        return node

    def _noted(self, name: str, value: ast.expr) -> ast.expr:
        self.asks = True
        return _at(value, _call(name, value))

    # -- loops -------------------------------------------------------------------------------------------------

    def _loop(self, node: Loop) -> ast.AST:
        site = self._site(node)
        if site is None or (isinstance(node, ast.While) and _leaves_a_loop(node.orelse)):
            self._visit_blocks(node)
            if isinstance(node, ast.For) and isinstance(node.iter, _HELD):
                node.iter = self._noted(LOOPED, node.iter)
            return node
        # What follows inside the loop's own body ends with the iteration.
        behind, self._behind = self._behind, []
        self._in_loop += 1
        self._visit_blocks(node)
        self._in_loop -= 1
        self._behind = behind
        self.sites.append(site)
        if node.orelse and isinstance(node, ast.For):
            node.orelse = [_at(node.orelse[0], ast.If(_call(ELSE, ast.Constant(site.key)), node.orelse, []))]
        return self._counted_for(node, site) if isinstance(node, ast.For) else self._counted_while(node, site)

    def _site(self, node: Loop) -> Site | None:
        """The loop's site, or None where it is left as it is."""
        program, body = self._program, node.body
        header: list[ast.AST] = [node.iter if isinstance(node, ast.For) else node.test]
        trains = program.can_step(body) or (isinstance(node, ast.While) and holds_step(header))
        function = self._scopes[-1]
        if not trains and (is_generator(function) or not self._evaluates(body)):
            return None
        if program.by_update and is_generator(function):
            return None
        scope = ".".join(self._scope)
        number = self._count[scope] = self._count.get(scope, 0) + 1
        inner = [
            one
            for statement in body
            for one in ast.walk(statement)
            if isinstance(one, ast.For | ast.While) and program.can_step(one.body)
        ]
        return Site(
            key=f"{self._module}:{scope or '<module>'}#{number}",
            where=f"{self._file}:{node.lineno}",
            trains=trains,
            holds_loops=bool(inner) or program.can_loop(body),
            followed=trains and (self._is_followed() or any(program.can_loop(rest) for rest in self._behind)),
            by_update=trains and program.by_update,
        )

    def _is_followed(self) -> bool:
        """Whether more training can come when the function has returned; not where a loop around this one goes on."""
        names = [one.name for one in self._scopes if isinstance(one, ast.FunctionDef | ast.AsyncFunctionDef)]
        return self._in_loop == 0 and bool(names) and names[-1] in self._program.followed

    def _evaluates(self, body: list[ast.stmt]) -> bool:
        scope = self._scopes[-1]
        around = getattr(scope, "body", []) if not isinstance(scope, ast.Module) else body
        marks = names_in(around) | names_in(getattr(scope, "decorator_list", []))
        return bool(marks & EVALUATION) and any(
            isinstance(node, ast.Call) for s in body for node in ast.walk(s)
        )

    def _counted_for(self, node: ast.For, site: Site) -> ast.AST:
        items = ast.IfExp(_call(OVER), ast.Tuple([], ast.Load()), _call(ITEMS, node.iter))
        counted = _call(MAP, _name(GET), _call(TICKS, ast.Constant(site.key)), items)
        _at(node.iter, items)
        # Up to 3.11 what asks for the iterator stands at the whole statement, later at the iterable.
        node.iter = ast.copy_location(_at(node.iter, counted), node.iter if _ASKS_AT_ITERABLE else node)
        return node

    def _counted_while(self, node: ast.While, site: Site) -> ast.AST:
        body = node.body
        if not (isinstance(node.test, ast.Constant) and node.test.value):
            leave: list[ast.stmt] = [*node.orelse, ast.Break()]
            body = [_at(node.test, ast.If(ast.UnaryOp(ast.Not(), node.test), leave, [])), *body]
        target = ast.Attribute(_name(SINK), "tick", ast.Store())
        loop = ast.For(target, _call(TICKS, ast.Constant(site.key)), body, [], type_comment=None)
        made = ast.copy_location(loop, node)
        _at(node.test, target)
        _at(node.test, loop.iter)
        return made


def _leaves_a_loop(body: Sequence[ast.stmt]) -> bool:
    """Whether a `break` or `continue` in `body` means a loop around it."""
    pending: list[ast.AST] = list(body)
    while pending:
        node = pending.pop()
        if isinstance(node, ast.Break | ast.Continue):
            return True
        if not isinstance(
            node, ast.For | ast.While | ast.AsyncFor | ast.FunctionDef | ast.ClassDef | ast.Lambda
        ):
            pending.extend(ast.iter_child_nodes(node))
        elif isinstance(node, ast.For | ast.While | ast.AsyncFor):
            pending.extend(node.orelse)
    return False


def _names_given(tree: ast.Module) -> set[str]:
    """Names that the file gives a meaning of its own anywhere."""
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load):
            found.add(node.id)
        elif isinstance(node, ast.arg):
            found.add(node.arg)
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            found.add(node.name)
        elif isinstance(node, ast.ImportFrom) and node.module != "itertools":
            found |= {one.asname or one.name for one in node.names}
        elif isinstance(node, ast.Import):
            found |= {one.asname or one.name for one in node.names} - {"itertools"}
    return found


def calling_frame() -> FrameType:
    """The frame of the script that a function of ours was called from; in between lies nothing but C."""
    return sys._getframe(2)


def _name(name: str) -> ast.Name:
    return ast.Name(name, ast.Load())


def _call(name: str, *arguments: ast.expr) -> ast.Call:
    return ast.Call(_name(name), list(arguments), [])


def _at(place: ast.AST, node: _Node) -> _Node:
    """`node`, and what was made below it, at the place of `place`; what stood in the script keeps its own."""
    for one in _new_nodes(node):
        ast.copy_location(one, place)
    return node


def _new_nodes(node: ast.AST) -> list[ast.AST]:
    found, pending = [], [node]
    while pending:
        one = pending.pop()
        if hasattr(one, "lineno"):
            continue
        found.append(one)
        pending.extend(ast.iter_child_nodes(one))
    return found
