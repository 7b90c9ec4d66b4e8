"""A copy of the working directory for each run of a proof: nothing of the user's is touched, and nothing is left behind."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import field
from pathlib import Path

import xxhash

from backprop_core.errors import UsageError
from backprop_core.quick_dataclass import dataclass

LIMIT_BYTES = 2 << 30
_LEFT_OUT = frozenset(
    {".git", ".hg", "__pycache__", "node_modules", ".backprop", ".pytest_cache", ".mypy_cache"}
)
_READ_BYTES = 1 << 20


@dataclass(slots=True)
class Scratch:
    """Copies of `source` at one place, `work`, made anew for each run: paths are the same in all of them.

    Args:
        source: the user's working directory.
        work: where its copy lies.
        limit_bytes: more is not copied.
    """

    source: Path
    work: Path
    limit_bytes: int = LIMIT_BYTES
    _as_copied: dict[str, tuple[int, int]] = field(default_factory=dict)
    _at_first: dict[str, tuple[int, int]] = field(default_factory=dict)

    def measure(self) -> int:
        """Bytes that a copy takes.

        Raises:
            UsageError: more than the limit.
        """
        self._at_first = dict(_looks(self.source))
        total = sum(size for size, _ in self._at_first.values())
        if total > self.limit_bytes:
            largest = max(self._at_first, key=lambda name: self._at_first[name][0])
            raise UsageError(
                f"{self.source} holds {_size(total)}, and a proof works in a copy of at most "
                f"{_size(self.limit_bytes)}; the largest file is {largest}.",
                "Move data out of it and give the script its absolute path, or allow more with --copy-limit.",
            )
        return total

    def make(self) -> None:
        """A fresh copy."""
        self.remove()
        self.work.mkdir(parents=True)
        for name in _files(self.source):
            target = self.work / name
            target.parent.mkdir(parents=True, exist_ok=True)
            if (self.source / name).is_symlink():
                target.symlink_to(self._leads_to(name))
            else:
                with suppress(PermissionError):  # the script could not read it either
                    shutil.copy2(self.source / name, target)
        for folder in _folders(self.source):
            (self.work / folder).mkdir(parents=True, exist_ok=True)
        self._as_copied = dict(_looks(self.work))

    def _leads_to(self, name: str) -> str:
        """Where the copy of a link leads: into the copy where the link leads into the source, else where it leads."""
        written = str((self.source / name).readlink())
        place = os.path.normpath((self.source / name).parent / written)
        inside = self._inside(place)
        if inside is None:
            return place
        return str(self.work / inside) if written.startswith("/") else written

    def _inside(self, place: str) -> str | None:
        """`place` as seen from the source; None where it is not in it."""
        if place == str(self.source):
            return "."
        return place[len(str(self.source)) + 1 :] if place.startswith(f"{self.source}/") else None

    def there(self, word: str) -> str:
        """A word of a command line, for the copy: where it names a place, alone or behind `=`, it leads to the same one."""
        head, equals, tail = word.partition("=")
        path = tail if equals else head
        place = os.path.normpath(self.source / path)
        inside = self._inside(place)
        if inside is None:  # a path from the copy would lead to another place
            path = place if path.startswith("../") or path == ".." else path
        elif self._is_not_copied(inside):
            path = place
        elif path.startswith(("/", "../")):
            path = str(self.work / inside)
        return f"{head}={path}" if equals else path

    def _is_not_copied(self, inside: str) -> bool:
        parts = Path(inside).parts
        return any(_is_left_out(self.source.joinpath(*parts[: at + 1])) for at in range(len(parts)))

    def remove(self) -> None:
        """No copy any more."""
        shutil.rmtree(self.work, ignore_errors=True)

    def written(self) -> dict[str, str]:
        """Digests of the files that the script has written or changed in the copy, by name."""
        return {
            name: _digest(self.work / name)
            for name, look in _looks(self.work)
            if self._as_copied.get(name) != look
        }

    def touched(self) -> list[str]:
        """Files of the user's own that have changed since `measure`: the script knows their place by an absolute path.

        Not those that our own output goes to.
        """
        now = dict(_looks(self.source))
        names = {name for name in {*now, *self._at_first} if now.get(name) != self._at_first.get(name)}
        return sorted(name for name in names if not _is_our_output(self.source / name))


def pattern_of(name: str) -> str:
    """A file's name without what changes from run to run: process ids, times, random words."""
    return re.sub(r"[0-9a-f]{8,}|\d+", "#", name)


def differing_files(first: Mapping[str, str], second: Mapping[str, str]) -> frozenset[str]:
    """Patterns of the names of files that two whole runs did not write alike."""
    return frozenset(pattern_of(name) for name in {*first, *second} if first.get(name) != second.get(name))


def _files(folder: Path) -> Iterator[str]:
    for place, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not _is_left_out(Path(place, name))]
        linked = [name for name in folders if Path(place, name).is_symlink()]
        for name in [*files, *linked]:
            path = Path(place, name)
            if path.is_symlink() or os.path.isfile(path):  # noqa: PTH113 - see below
                yield str(path.relative_to(folder))


def _folders(folder: Path) -> Iterator[str]:
    for place, folders, _ in os.walk(folder):
        folders[:] = [name for name in folders if not _is_left_out(Path(place, name))]
        yield from (
            str(Path(place, name).relative_to(folder))
            for name in folders
            if not Path(place, name).is_symlink()
        )


def _is_left_out(path: Path) -> bool:
    """What no training reads: caches, version control, virtual environments."""
    return path.name in _LEFT_OUT or os.path.isfile(path / "pyvenv.cfg")  # noqa: PTH113 - of a folder that may be locked


def _looks(folder: Path) -> Iterator[tuple[str, tuple[int, int]]]:
    for name in _files(folder):
        try:
            told = os.lstat(folder / name)
        except OSError:  # it has just gone
            continue
        yield name, (told.st_size, told.st_mtime_ns)


def _is_our_output(path: Path) -> bool:
    """Whether standard output or error of this process goes there."""
    with suppress(OSError):
        told = path.stat()
        return any(os.path.samestat(told, os.fstat(descriptor)) for descriptor in (1, 2))
    return False


def _size(nbytes: int) -> str:
    return f"{nbytes / 1e9:.1f} GB" if nbytes >= 1e8 or not nbytes else f"{nbytes / 1e6:.3g} MB"


def _digest(path: Path) -> str:
    if path.is_symlink():
        return f"link to {path.readlink()}"
    seen = xxhash.xxh3_128()
    try:
        with path.open("rb") as file:
            while block := file.read(_READ_BYTES):
                seen.update(block)
    except OSError as error:
        return f"unreadable: {error.strerror}"
    return str(seen.hexdigest())
