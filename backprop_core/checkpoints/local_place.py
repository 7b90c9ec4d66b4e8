"""Checkpoint folders on a file system: written beside their place, renamed into it."""

from __future__ import annotations

import errno
import os
import stat
from dataclasses import replace
from pathlib import Path
from typing import Final

from backprop_core.clock import Clock

from . import disk_errors, leftovers, names
from .array_files import PlannedFile
from .files import (
    FileFacts,
    Flusher,
    digest_of_all,
    open_folder,
    read_file,
    sync_folder,
    verify_file,
    write_file,
)
from .folder import FolderPlan
from .manifest import MANIFEST_NAME
from .place import Seal
from .shards import take_in

_SPARE_BYTES: Final = 1 << 20
"""Free space asked for beyond the files: the manifest, folders and the file system's own book-keeping."""


_TOGETHER_BYTES: Final = 32 << 20
"""Up to here the manifest is flushed together with the files that it lists; of larger ones it says how long that took."""

_NO_LINKS: Final = frozenset({errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EXDEV})


class LocalPlace:
    """A directory on a file system; made when the first checkpoint is written."""

    def __init__(self, directory: Path, clock: Clock) -> None:
        self.directory = directory.absolute()
        self._clock = clock
        self._links = True

    def names(self) -> list[str]:
        found: list[tuple[tuple[int, int], str]] = []
        try:
            with os.scandir(self.directory) as entries:
                for entry in entries:
                    order = names.parse_step_folder(entry.name)
                    if order is not None and entry.is_dir(follow_symlinks=False):  # links lead out of here
                        found.append((order, entry.name))
        except FileNotFoundError:
            return []
        return [name for _, name in sorted(found, reverse=True)]

    def names_set_aside(self) -> list[str]:
        try:
            found = [path.name for path in self.directory.iterdir()]
        except OSError:
            return []
        return sorted((name for name in found if name.startswith(names.DAMAGED_PREFIX)), reverse=True)

    def write(self, plan: FolderPlan, step: int, seal: Seal) -> str:
        _make_folder(self.directory)
        self._check_room(plan.nbytes, step)
        saving = self.directory / names.Owner.this_process().saving_folder()
        saving.mkdir()
        try:
            self._write_files(saving, plan, step, seal)
            return self._publish(saving, step)
        except BaseException:
            leftovers.remove(saving)
            raise

    def _write_files(self, saving: Path, plan: FolderPlan, step: int, seal: Seal) -> None:
        flusher = Flusher()
        try:
            written: dict[str, FileFacts] = {}
            folders = sorted({(saving / name).parent for name in plan.files} - {saving})
            for folder in folders:  # of ranks whose copies are saved for them
                folder.mkdir()
            for name, file in plan.files.items():
                written[name] = self._link(saving / name, file) or self._write(
                    saving / name, file, step, flusher
                )
            for folder in folders if os.name != "nt" else ():
                flusher.take(open_folder(folder))
            for part in plan.parts(self.directory) if plan.parts is not None else ():
                written |= take_in(self.directory, saving, part)
        except BaseException:
            flusher.wait()  # nothing may still write into a folder that goes
            raise
        if plan.nbytes > _TOGETHER_BYTES:
            flusher.wait()
            flusher = Flusher()
        try:
            write_file(saving / MANIFEST_NAME, [seal(written)], flusher)
            if os.name != "nt":
                flusher.take(open_folder(saving))
        finally:
            flusher.wait()

    def _write(self, path: Path, file: PlannedFile, step: int, flusher: Flusher) -> FileFacts:
        self._check_room(file.nbytes, step)  # others write to this disk too
        facts = write_file(path, file.chunks(), flusher, lasting=file.lasting)
        if file.in_place and (file.before is None or facts != file.before.facts):
            raise file.changed_meanwhile()
        return facts

    def _link(self, path: Path, file: PlannedFile) -> FileFacts | None:
        """Have the file of the last checkpoint here as well, if it is the same; it was flushed then. None if not."""
        if file.before is None or not self._links:
            return None
        before = file.before
        if digest_of_all(file.chunks()) != before.facts.digest:
            if file.in_place:
                raise file.changed_meanwhile()
            file.differs()
            return None
        source = self.directory / before.checkpoint / path.name
        try:
            found = source.lstat()
            if not stat.S_ISREG(found.st_mode) or found.st_size != before.facts.nbytes:
                return None
            os.link(source, path)
        except OSError as error:
            # The checkpoint is gone, say, or the file has as many names as it may: it is written. So is everything from
            # now on where no file can have two names.
            self._links = error.errno not in _NO_LINKS
            return None
        return replace(before.facts, linked=True)

    def _check_room(self, needed: int, step: int) -> None:
        free = _free_bytes(self.directory)
        if free is not None and free < needed + _SPARE_BYTES:
            raise disk_errors.no_room(self.directory, step, needed=needed, free=free)

    def _publish(self, saving: Path, step: int) -> str:
        """Give the finished folder its name, which must not be taken, and make that durable.

        rename(2) never replaces a folder with something in it, and every committed one holds its manifest: so
        the plain call is the atomic "only if it does not exist" that is needed, on network file systems too.
        """
        again = names.next_again((path.name for path in self.directory.iterdir()), step)
        while True:
            path = self.directory / names.step_folder(step, again)
            again += 1
            try:
                saving.rename(path)
            except OSError:
                if saving.exists() and os.path.lexists(path):
                    continue  # another process was faster
                raise
            break
        try:
            sync_folder(self.directory)
        except OSError:
            leftovers.remove(path)  # whole, but nobody knows whether it would survive a power loss
            raise
        return path.name

    def read(
        self, name: str, file: str, *, limit_bytes: int | None = None, expected: FileFacts | None = None
    ) -> memoryview:
        return read_file(self.directory / name / file, limit_bytes=limit_bytes, expected=expected)

    def verify(self, name: str, file: str, expected: FileFacts) -> None:
        verify_file(self.directory / name / file, expected)

    def remove(self, name: str) -> None:
        leftovers.remove(self.directory / name)

    def set_aside(self, name: str) -> str:
        for number in range(1000):
            aside = self.directory / (f"{names.DAMAGED_PREFIX}{name}" + (f"-{number}" if number else ""))
            if os.path.lexists(aside):
                continue
            try:
                (self.directory / name).rename(aside)
                sync_folder(self.directory)
            except OSError:
                return aside.name if os.path.lexists(aside) else name  # a read-only place: skipped, not moved
            return aside.name
        return name

    def sweep(self) -> None:
        leftovers.sweep(self.directory, self._clock)


def _make_folder(path: Path) -> None:
    """Make a folder with its parents, each durably."""
    if path.is_dir():
        return
    if path.parent != path:
        _make_folder(path.parent)
    path.mkdir(exist_ok=True)
    sync_folder(path.parent)


def _free_bytes(path: Path) -> int | None:
    """Bytes this user may still write; None where the file system does not say."""
    try:
        facts = os.statvfs(path)
    except (OSError, AttributeError):
        return None
    return facts.f_bavail * facts.f_frsize if facts.f_blocks else None
