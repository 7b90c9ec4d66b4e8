"""Reading a script and its local modules: which of their loops a training step can be reached through. Nothing is executed.

Names are followed, not values: a function may train if its body holds a marker (`optimizer.step()`, `loss.backward()`, …) or
mentions the name of one that may. Too many loops found cost a fraction of a microsecond each iteration; one too few costs
its place on a resume. So in doubt a loop is counted.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator, Sequence

from backprop_core.script_state.boxes import BoxUse, box_use

STEP_ATTRIBUTES = frozenset(
    {
        "step",
        "backward",
        "apply_gradients",
        "minimize",
        "partial_fit",
        "train_on_batch",
        "value_and_grad",
        "grad",
        "grad_and_value",
        "filter_value_and_grad",
        "filter_grad",
    }
)
"""Methods by which the known frameworks take a training step or a gradient."""
STEP_NAMES = frozenset({"value_and_grad", "grad", "grad_and_value", "filter_value_and_grad", "filter_grad"})
"""The same, imported by their own names. They make a function that takes gradients: what it is called is followed, too."""
ARRAYS = frozenset(
    {"numpy", "scipy", "sklearn", "jax", "optax", "flax", "cupy", "autograd", "mlx", "torch", "tensorflow"}
)
"""Modules with which a training is a loop that updates variables. Without one of them no session opens for such a loop."""
_TRAINERS = frozenset({"lightning", "pytorch_lightning"})
_FIT_BY_METHOD = frozenset({"keras", "tensorflow"})
EVALUATION = frozenset({"no_grad", "inference_mode", "eval"})
"""What evaluations of the known frameworks begin with."""

FunctionNode = ast.FunctionDef | ast.AsyncFunctionDef
Loop = ast.For | ast.While
_SCOPES = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda)


class Program:
    """What is known about the functions of a script and of its local modules, by their bare names.

    Attributes:
        mentions: names that a function mentions, its own nested functions included.
        steps: functions that hold a marker of a training step.
        updates: functions that give a variable a value made from it.
        may_step: functions through which such a marker can be reached.
        may_loop: functions through which a loop can be reached that a training step can be reached through, or a step that
            is given a function and may be a whole training by itself (L-BFGS).
        followed: functions after whose end more training can come, in the same iteration of whatever loop calls them.
        any_step: some marker was seen; if none was, loops that update their variables are taken for trainings.
        any_arrays: something is imported that such a training needs.
        any_trainer: somebody else's loop trains, so that the script's own loops only prepare what it trains on.
        boxes: how the files use time boxes of ours.
    """

    def __init__(self) -> None:
        self.mentions: dict[str, set[str]] = {}
        self.steps: set[str] = set()
        self.updates: set[str] = set()
        self.may_step: set[str] = set()
        self.may_loop: set[str] = set()
        self.followed: set[str] = set()
        self.any_step = False
        self.any_arrays = self.any_trainer = False
        self.boxes: set[BoxUse] = set()
        self._blocks: list[tuple[str, Sequence[ast.stmt]]] = []

    def add(self, tree: ast.Module) -> None:
        """Learn the functions and classes of one more file."""
        for node in ast.walk(tree):
            if isinstance(node, FunctionNode | ast.ClassDef):
                self.mentions.setdefault(node.name, set()).update(names_in(node.body))
                if holds_step(node.body) or any(map(_names_gradient, node.decorator_list)):
                    self.steps.add(node.name)
                if updates_a_variable(node.body):
                    self.updates.add(node.name)
                if isinstance(node, FunctionNode):
                    self._blocks.append((node.name, node.body))
            elif isinstance(node, ast.Assign) and makes_gradient_function(node.value):
                self.steps.update(
                    name.rpartition(".")[2] for target in node.targets for name in _places(target)
                )
        self.any_step |= holds_step(tree.body)
        imported = modules_imported(tree)
        self.any_arrays |= any(name.partition(".")[0] in ARRAYS for name in imported)
        self.any_trainer |= _has_trainer(tree, imported)
        self.boxes.add(box_use(tree))
        self._blocks.append(("", tree.body))
        self._close()

    def _close(self) -> None:
        self.may_step = self._through(self.updates if self.by_update else self.steps)
        self.may_loop = self._through({name for name, body in self._blocks if self._holds_loop(body)})
        self._find_followed()

    def _through(self, found: set[str]) -> set[str]:
        """`found`, and all functions that mention one of them, directly or not."""
        found, grows = set(found), True
        while grows:
            more = {name for name, used in self.mentions.items() if used & found} - found
            found |= more
            grows = bool(more)
        return found

    def _holds_loop(self, body: Iterable[ast.stmt]) -> bool:
        return any(
            self._is_long_step(node)
            if isinstance(node, ast.Call)
            else isinstance(node, ast.For | ast.While) and self.can_step(node.body)
            for node in nodes_in(body)
        )

    def _is_long_step(self, node: ast.Call) -> bool:
        """`optimizer.step(closure)`: `scaler.step(optimizer)` and `scheduler.step(loss)` are given no function."""
        if not (isinstance(node.func, ast.Attribute) and node.func.attr == "step"):
            return False
        given = [*node.args, *(keyword.value for keyword in node.keywords)]
        functions = names_in(given) & self.mentions.keys()
        return bool(functions) or any(isinstance(one, ast.Lambda) for one in nodes_in(given))

    def can_loop(self, body: Iterable[ast.stmt]) -> bool:
        """Whether a loop that trains, or a step that may be a whole training, can be reached through `body`."""
        body = list(body)
        return self._holds_loop(body) or bool(names_in(body) & self.may_loop)

    def _find_followed(self) -> None:
        grows = True
        while grows:
            before = len(self.followed)
            for name, body in self._blocks:
                self._follow(body, behind=name in self.followed)
            grows = len(self.followed) > before

    def _follow(self, body: Sequence[ast.stmt], *, behind: bool) -> None:
        """Note whom the statements of `body` call, where more training comes behind them."""
        for number, statement in enumerate(body):
            if isinstance(statement, _SCOPES):
                continue
            later = behind or self.can_loop(body[number + 1 :])
            blocks = _blocks_of(statement)
            if later:
                self.followed |= names_in([statement]) & self.may_loop
            for inner in blocks:
                self._follow(inner, behind=later and not isinstance(statement, ast.For | ast.While))

    @property
    def by_update(self) -> bool:
        """Whether no marker is known to the script, so that what updates a variable is taken for a training step."""
        return self.any_arrays and not self.any_step and not self.any_trainer

    @property
    def boxes_surround(self) -> bool:
        """Whether there are time boxes, and all of them only stand around loops."""
        return BoxUse.SURROUNDS in self.boxes and BoxUse.DRIVES not in self.boxes

    @property
    def may_train(self) -> bool:
        """Whether any file has a loop that a training step can be reached through, or may have one without a framework."""
        return bool(self.may_loop) or self.by_update

    def can_step(self, body: Iterable[ast.stmt]) -> bool:
        """Whether a training step can be reached through `body`."""
        body = list(body)
        marked = updates_a_variable(body) if self.by_update else holds_step(body)
        return marked or bool(names_in(body) & self.may_step)


def _blocks_of(statement: ast.stmt) -> Iterator[Sequence[ast.stmt]]:
    for name in ("body", "orelse", "finalbody"):
        block = getattr(statement, name, None)
        if isinstance(block, list) and block:
            yield block
    for part in (*getattr(statement, "handlers", []), *getattr(statement, "cases", [])):
        yield part.body


def nodes_in(body: Iterable[ast.AST]) -> Iterator[ast.AST]:
    """Every node below the statements of `body`, functions and classes that are defined there included."""
    for statement in body:
        yield from ast.walk(statement)


def names_in(body: Iterable[ast.AST]) -> set[str]:
    """Names and attributes that are read below `body`."""
    found = set()
    for node in nodes_in(body):
        if isinstance(node, ast.Name):
            found.add(node.id)
        elif isinstance(node, ast.Attribute):
            found.add(node.attr)
    return found


def holds_step(body: Iterable[ast.AST]) -> bool:
    """Whether a marker of a training step stands in `body` itself."""
    for node in nodes_in(body):
        if isinstance(node, ast.Call):
            called = node.func
            if isinstance(called, ast.Attribute) and called.attr in STEP_ATTRIBUTES:
                return True
            if isinstance(called, ast.Name) and called.id in STEP_NAMES:
                return True
    return False


def makes_gradient_function(expression: ast.expr) -> bool:
    """Whether `jit(value_and_grad(loss))` or the like stands there; torch.autograd.grad(loss, weights) takes one itself."""
    for node in ast.walk(expression):
        if isinstance(node, ast.Call) and _last_name(node.func) in STEP_NAMES:
            alone = len(node.args) == 1 and all(word.arg != "inputs" for word in node.keywords)
            if alone or "value" in _last_name(node.func):
                return True
    return False


def _names_gradient(node: ast.expr) -> bool:
    """Whether `grad`, `jax.value_and_grad` or a call that mentions one stands there."""
    return any(
        _last_name(one) in STEP_NAMES for one in ast.walk(node) if isinstance(one, ast.Name | ast.Attribute)
    )


def _last_name(node: ast.AST) -> str:
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


def _has_trainer(tree: ast.Module, imported: Iterable[str]) -> bool:
    """Whether a Trainer of Lightning's or transformers', or `fit` of a Keras model, may do the training."""
    tops = {name.partition(".")[0] for name in imported}
    if tops & _TRAINERS or any(name.endswith("Trainer") for name in imported):
        return True
    fits = any(isinstance(node, ast.Attribute) and node.attr == "fit" for node in ast.walk(tree))
    return fits and bool(tops & _FIT_BY_METHOD)


def updates_a_variable(body: Iterable[ast.AST]) -> bool:
    """Whether `body` gives a variable a value that is made from it: `w -= g`, `params, state = update(params, state)`."""
    for node in nodes_in(body):
        if isinstance(node, ast.AugAssign):
            return True
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Call | ast.BinOp):
            stored = {name for target in node.targets for name in _places(target)}
            if stored & {_place(one) for one in ast.walk(node.value)}:
                return True
    return False


def _places(target: ast.expr) -> Iterator[str]:
    if isinstance(target, ast.Tuple | ast.List):
        for inner in target.elts:
            yield from _places(inner)
    elif place := _place(target):
        yield place


def _place(node: ast.AST) -> str:
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
        return f"{node.value.id}.{node.attr}"
    return ""


def is_generator(function: ast.AST) -> bool:
    """Whether the function yields by itself, not only through one that is defined inside it."""
    pending: list[ast.AST] = list(getattr(function, "body", []))
    while pending:
        node = pending.pop()
        if isinstance(node, ast.Yield | ast.YieldFrom):
            return True
        if not isinstance(node, _SCOPES):
            pending.extend(ast.iter_child_nodes(node))
    return False


def modules_imported(tree: ast.Module) -> set[str]:
    """Names of modules that a file imports anywhere; `from a import b` may name a module `a.b`, too."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = "." * node.level + (node.module or "")
            found.add(base)
            joined = base if not base or base.endswith(".") else f"{base}."
            found |= {f"{joined}{alias.name}" for alias in node.names if alias.name != "*"}
    return found
