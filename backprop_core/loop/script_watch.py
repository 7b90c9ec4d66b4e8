"""The state of the script around a box: its globals, and the locals of its functions between `__main__` and the loop."""

from __future__ import annotations

import inspect
import os
import re
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import cache
from pathlib import Path
from types import FrameType, ModuleType
from typing import Any

from backprop_core import contract
from backprop_core.checkpoints.arrays import Translator
from backprop_core.code_folders import added_folders
from backprop_core.ports.framework import Framework, groups_in, stored_by
from backprop_core.script_state.arrays import copied
from backprop_core.script_state.baseline import FORMAT
from backprop_core.script_state.functions import is_script_file
from backprop_core.script_state.namespace import DictNamespace, FrameNamespace, Namespace
from backprop_core.script_state.process_settings import ProcessSettings
from backprop_core.script_state.state import Missing, ScriptState, Unkept

_MOST_MODULES = 200


class ScriptWatch:
    """Finds the script's frames anew each time, since they come and go.

    Args:
        objects: tells what the checkpoint holds already, by name.
        read_by_loops: see `ScriptState`.

    Attributes:
        settled: training has begun or goes on, so the baseline stays; until then each loop that begins is a new one.
        unkept: what had changed when the state was last taken, and is not in it.
        state: the walk that finds it.
    """

    def __init__(
        self,
        frameworks: Sequence[Framework],
        translators: Sequence[Translator],
        objects: Callable[[], Mapping[str, object]],
        read_by_loops: Callable[[], Collection[int] | None] = tuple,
    ) -> None:
        self._frameworks = frameworks
        self._objects = objects
        self._stored: Sequence[Callable[[object], bool]] = ()
        self.settled = False
        self._beginning: Any = None
        settings = ProcessSettings(frameworks)
        self.state = ScriptState(
            lambda: [*script_namespaces(sys._getframe(1)), *groups_in(frameworks, objects()), settings],
            tracked_elsewhere=lambda value: any(stored(value) for stored in self._stored),
            frameworks=frameworks,
            translators=translators,
            read_by_loops=read_by_loops,
        )

    def look(self) -> None:
        """A loop begins, or may begin: things are remembered as they are now, or once training has begun those functions
        that were not running before.
        """
        self._refresh()
        if self.settled:
            self.state.extend_baseline()
        else:
            self.state.begin_anew()

    def capture(self) -> dict[str, Any]:
        """What the script has changed, without copying."""
        self._refresh()
        return self.state.changed()

    def restore(self, saved: Mapping[str, Any]) -> list[Missing]:
        """Put back what `capture` gave; what could not be.

        Raises:
            StateMismatchError: it does not fit; nothing was changed.
        """
        self.look()
        self.settled = True
        if self._beginning is None:
            self.state.hold(code_runs=True)  # batches are made again, and it is put back again
            self.state.expect(saved)
            self._beginning = copied(self.state.changed())
        return self.state.restore(saved).missing

    def let_go(self) -> None:
        """Training goes on: what was put back is not put back again."""
        self.state.let_go()

    def restore_earlier(self, saved: Mapping[str, Any]) -> None:
        """Put back what `capture` gave earlier in the run than what was put back last: what differs since is as it was."""
        if self._beginning is not None:
            self.state.restore(self._beginning)
        self.state.restore(saved)

    @property
    def unkept(self) -> list[Unkept]:
        return self.state.unkept()

    def _refresh(self) -> None:
        objects = self._objects()
        self._stored = stored_by(self._frameworks, objects)
        known = {id(value) for value in objects.values()}
        if not self._frameworks:
            self._stored = [lambda value: id(value) in known]


def script_namespaces(frame: FrameType | None, *, loops_counted: bool = True) -> list[Namespace]:
    """The globals of the script's own modules and the locals of its running functions, outermost first.

    Args:
        loops_counted: whether the loops in them are.
    """
    frames: list[FrameType] = []
    while frame is not None:
        if is_script_file(frame.f_code.co_filename):
            frames.append(frame)
        frame = frame.f_back
    frames.reverse()
    found: dict[str, Namespace] = {}
    for module in _script_modules():
        _add_globals(found, vars(module), loops_counted)
    for one in frames:
        _add_globals(found, one.f_globals, loops_counted)
    for one in frames:
        if one.f_code.co_flags & inspect.CO_OPTIMIZED:
            name, count = f"{one.f_code.co_name}()", 2
            while name in found:
                name, count = f"{one.f_code.co_name}()~{count}", count + 1
            found[name] = FrameNamespace(one, name, loops_counted=loops_counted)
    return list(found.values())


