"""Waits for the modules of frameworks: limits their GPU memory (`-g`), and attaches to those without an entry point.

Lightning (`callbacks_factory`) and torch (`torch.backends`) call us by themselves; torch before 2.5, or with its autoloading
switched off, does not. Installing costs one entry in `sys.meta_path`; whatever goes wrong is said in one line.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

ATTACH_TO = {
    "keras": ("keras", "backprop_keras.attach"),
    "torch": ("pytorch", "backprop_torch.attach"),
    "transformers.trainer": ("transformers", "backprop_transformers.attach"),
}
"""By module: the framework's name, and the module whose `attach()` is called when that module has been imported."""
LIMITED = {"tensorflow": "limit_tensorflow", "torch": "limit_torch"}
"""By module: the function of `gpu_memory` that is called first, where a limit was asked for, in every process of the run."""

_Step = tuple[str, str, str]
"""A framework's name, a module, and the function in it that is called."""


def install() -> None:
    """Wait for imports, in a script under `backprop run`. Never raises."""
    if not os.environ.get("BACKPROP_RUN_DIR"):
        return
    try:
        wanted = _wanted()
        if wanted:
            sys.meta_path.insert(0, _Waiting(wanted))
    except Exception as error:
        _say("the script", error)


def _wanted() -> dict[str, list[_Step]]:
    from backprop_core.attaching import may_attach

    wanted: dict[str, list[_Step]] = {}
    if os.environ.get("BACKPROP_GPU_MEMORY_LIMIT"):
        for name, function in LIMITED.items():
            wanted[name] = [(name, "backprop_startup.gpu_memory", function)]
    for name, (framework, attachment) in ATTACH_TO.items():
        if may_attach(framework):
            wanted.setdefault(name, []).append((framework, attachment, "attach"))
    return wanted


class _Waiting(MetaPathFinder):
    """Finds nothing itself: it lets the others find, and asks to be told when the module is there."""

    def __init__(self, wanted: dict[str, list[_Step]]) -> None:
        self._wanted = wanted

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname not in self._wanted:
            return None
        steps = self._wanted.pop(fullname)
        spec = importlib.util.find_spec(fullname)
        if spec is not None and spec.loader is not None:
            spec.loader = _Telling(spec.loader, steps)
        return spec


class _Telling(Loader):
    """Loads as the module's own loader does, and takes the steps behind it."""

    def __init__(self, loader: Loader, steps: list[_Step]) -> None:
        self._loader = loader
        self._steps = steps

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        if module.__spec__ is not None:
            module.__spec__.loader = self._loader
        module.__loader__ = self._loader
        self._loader.exec_module(module)
        for framework, name, function in self._steps:
            try:
                getattr(importlib.import_module(name), function)()
            except Exception as error:
                _say(framework, error)


def _say(framework: str, error: BaseException) -> None:
    from backprop_core.attaching import give_up

    give_up(framework, error)
