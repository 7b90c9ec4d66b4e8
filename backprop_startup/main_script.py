"""Runs the script that Python was started with from code of ours, and its local modules, so that their loops are counted.

`python train.py` compiles its main file in C, where no import hook sees it. But Python first asks `sys.path_hooks` whether
the file is an archive with a `__main__` in it. The hook here says yes, once, for that one path; the code that it then gives
puts everything back as Python has it for a file (`__spec__`, `__file__`, `sys.path[0]`, tracebacks) and runs the script.
So torchrun's workers, accelerate's and everything else that starts `python FILE` needs nothing more.
"""

from __future__ import annotations

import os
import sys
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader

from backprop_core import contract

TYPE_CHECKING = False  # typing itself would cost the script 8 ms
if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import CodeType, ModuleType
    from typing import Any

    from backprop_startup.local_code import LocalCode


def install() -> None:
    """Rewrite the script that this interpreter is about to run, and local modules. Raises what goes wrong."""
    if os.environ.get(contract.NO_REWRITE) or sys.flags.interactive or sys.flags.inspect:
        return
    target = _module_asked_for()
    script = sys.argv[0] if target is None and sys.argv else ""
    if target is None and not _is_script(script):
        return
    from backprop_startup.local_code import LocalCode

    code = LocalCode(os.path.realpath(script) if script else "", target)
    if target is not None and not code.may_be_local(target):
        return  # a launcher, such as torchrun: its workers are asked for themselves
    sys.meta_path.insert(0, _LocalModules(code))
    if target is None:
        sys.path_hooks.insert(0, _MainFile(script, code).hook)


def _module_asked_for() -> str | None:
    """The module of `python -m MODULE`; other interpreters started so, such as a pool's workers, run a command."""
    words = sys.orig_argv
    if sys.argv[:1] != ["-m"]:
        return None
    asked = next((words[n + 1] for n, word in enumerate(words[:-1]) if word == "-m"), None)
    top = (asked or "").partition(".")[0]
    return None if not top or top in sys.stdlib_module_names else asked


def _is_script(path: str) -> bool:
    if path in ("", "-", "-c") or not os.path.isfile(path):
        return False
    with open(path, "rb") as file:
        source = file.read()
    # No archive, no compiled file, and nothing whose encoding Python has to complain of in its own words.
    return b"\0" not in source[:4096] and (
        _is_utf8(source) or any(b"coding" in line for line in source.split(b"\n", 2)[:2])
    )


def _is_utf8(source: bytes) -> bool:
    try:
        source.decode()
    except UnicodeDecodeError:
        return False
    return True


class _LocalModules:
    """A finder that has local modules compiled by us; all others are found as ever."""

    def __init__(self, code: LocalCode) -> None:
        self._code = code

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if not self._code.may_be_local(fullname):
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is not None and type(spec.loader) is SourceFileLoader and self._code.is_local(spec.origin):
            code = self._compiled(spec.loader, fullname)
            if (
                code is not None
            ):  # else Python loads it, and tells of its errors, without a frame of ours in between
                spec.loader = _Loader(fullname, spec.loader.path, code)
        return spec

    def _compiled(self, loader: SourceFileLoader, fullname: str) -> CodeType | None:
        try:
            source = loader.get_data(loader.path)
        except OSError:
            return None
        return self._code.compiled(loader.path, fullname, source)


class _Loader(SourceFileLoader):
    """Loads a local module with its loops counted. Such code is not written into `__pycache__`."""

    def __init__(self, fullname: str, path: str, code: CodeType) -> None:
        super().__init__(fullname, path)
        self._code = code

    def get_code(self, fullname: str) -> CodeType | None:
        return self._code


class _MainFile:
    """The way to the script for Python, which takes it for an archive that holds a `__main__`."""

    def __init__(self, path: str, code: LocalCode) -> None:
        self._path = os.path.abspath(path)
        self._code = code
        self._filename = self._path

    def hook(self, entry: str) -> _MainFile:
        if os.path.abspath(entry) != self._path:
            raise ImportError("not the script")
        self._filename = entry
        return self

    def find_spec(self, fullname: str, target: ModuleType | None = None) -> ModuleSpec | None:
        return ModuleSpec(fullname, self, origin=self._filename) if fullname == "__main__" else None  # type: ignore[arg-type]

    def create_module(self, spec: ModuleSpec) -> None:
        return None

    def exec_module(self, module: ModuleType) -> None:
        raise ImportError("only Python's start runs this")

    def get_code(self, fullname: str) -> CodeType:
        """What runpy executes in `__main__`: one call, that everything else happens in."""
        global _main
        _main = self
        return compile(f"__import__({__name__!r}, fromlist=['run']).run(globals())", "<backprop>", "exec")

    def run(self, names: dict[str, Any]) -> None:
        """Put things back as for a file, then run it in `names`."""
        for finder in (self.hook,):
            if finder in sys.path_hooks:
                sys.path_hooks.remove(finder)
        sys.path_importer_cache.pop(self._filename, None)
        _mend_path(self._filename)
        names.update(
            __file__=self._filename,
            __spec__=None,
            __package__=None,
            __cached__=None,
            __loader__=SourceFileLoader("__main__", self._filename),
        )
        with open(self._filename, "rb") as file:
            source = file.read()
        code = self._code.compiled(self._filename, "__main__", source)
        if code is None:
            code = _as_python_does(source, self._filename, names)
        from backprop_startup.ending import run_to_its_end

        run_to_its_end(code, names)


_main: _MainFile | None = None


def run(names: dict[str, Any]) -> None:
    """Called by the code that `_MainFile.get_code` gives."""
    assert _main is not None
    _main.run(names)


def _mend_path(filename: str) -> None:
    """Python put the supposed archive in front; for a file that is its folder, unless it was told to leave that out."""
    if sys.path and sys.path[0] == filename:
        del sys.path[0]
        if not sys.flags.safe_path:
            sys.path.insert(0, os.path.dirname(os.path.realpath(filename)))


def _as_python_does(source: bytes, filename: str, names: dict[str, Any]) -> CodeType:
    """The script as it is. A syntax error in it is told as Python tells it."""
    from backprop_startup.ending import tell_and_leave

    try:
        return compile(source, filename, "exec", dont_inherit=True)
    except (SyntaxError, ValueError) as error:
        return tell_and_leave(error, None)
