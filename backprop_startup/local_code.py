"""Which code is the user's own, and how it is compiled: with its training loops counted, or not at all by us."""

from __future__ import annotations

import os
import sys

from backprop_core import contract

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import CodeType
    from typing import Any

    from backprop_core.script_state.program import Program

NEVER_LOCAL = frozenset(
    {"torch", "accelerate", "deepspeed", "lightning", "pytorch_lightning", "transformers", "keras", "tensorflow", "jax",
     "horovod", "ray", "coverage", "debugpy", "numpy", "sklearn"}
)  # fmt: skip
"""Frameworks and launchers: `python -m torch.distributed.run` starts the script, and is none itself."""
_MOST_FILES, _MOST_BYTES = 300, 4_000_000


class LocalCode:
    """The script, the modules beside it and below the working directory, and packages that the user has named.

    Args:
        script: the main file, or empty where a module is run.
        module: the module that is run, or None.
    """

    def __init__(self, script: str, module: str | None = None) -> None:
        self._named = {
            name for name in os.environ.get(contract.REWRITE_PACKAGES, "").split(",") if name
        } - NEVER_LOCAL
        roots = {os.path.realpath(os.getcwd())} | ({os.path.dirname(script)} if script else set())
        self._roots = [os.path.join(root, "") for root in roots]
        version = f"python{sys.version_info[0]}.{sys.version_info[1]}"
        platform = os.path.join(sys.exec_prefix, sys.platlibdir, version)
        # As `sysconfig` has them, which would cost each script 3 ms.
        libraries = (os.path.dirname(os.__file__), platform)
        self._standard = [os.path.join(os.path.realpath(library), "") for library in libraries]
        self._script, self._module = script, module
        self._program: Program | None = None
        self._seen: set[str] = set()
        self._size = 0
        self._here: dict[str, bool] = {}
        self._at_start = frozenset(sys.path)
        self._path = list(sys.path)
        self._added: list[str] = []

    def may_be_local(self, fullname: str) -> bool:
        """Quickly no for almost every import: a top-level module is local if its file or folder is."""
        top, _, _ = fullname.partition(".")
        if top in self._named:
            return True
        if sys.path != self._path:
            self._path = list(sys.path)
            self._add([entry for entry in sys.path if entry and entry not in self._at_start])
            self._here.clear()
        known = self._here.get(top)
        if known is None:
            known = (
                top not in sys.stdlib_module_names and not top.startswith("backprop") and self._is_here(top)
            )
            self._here[top] = known
        return known

    def _is_here(self, top: str) -> bool:
        for entry in (*sys.path, *self._added):
            folder = os.path.realpath(entry or ".")
            if os.path.isdir(os.path.join(folder, top)) or os.path.isfile(os.path.join(folder, f"{top}.py")):
                return self.is_local(os.path.join(folder, top))
        return False

    def is_local(self, path: str | None) -> bool:
        """Whether the file at `path` is the user's own code."""
        if path is None:
            return False
        path = os.path.realpath(path)
        parts = path.split(os.sep)
        if (
            "site-packages" in parts
            or "dist-packages" in parts
            or any(path.startswith(library) for library in self._standard)
        ):
            return bool(self._named & set(parts) or self._named & {parts[-1].removesuffix(".py")})
        return path.startswith((*self._roots, *self._added)) or bool(self._named & set(parts))

    def _add(self, folders: list[str]) -> None:
        """Take what lies in `folders`, which the script puts on `sys.path`, for its own."""
        for folder in folders:
            place = os.path.join(os.path.realpath(folder), "")
            parts = place.split(os.sep)
            packages = "site-packages" in parts or "dist-packages" in parts
            if (
                packages
                or place == os.sep
                or place.startswith(tuple(self._standard))
                or not os.path.isdir(place)
            ):
                continue
            if place not in self._added:
                self._added.append(place)
                from backprop_core.code_folders import add_folder

                for form in (
                    place,
                    os.path.join(os.path.abspath(folder), ""),
                ):  # modules have either in `__file__`
                    add_folder(form)
                self._here.clear()

    def compiled(self, path: str, fullname: str, source: bytes) -> CodeType | None:
        """`source` with its training loops counted; None where there are none, or it cannot be done, which is said."""
        try:
            program = self._whole_program(path, source)
            if program.may_train:
                self._follow_files()
            from backprop_core.script_state.rewrite import rewrite

            made = rewrite(source, path, fullname, program)
            if not made.sites and not (made.asks and program.may_train):
                return None
            from backprop_core.loop import rewritten_names

            rewritten_names.install(made.sites)
            if program.boxes_surround:
                from backprop_core.session.attach_rules import boxes_only_surround

                boxes_only_surround(_counted_box)
        except (SyntaxError, ValueError):
            return None  # Python tells of it in its own words
        except Exception as error:
            from backprop_core.session.attach_rules import give_up

            give_up(f"the loops of {os.path.basename(path)}", error)
            return None
        return made.code

    def _follow_files(self) -> None:
        from backprop_core.script_files.start import begin

        begin(self._roots)

    def _whole_program(self, path: str, source: bytes) -> Program:
        """What the script and all local modules that it imports hold; each file is read once, before it is compiled."""
        if self._program is None:
            from backprop_core.script_state.program import Program

            self._program = Program()
            # Python imports the package of a module before the module itself, which is where the training begins.
            asked = (self._module, f"{self._module}.__main__") if self._module else ()
            self._read([(file, None) for name in asked for file in self._files_of(name, path)], path)
        self._read([(path, source)], path)
        return self._program

    def _read(self, pending: list[tuple[str, bytes | None]], compiled: str) -> None:
        """Learn what these files and the local ones that they import hold.

        Raises:
            SyntaxError, ValueError: the file `compiled` is none of Python's.
        """
        import ast

        from backprop_core.script_state.program import modules_imported

        program = self._program
        assert program is not None
        while pending and len(self._seen) < _MOST_FILES and self._size < _MOST_BYTES:
            file, text = pending.pop()
            if (real := os.path.realpath(file)) in self._seen:
                continue
            self._seen.add(real)
            if text is None:
                with open(file, "rb") as opened:
                    text = opened.read()
            self._size += len(text)
            try:
                tree = ast.parse(text, file)
            except (SyntaxError, ValueError):
                if file == compiled:
                    raise
                continue
            program.add(tree)
            if b"sys.path" in text:
                from backprop_core.script_state.path_edits import folders_put_on_path

                self._add(folders_put_on_path(tree, file))
            pending += [
                (found, None) for name in modules_imported(tree) for found in self._files_of(name, file)
            ]

    def _files_of(self, name: str, importer: str) -> list[str]:
        """The files that `import name` reads, of those that are local; a relative name begins with dots."""
        dots = len(name) - len(name.lstrip("."))
        words = [word for word in name.lstrip(".").split(".") if word]
        if dots:
            folder = importer
            for _ in range(dots):
                folder = os.path.dirname(folder)
            folders = [folder]
        else:
            if not words or not self.may_be_local(words[0]):
                return []
            folders = [entry or "." for entry in sys.path]
            folders += [os.path.dirname(self._script), *self._added]
        found = []
        for folder in folders:
            place = folder
            for word in words or ["__init__"]:
                place = os.path.join(place, word)
                for file in (f"{place}.py", os.path.join(place, "__init__.py")):
                    if os.path.isfile(file) and self.is_local(file):
                        found.append(file)
        return found


def _counted_box(settings: Any) -> object:
    """A time box of the script's, which has been read to stand around its loops only."""
    from backprop_core.loop.counted_box import made_around_counted_loops

    return made_around_counted_loops(settings)
