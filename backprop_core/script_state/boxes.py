"""Reading how a script uses time boxes: where they only stand around its loops, these can be counted like any others."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from enum import Enum

PACKAGE = "backprop"
_SETTINGS = frozenset(
    {"budget", "until", "checkpoint_every", "keep", "keep_every", "name", "grace", "strict"}
)
"""Keywords of `timebox` that say how a training is boxed, and not what belongs to it."""
_LOOKED_AT = frozenset({"outcome", "checkpoint", "remaining", "progress", "run_id", "resumed_from", "log"})
"""What a box shows, or is told, without a word on where the training is."""
_DRIVES = frozenset({"timebox", "TimeBox", "prove", "load_ipython_extension"})


class BoxUse(Enum):
    """How a file uses time boxes."""

    NONE = "none"
    SURROUNDS = "surrounds"
    """`with backprop.timebox():` around loops, and at most a look at the box inside."""
    DRIVES = "drives"
    """Its own loops, objects that are named, a callback: the script tells its boundaries itself."""


def box_use(tree: ast.Module) -> BoxUse:
    """How the file uses time boxes."""
    reading = _Reading()
    if not reading.imports(tree):
        return BoxUse.DRIVES
    if not reading.modules and not reading.makers:
        return BoxUse.NONE
    return BoxUse.SURROUNDS if reading.only_surrounds(tree) else BoxUse.DRIVES


class _Reading:
    def __init__(self) -> None:
        self.modules: set[str] = set()
        self.makers: set[str] = set()
        self.boxes: set[str] = set()

    def imports(self, tree: ast.Module) -> bool:
        """Learn what the file calls the package and `timebox`. False: it imports something that drives a training."""
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                for alias in node.names:
                    if alias.name == PACKAGE:
                        self.modules.add(alias.asname or alias.name)
                    elif _is_ours(alias.name):
                        return False
            elif isinstance(node, ast.ImportFrom) and not node.level and _is_ours(node.module or ""):
                if node.module != PACKAGE:
                    return False
                for alias in node.names:
                    if alias.name == "timebox":
                        self.makers.add(alias.asname or alias.name)
                    elif alias.name in _DRIVES - {"TimeBox"} or alias.name == "*":
                        return False
        return True

    def only_surrounds(self, tree: ast.Module) -> bool:
        """Whether boxes are made for `with` alone, and only looked at."""
        made: set[int] = set()
        for place, target in _places(tree):
            if isinstance(place, ast.Call) and self._makes(place.func):
                if target is not None and not isinstance(target, ast.Name):
                    return False
                if not self._says_how(place):
                    return False
                made.add(id(place.func))
                self.boxes |= {target.id} if target is not None else set()
        for place, target in _places(tree):  # with box as the_same
            if isinstance(place, ast.Name) and place.id in self.boxes:
                made.add(id(place))
                if isinstance(target, ast.Name):
                    self.boxes.add(target.id)
        return all(self._is_harmless(node, made) for node in ast.walk(tree)) and self._all_are_attributes(
            tree, made
        )

    def _makes(self, called: ast.expr) -> bool:
        if isinstance(called, ast.Name):
            return called.id in self.makers
        return (
            isinstance(called, ast.Attribute)
            and called.attr == "timebox"
            and isinstance(called.value, ast.Name)
            and called.value.id in self.modules
        )

    @staticmethod
    def _says_how(call: ast.Call) -> bool:
        return all(keyword.arg in _SETTINGS for keyword in call.keywords) and not any(
            isinstance(one, ast.Starred) for one in call.args
        )

    def _is_harmless(self, node: ast.AST, made: set[int]) -> bool:
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            if node.value.id in self.boxes:
                return node.attr in _LOOKED_AT
            if node.value.id in self.modules:
                return node.attr not in _DRIVES - {"TimeBox"} or id(node) in made
        if isinstance(node, ast.Name) and node.id in self.makers:
            return id(node) in made
        return True

    def _all_are_attributes(self, tree: ast.Module, made: set[int]) -> bool:
        """Whether nobody is handed a box, or the package itself."""
        asked = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
        return all(
            id(node) in asked or id(node) in made
            for node in ast.walk(tree)
            if isinstance(node, ast.Name)
            and isinstance(node.ctx, ast.Load)
            and node.id in self.boxes | self.modules
        )


def _places(tree: ast.Module) -> Iterator[tuple[ast.expr, ast.expr | None]]:
    """What stands behind `with`, and what is given a name, each with that name."""
    for node in ast.walk(tree):
        if isinstance(node, ast.With):
            for item in node.items:
                yield item.context_expr, item.optional_vars
        elif isinstance(node, ast.Assign) and len(node.targets) == 1:
            yield node.value, node.targets[0]


def _is_ours(module: str) -> bool:
    return module == PACKAGE or module.startswith((f"{PACKAGE}.", f"{PACKAGE}_"))
