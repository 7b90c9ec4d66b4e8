"""Power loss, simulated: what a save did to the disk, and everything that can be left of it when the power goes.

The model is the weakest that file systems are allowed (Pillai et al., "All File Systems Are Not Created Equal", OSDI 2014):
a write to a file is certain only after an fsync of that file, a change of a folder (a new name, a rename, a removal) only
after an fsync of that folder; until then each of them may have happened or not, in any order.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock


@dataclass(frozen=True, slots=True)
class Operation:
    """One change, or one promise.

    `kind`: mkdir, create, write, fsync, rename, link (`path` is the new name, `to` the old one), remove or note (`path` is
    what it says).
    """

    kind: str
    path: str
    data: bytes = b""
    to: str = ""


@dataclass(slots=True)
class Recorder:
    """Collects what happens below a folder through the functions of `os` that the store uses."""

    root: str
    operations: list[Operation] = field(default_factory=list)
    _paths: dict[int, str] = field(default_factory=dict)

    def note(self, text: str) -> None:
        """Put a remark of the test's own between the operations."""
        self.operations.append(Operation("note", text))

    def _add(self, kind: str, path: str, data: bytes = b"", to: str = "") -> None:
        if path.startswith(self.root):
            self.operations.append(Operation(kind, path, data, to))

    def _resolve(self, path: Any, dir_fd: int | None = None) -> str:
        text = os.fspath(path)
        return text if dir_fd is None else f"{self._paths.get(dir_fd, '?')}/{text}"

    @contextmanager
    def recording(self) -> Iterator[None]:
        """Inside this context everything is recorded; only this process's one thread may touch the folder."""
        real = {
            name: getattr(os, name)
            for name in ("open", "write", "writev", "fsync", "mkdir", "rename", "link", "unlink", "rmdir")
        }

        def open_(path: Any, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
            fd: int = real["open"](path, flags, mode, dir_fd=dir_fd)
            self._paths[fd] = self._resolve(path, dir_fd)
            if flags & os.O_CREAT:
                self._add("create", self._paths[fd])
            return fd

        def write(fd: int, data: Any) -> int:
            count: int = real["write"](fd, data)
            self._add("write", self._paths.get(fd, "?"), bytes(data[:count]))
            return count

        def writev(fd: int, pieces: Any) -> int:
            count: int = real["writev"](fd, pieces)
            self._add("write", self._paths.get(fd, "?"), b"".join(pieces)[:count])
            return count

        def fsync(fd: int) -> None:
            real["fsync"](fd)
            self._add("fsync", self._paths.get(fd, "?"))

        def mkdir(path: Any, mode: int = 0o777) -> None:
            real["mkdir"](path, mode)
            self._add("mkdir", self._resolve(path))

        def rename(source: Any, target: Any) -> None:
            real["rename"](source, target)
            self._add("rename", self._resolve(source), to=self._resolve(target))

        def link(source: Any, target: Any) -> None:
            real["link"](source, target)
            self._add("link", self._resolve(target), to=self._resolve(source))

        def removing(name: str) -> Callable[..., None]:
            def remove(path: Any, *, dir_fd: int | None = None) -> None:
                real[name](path, dir_fd=dir_fd)
                self._add("remove", self._resolve(path, dir_fd))

            return remove

        fakes: dict[str, Any] = {
            "open": open_,
            "write": write,
            "writev": writev,
            "fsync": fsync,
            "mkdir": mkdir,
            "rename": rename,
            "link": link,
        }
        fakes |= {"unlink": removing("unlink"), "rmdir": removing("rmdir")}
        with mock.patch.multiple(os, **fakes):
            yield


def crash_states(
    operations: list[Operation], rng: random.Random, samples: int
) -> Iterator[dict[str, bytes | None]]:
    """What may be on the disk when the power goes after the last of `operations`: contents by path, None for a folder.

    All that is uncertain happened, none of it, each alone, each alone missing, and `samples` random selections.
    """
    uncertain = _uncertain(operations)
    selections: list[set[int]] = [set(), set(uncertain)]
    selections += [{one} for one in uncertain] + [set(uncertain) - {one} for one in uncertain]
    selections += [
        {one for one in uncertain if rng.random() < 0.5} for _ in range(samples if uncertain else 0)
    ]
    seen: set[frozenset[int]] = set()
    for chosen in map(frozenset, selections):
        if chosen not in seen:
            seen.add(chosen)
            yield _apply(operations, {index for index in uncertain if index not in chosen}, rng)


def _uncertain(operations: list[Operation]) -> list[int]:
    """Indices of operations that no later fsync has made certain."""
    open_ones: dict[str, list[int]] = {}
    for index, operation in enumerate(operations):
        if operation.kind == "fsync":
            open_ones.pop(operation.path, None)
        elif operation.kind == "write":
            open_ones.setdefault(operation.path, []).append(index)
        elif operation.kind != "note":
            open_ones.setdefault(str(Path(operation.path).parent), []).append(index)
    return sorted(index for indices in open_ones.values() for index in indices)


def _apply(operations: list[Operation], dropped: set[int], rng: random.Random) -> dict[str, bytes | None]:
    """The disk after those operations that were not dropped. A dropped write may have left its length as zeros.

    Files are found by identity, as inodes are: a write goes to the file that was created, wherever that is by now.
    """
    tree: dict[str, bytearray | None] = {}
    inodes: dict[str, bytearray] = {}
    for index, operation in enumerate(operations):
        if operation.kind == "write":
            content = operation.data
            if index in dropped:
                content = (
                    bytes(len(content)) if rng.random() < 0.5 else content[: rng.randrange(len(content) + 1)]
                )
            inodes[operation.path] += content
        elif operation.kind == "create":
            inodes[operation.path] = bytearray()
            if index not in dropped:
                tree[operation.path] = inodes[operation.path]
        elif index in dropped:
            continue
        elif operation.kind == "mkdir":
            tree[operation.path] = None
        elif operation.kind == "rename":
            _move(tree, operation.path, operation.to)
        elif operation.kind == "link" and operation.to in tree:
            tree[operation.path] = tree[operation.to]
        elif operation.kind == "remove":
            tree.pop(operation.path, None)
    return {path: None if content is None else bytes(content) for path, content in tree.items()}


def _move(tree: dict[str, bytearray | None], source: str, target: str) -> None:
    for path in [path for path in tree if path == source or path.startswith(source + "/")]:
        tree[target + path[len(source) :]] = tree.pop(path)


def materialise(state: dict[str, bytes | None], root: str, place: Path) -> None:
    """Put a state of the disk below `place`. What lies in a folder that is not there is lost."""
    place.mkdir()
    for path in sorted(state):
        target = place / path[len(root) :].lstrip("/")
        content = state[path]
        if not target.parent.is_dir():
            continue
        if content is None:
            target.mkdir(exist_ok=True)
        else:
            target.write_bytes(content)