def _add_globals(found: dict[str, Namespace], values: dict[str, Any], loops_counted: bool) -> None:
    module = values.get("__name__")
    name = "main" if module in ("__main__", "__mp_main__") else str(module)
    if name not in found:
        skip = notebooks_own(values) if "get_ipython" in values else frozenset()
        found[name] = DictNamespace(values, name, skip=skip, loops_counted=loops_counted)


_NOTEBOOK = frozenset(
    {"In", "Out", "_ih", "_oh", "_dh", "_", "__", "___", "_i", "_ii", "_iii", "get_ipython", "exit", "quit"}
)


_NUMBERED = re.compile(r"_i?\d+")


def notebooks_own(values: Mapping[str, Any]) -> frozenset[str]:
    """Names that are IPython's own: its history, and `_7` or `_i7` for each cell, which another kernel numbers anew."""
    return _NOTEBOOK.union(name for name in list(values) if _NUMBERED.fullmatch(name))


def _script_modules() -> list[ModuleType]:
    """`__main__` and the modules that lie beside it, or below the working directory."""
    main = sys.modules.get("__main__")
    path = None if main is None else vars(main).get("__file__")
    if main is None or not isinstance(path, str) or not is_script_file(path):
        return []
    return [main, *_modules_beside(path).look()[:_MOST_MODULES]]


def modules_beside_script() -> list[str]:
    """Names of the script's own modules, without `__main__`: they may hold state whether a loop trains in them or not."""
    return [module.__name__ for module in _script_modules()[1:] if sys.modules.get(module.__name__) is module]


_NEVER_THE_SCRIPTS = frozenset(
    {"__main__", "__mp_main__", "torch", "torchvision", "torchaudio", "torchmetrics", "lightning", "pytorch_lightning",
     "transformers", "accelerate", "datasets", "diffusers", "peft", "trl", "timm", "keras", "tensorflow", "jax",
     "flax", "optax", "numpy", "scipy", "sklearn", "pandas"}
)  # fmt: skip
"""Frameworks, which people also have as a folder of sources below their own."""


class ModulesBeside:
    """The modules that lie beside a script, or below the directory that it was started in, `python scripts/train.py`.
    Each is judged once: a program has thousands, and this is asked at each copy.
    """

    def __init__(self, script: str) -> None:
        folders = {Path(script).resolve().parent, Path.cwd().resolve()}
        self._folders = tuple(f"{folder}/" for folder in folders if folder != folder.parent)
        self._named = frozenset(os.environ.get(contract.REWRITE_PACKAGES, "").split(",")) - {""}
        self._added: tuple[str, ...] = ()
        self._judged: Mapping[str, object] = {}
        self._beside: set[str] = set()

    def look(self) -> list[ModuleType]:
        """All that are there now, in the order in which they came."""
        if self._added != added_folders():
            self._added, self._judged = added_folders(), {}
        modules, judged, beside = sys.modules.copy(), self._judged, self._beside
        for name, module in modules.items():
            if judged.get(name) is not module:
                beside.discard(name)
                top = name.partition(".")[0]
                named = top in self._named and type(module) is ModuleType
                if named or (top not in _NEVER_THE_SCRIPTS and self._lies_here(module)):
                    beside.add(name)
        self._judged = modules
        return [module for name, module in modules.items() if name in beside] if beside else []

    def _lies_here(self, module: object) -> bool:
        if type(module) is not ModuleType:
            return False
        path = vars(module).get("__file__")
        return (
            isinstance(path, str) and path.startswith((*self._folders, *self._added)) and is_script_file(path)
        )


@cache
def _modules_beside(script: str) -> ModulesBeside:
    return ModulesBeside(script)


class CountedScriptWatch(ScriptWatch):
    """The variables of a script whose loops are counted: it is known which of them can be read again."""

    def __init__(self, state: ScriptState) -> None:
        self.state = state
        self.settled = True
        self._beginning = {"format": FORMAT, "nodes": [], "paths": {}}  # nothing is asked for it

    def look(self) -> None:
        """The baseline is taken when the first loop that trains begins."""

    def let_go(self) -> None:
        """The script is brought to its place loop by loop, and lets go when it is there."""

    def capture(self) -> dict[str, Any]:
        return self.state.changed()
