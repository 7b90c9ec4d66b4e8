"""Waits for the modules of frameworks: limits their GPU memory (`-g`), and attaches to those without an entry point.

Lightning (`callbacks_factory`) and torch (`torch.backends`) call us by themselves; torch before 2.5, or with its autoloading
switched off, does not. Installing costs one entry in `sys.meta_path`; whatever goes wrong is said in one line.
"""

from __future__ import annotations

import os
import sys
from importlib import import_module

from backprop_core import contract

TYPE_CHECKING = False  # typing itself would cost the script 8 ms
if TYPE_CHECKING:
    from collections.abc import Sequence
    from importlib.machinery import ModuleSpec
    from types import ModuleType
    from typing import Any

ATTACH_TO = {
    "keras": ("keras", "backprop_keras.attach"),
    "torch": ("pytorch", "backprop_torch.attach"),
    "transformers.trainer": ("transformers", "backprop_transformers.attach"),
}
"""By module: the framework's name, and the module whose `attach()` is called when that module has been imported."""
LIMITED = {"tensorflow": "limit_tensorflow", "torch": "limit_torch"}
"""By module: the function of `gpu_memory` that is called first, where a limit was asked for, in every process of the run."""
EVENT_FILES = "tensorboard.summary.writer.event_file_writer"

_Step = tuple[str, str, str]
"""A framework's name, a module, and the function in it that is called."""


def install() -> None:
    """Wait for imports, in a script under `backprop run`. Never raises."""
    if not os.environ.get(contract.RUN_DIR):
        return
    try:
        _rewrite_the_script()
        _watch_imports()
        wanted = _wanted()
        if wanted:
            sys.meta_path.insert(0, _Waiting(wanted))
    except Exception as error:
        _say("the script", error)


def _rewrite_the_script() -> None:
    from backprop_core.session.attach_rules import may_rewrite

    if may_rewrite():
        from backprop_startup.main_script import install as install_main

        install_main()


def _watch_imports() -> None:
    from backprop_core.import_watch import watch_imports
    from backprop_core.session.attach_rules import is_helper

    if os.environ.get(contract.ATTEMPT) and not is_helper(sys.orig_argv):
        try:
            sys.meta_path.insert(0, watch_imports())
        except OSError:  # a notice comes too early, and nothing else is lost
            return


def _wanted() -> dict[str, list[_Step]]:
    from backprop_core.session.attach_rules import may_attach, may_rewrite

    wanted: dict[str, list[_Step]] = {}
    if os.environ.get(contract.GPU_MEMORY_LIMIT):
        for name, function in LIMITED.items():
            wanted[name] = [(name, "backprop_startup.gpu_memory", function)]
    _begin_unseeded(wanted)
    if may_rewrite():
        wanted[EVENT_FILES] = [
            ("tensorboard", "backprop_core.script_files.event_files", "tell_of_event_files")
        ]
    for name, (framework, attachment) in ATTACH_TO.items():
        if may_attach(framework, every_rank=framework != "keras"):
            wanted.setdefault(name, []).append((framework, attachment, "attach"))
    return wanted


def _begin_unseeded(wanted: dict[str, list[_Step]]) -> None:
    """Have random generators begin where the run's do, when their modules have been imported."""
    from backprop_core import unseeded
    from backprop_core.session.attach_rules import is_helper

    if not unseeded.may_begin() or is_helper(sys.orig_argv):
        return
    for name, function in unseeded.WAITED_FOR.items():
        if name in sys.modules:
            getattr(unseeded, function)()
        else:
            wanted.setdefault(name, []).append((name, "backprop_core.unseeded", function))


class _Waiting:
    """A finder on `sys.meta_path` that lets the others find, and has the loader tell when the module is there."""

    def __init__(self, wanted: dict[str, list[_Step]]) -> None:
        self._wanted = wanted

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname not in self._wanted:
            return None
        for finder in sys.meta_path:
            if finder is self or not hasattr(finder, "find_spec"):
                continue
            spec: ModuleSpec | None = finder.find_spec(fullname, path, target)
            if spec is not None:
                if spec.loader is not None:
                    spec.loader = _Telling(spec.loader, self._wanted, fullname)  # type: ignore[assignment]
                return spec
        return None


class _Telling:
    """Loads as the module's own loader does, and takes the steps behind it. Looking a module up takes none."""

    def __init__(self, loader: Any, wanted: dict[str, list[_Step]], name: str) -> None:
        self._loader = loader
        self._wanted = wanted
        self._name = name

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        made: ModuleType | None = self._loader.create_module(spec)
        return made

    def exec_module(self, module: ModuleType) -> None:
        if module.__spec__ is not None:
            module.__spec__.loader = self._loader
        module.__loader__ = self._loader
        self._loader.exec_module(module)
        for framework, name, function in self._wanted.pop(self._name, []):
            try:
                getattr(import_module(name), function)()
            except Exception as error:
                _say(framework, error)


def _say(framework: str, error: BaseException) -> None:
    from backprop_core.session.attach_rules import give_up

    give_up(framework, error)
