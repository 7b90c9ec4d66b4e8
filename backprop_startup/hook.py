"""Waits for the modules of frameworks that have no entry point of their own, and attaches to them once they are imported.

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


def install() -> None:
    """Wait for imports, in a script under `backprop run`. Never raises."""
    if not os.environ.get("BACKPROP_RUN_DIR"):
        return
    try:
        from backprop_core.attaching import may_attach

        wanted = {name: entry for name, entry in ATTACH_TO.items() if may_attach(entry[0])}
        if wanted:
            sys.meta_path.insert(0, _Waiting(wanted))
    except Exception as error:
        _say("the script", error)


class _Waiting(MetaPathFinder):
    """Finds nothing itself: it lets the others find, and asks to be told when the module is there."""

    def __init__(self, wanted: dict[str, tuple[str, str]]) -> None:
        self._wanted = wanted

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname not in self._wanted:
            return None
        framework, attachment = self._wanted.pop(fullname)
        spec = importlib.util.find_spec(fullname)
        if spec is not None and spec.loader is not None:
            spec.loader = _Telling(spec.loader, framework, attachment)
        return spec


class _Telling(Loader):
    """Loads as the module's own loader does, and attaches behind it."""

    def __init__(self, loader: Loader, framework: str, attachment: str) -> None:
        self._loader = loader
        self._framework = framework
        self._attachment = attachment

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        if module.__spec__ is not None:
            module.__spec__.loader = self._loader
        module.__loader__ = self._loader
        self._loader.exec_module(module)
        try:
            importlib.import_module(self._attachment).attach()
        except Exception as error:
            _say(self._framework, error)


def _say(framework: str, error: BaseException) -> None:
    from backprop_core.attaching import give_up

    give_up(framework, error)
