"""Checkpoint folders in an object store, through fsspec: `s3://`, `gs://`, `memory://` and whatever else it
speaks.

Nothing can be renamed there, so files go straight to their place and the manifest, uploaded last and in one
piece, is what makes a checkpoint exist. It is also the first to go when a checkpoint is removed.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from backprop_core.clock import Clock
from backprop_core.errors import BackpropError, CheckpointWriteError, UsageError

from .array_files import PlannedFile
from .arrays import allocate_ram
from .files import PIECE_BYTES, FileFacts, digest_of_all, memory_bytes, pieces
from .folder import FolderPlan
from .leftovers import ABANDONED_AFTER_S
from .manifest import MANIFEST_NAME
from .names import Owner, next_again, parse_saving_folder, parse_step_folder, step_folder
from .place import Seal

_DAMAGED: Final = "damaged"


def is_url(target: str) -> bool:
    """Whether `target` names an object store and not a folder: `s3://bucket/x` does, `C:/x` does not."""
    return re.match(r"[A-Za-z][A-Za-z0-9+.:-]+://", target) is not None


class RemotePlace:
    """A prefix in an object store.

    Raises:
        UsageError: fsspec, or the library it needs for this kind of store, is not installed; or it is not
            known.
    """

    def __init__(self, url: str, clock: Clock) -> None:
        self.url = url.rstrip("/")
        self._clock = clock
        try:
            import fsspec

            self._fs, root = fsspec.core.url_to_fs(self.url)
        except ImportError as error:
            raise UsageError(
                f"{url} cannot be used: {error}.",
                "Install backprop-timebox[remote] and the library it names.",
            ) from error
        except ValueError as error:
            raise UsageError(f"{url} cannot hold checkpoints: {error}.") from error
        self._root = str(root).rstrip("/")
        self._copies = True

    @property
    def directory(self) -> Path:
        """The address as a path: two slashes have become one, see `CheckpointInfo.address`."""
        return Path(self.url)

    def names(self) -> list[str]:
        with _as_os_errors():
            steps = {name: order for name in self._list("") if (order := parse_step_folder(name))}
            whole = [name for name in steps if self._is_committed(name)]
        return sorted(whole, key=lambda name: steps[name], reverse=True)

    def names_set_aside(self) -> list[str]:
        with contextlib.suppress(Exception):
            steps = [name for name in self._list("") if parse_step_folder(name)]
            return sorted((name for name in steps if _DAMAGED in self._list(name)), reverse=True)
        return []

    def _is_committed(self, name: str) -> bool:
        files = set(self._list(name))
        return MANIFEST_NAME in files and _DAMAGED not in files

    def write(self, plan: FolderPlan, step: int, seal: Seal) -> str:
        if plan.parts is not None:
            raise CheckpointWriteError(
                "A checkpoint whose arrays are spread over several processes needs a folder that all of them see, and "
                f"{self.directory} is an object store."
            )
        with _as_os_errors():
            name = step_folder(step, next_again(self._list(""), step))
            marker = Owner.this_process().saving_folder()
            try:
                self._fs.makedirs(self._path(name), exist_ok=True)
                self._fs.pipe_file(self._path(name, marker), b"a save was under way")
                written = {
                    file: self._copy(name, file, part) or self._store(name, file, part)
                    for file, part in plan.files.items()
                }
                self._fs.pipe_file(self._path(name, MANIFEST_NAME), seal(written))
            except BaseException:
                self.remove(name)
                raise
            with contextlib.suppress(Exception):
                self._fs.rm_file(self._path(name, marker))
            return name

    def _store(self, name: str, file: str, part: PlannedFile) -> FileFacts:
        facts = self._upload(name, file, part.chunks())
        if part.in_place and (part.before is None or facts != part.before.facts):
            raise part.changed_meanwhile()
        return facts

    def _copy(self, name: str, file: str, part: PlannedFile) -> FileFacts | None:
        """Have the store itself copy the object of the last checkpoint, if it is the same; None if not.

        A copy and not a name that several checkpoints share: whoever removes one of them could not know of a save under
        way, in another process, that is about to name it.
        """
        if part.before is None or not self._copies:
            return None
        if digest_of_all(part.chunks()) != part.before.facts.digest:
            if part.in_place:
                raise part.changed_meanwhile()
            part.differs()
            return None
        target = self._path(name, file)
        try:
            self._fs.cp_file(self._path(part.before.checkpoint, file), target)
            self._fs.invalidate_cache(target)
            arrived = int(self._fs.size(target)) == part.before.facts.nbytes
        except NotImplementedError:
            self._copies = False
            return None
        except Exception:
            return None  # the checkpoint is gone, say: it is uploaded
        return replace(part.before.facts, linked=True) if arrived else None

    def _upload(self, name: str, file: str, chunks: Iterable[bytes | memoryview]) -> FileFacts:
        import xxhash

        digest = xxhash.xxh3_128()
        nbytes = 0
        path = self._path(name, file)
        with self._fs.open(path, "wb") as remote:
            for piece in pieces(chunks):
                digest.update(piece)
                nbytes += len(piece)
                remote.write(bytes(piece))  # some file systems keep a piece until they have enough to send
        self._fs.invalidate_cache(path)
        size = self._fs.size(path)
        if size != nbytes:
            raise OSError(f"{size} of {nbytes} bytes of {file} arrived")
        return FileFacts(nbytes, digest.hexdigest())

    def read(
        self, name: str, file: str, *, limit_bytes: int | None = None, expected: FileFacts | None = None
    ) -> memoryview:
        with _as_os_errors():
            nbytes = self._size(name, file, expected)
            limit = memory_bytes() if limit_bytes is None else limit_bytes
            if nbytes > limit:
                raise ValueError(f"it has {nbytes} bytes, more than the {limit} allowed here")
            data = allocate_ram(nbytes, staging=False)
            done = 0
            for piece in self._download(name, file, nbytes, expected):
                data[done : done + len(piece)] = piece
                done += len(piece)
            return data

    def verify(self, name: str, file: str, expected: FileFacts) -> None:
        with _as_os_errors():
            for _ in self._download(name, file, self._size(name, file, expected), expected):
                pass

    def _size(self, name: str, file: str, expected: FileFacts | None) -> int:
        path = self._path(name, file)
        self._fs.invalidate_cache(path)
        nbytes = int(self._fs.size(path))
        if expected is not None and nbytes != expected.nbytes:
            raise ValueError(f"it has {nbytes} bytes instead of {expected.nbytes}")
        return nbytes

    def _download(self, name: str, file: str, nbytes: int, expected: FileFacts | None) -> Iterator[bytes]:
        """The bytes piece by piece; the last comes out only if the digest of them all is right."""
        import xxhash

        digest = xxhash.xxh3_128()
        done = 0
        with self._fs.open(self._path(name, file), "rb") as remote:
            while done < nbytes:
                piece = remote.read(min(PIECE_BYTES, nbytes - done))
                if not piece:
                    raise ValueError(f"it ends after {done} of {nbytes} bytes")
                digest.update(piece)
                done += len(piece)
                if done == nbytes and expected is not None and digest.hexdigest() != expected.digest:
                    raise ValueError("its digest does not match: the bytes have changed")
                yield piece
        if not nbytes and expected is not None and digest.hexdigest() != expected.digest:
            raise ValueError("its digest does not match")

    def remove(self, name: str) -> None:
        with contextlib.suppress(Exception):
            self._fs.rm_file(self._path(name, MANIFEST_NAME))
        with contextlib.suppress(Exception):
            self._fs.rm(self._path(name), recursive=True)

    def set_aside(self, name: str) -> str:
        """An object beside the others marks it: copying gigabytes to another name would help nobody."""
        with contextlib.suppress(Exception):
            self._fs.pipe_file(self._path(name, _DAMAGED), b"Found damaged by backprop; not used any more.")
        return f"{name} (marked by an object named {_DAMAGED!r})"

    def sweep(self) -> None:
        here = Owner.this_process()
        with contextlib.suppress(Exception):
            for name in self._list(""):
                if parse_step_folder(name) is None:
                    continue
                files = self._list(name)
                owners = [owner for file in files if (owner := parse_saving_folder(file))]
                if (
                    MANIFEST_NAME not in files
                    and owners
                    and all(self._is_abandoned(name, o, here) for o in owners)
                ):
                    self.remove(name)

    def _is_abandoned(self, name: str, owner: Owner, here: Owner) -> bool:
        dead = owner.is_dead(here)
        if dead is not None:
            return dead
        latest = max(float(self._fs.modified(self._path(name, f)).timestamp()) for f in self._list(name))
        return self._clock.wall() - latest > ABANDONED_AFTER_S

    def _path(self, *parts: str) -> str:
        return "/".join((self._root, *parts))

    def _list(self, name: str) -> list[str]:
        """The last parts of the names below a prefix; empty if there is none."""
        path = self._path(name) if name else self._root
        self._fs.invalidate_cache(path)
        try:
            found: list[Any] = self._fs.ls(path, detail=False)
        except FileNotFoundError:
            return []
        return [str(entry).rstrip("/").rpartition("/")[2] for entry in found]


@contextlib.contextmanager
def _as_os_errors() -> Iterator[None]:
    """Every library below fsspec has errors of its own; the store knows OSError and ValueError."""
    try:
        yield
    except (OSError, ValueError, MemoryError, RecursionError, BackpropError):
        raise
    except Exception as error:
        raise OSError(f"{type(error).__name__}: {error}") from error
