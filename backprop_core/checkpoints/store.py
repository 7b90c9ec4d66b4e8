"""The folder in which the checkpoints of a run lie. A checkpoint is committed, or it does not exist."""

from __future__ import annotations

import builtins
import contextlib
import os
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from backprop_core.clock import Clock
from backprop_core.errors import CheckpointDamagedError, CheckpointError, CheckpointWriteError

from . import disk_errors, folder, leftovers, names, retention
from .arrays import Translator
from .codec import Snapshot
from .files import FileFacts, Flusher, read_file, sync_folder, verify_file, write_file
from .manifest import (
    MANIFEST_NAME,
    MAX_MANIFEST_BYTES,
    CheckpointFacts,
    CheckpointInfo,
    Manifest,
    NewerFormatError,
    dump_manifest,
    parse_manifest,
)

_SPARE_BYTES: Final = 1 << 20
"""Free space asked for beyond the arrays: the manifest, folders and the file system's own book-keeping."""


@dataclass(slots=True)
class Loaded:
    """What came out of a checkpoint: its facts, and the state of each tracked object by name."""

    info: CheckpointInfo
    states: dict[str, object]


class CheckpointStore:
    """The checkpoints in one directory on a file system.

    Args:
        directory: where the checkpoint folders lie; made when the first one is saved.
        clock: measures how long saves take and dates them.
        keep: how many of the newest stay; at least 2.
        keep_every: the first checkpoint at or after every multiple of so many steps stays for good.
    """

    def __init__(
        self, directory: Path, *, clock: Clock, keep: int = 2, keep_every: int | None = None
    ) -> None:
        self.directory = Path(directory).absolute()
        self._clock = clock
        self._keep = keep
        self._keep_every = keep_every
        self._one_save = threading.Lock()

    # ---------------------------------------------------------------- saving

    def commit(self, snapshot: Snapshot, facts: CheckpointFacts, *, retain: bool = True) -> CheckpointInfo:
        """Save a snapshot so that it is complete on the disk when this returns, or absent.

        With `retain` older checkpoints are removed afterwards, once the new one has been read back and
        verified. Without, they stay until a later save: what a save at the deadline wants.

        Raises:
            CheckpointWriteError: it was not saved; older checkpoints are untouched.
            UnsavableStateError: a fact that cannot be stored.
        """
        with self._one_save:
            try:
                info = self._commit(snapshot, facts)
            except OSError as error:
                raise disk_errors.write_error(self.directory, facts.step, error) from error
            except (
                ValueError,
                MemoryError,
                RuntimeError,
            ) as error:  # the last: a device that fails while it is read
                raise CheckpointWriteError(
                    f"The checkpoint of step {facts.step} was not saved: {error}.", path=self.directory
                ) from error
            if retain:
                self._retain(info)
            return info

    def _commit(self, snapshot: Snapshot, facts: CheckpointFacts) -> CheckpointInfo:
        started = self._clock.monotonic()
        plan = folder.plan_folder(snapshot)
        _make_folder(self.directory)
        self._check_room(plan.nbytes, facts.step)
        saving = self.directory / names.Owner.this_process().saving_folder()
        saving.mkdir()
        try:
            manifest = self._write_files(saving, plan, facts, started)
            sync_folder(saving)
            path = self._publish(saving, facts.step)
        except BaseException:
            leftovers.remove(saving)
            raise
        info = manifest.info(path)
        return CheckpointInfo(
            path, info.step, facts, info.nbytes, self._clock.monotonic() - started, info.wall_s
        )

    def _write_files(
        self, saving: Path, plan: folder.FolderPlan, facts: CheckpointFacts, started: float
    ) -> Manifest:
        flusher = Flusher()
        try:
            files: dict[str, FileFacts] = {}
            for name, file in plan.files.items():
                self._check_room(file.nbytes, facts.step)  # others write to this disk too
                files[name] = write_file(saving / name, file.chunks(), flusher)
            save_s = self._clock.monotonic() - started
            manifest = Manifest(facts, files, plan.objects, save_s, self._clock.wall())
            write_file(saving / MANIFEST_NAME, [dump_manifest(manifest)], flusher)
        finally:
            flusher.wait()  # on the way out of an error too: nothing may still write into a folder that goes
        return manifest

    def _check_room(self, needed: int, step: int) -> None:
        free = _free_bytes(self.directory)
        if free is not None and free < needed + _SPARE_BYTES:
            raise disk_errors.no_room(self.directory, step, needed=needed, free=free)

    def _publish(self, saving: Path, step: int) -> Path:
        """Give the finished folder its name, which must not be taken, and make that durable.

        rename(2) never replaces a folder with something in it, and every committed one holds its manifest: so
        the plain call is the atomic "only if it does not exist" that is needed, on network file systems too.
        """
        again = 0
        while True:
            path = self.directory / names.step_folder(step, again)
            again += 1
            if os.path.lexists(path):
                continue
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
        return path

    def _retain(self, newest: CheckpointInfo) -> None:
        old = retention.expendable(self.list(), keep=self._keep, keep_every=self._keep_every)
        if not old:
            return
        damage = self.verify(newest)
        if damage:
            self._quarantine(newest.path)
            raise CheckpointWriteError(
                f"The checkpoint of step {newest.step} was damaged on its way to the disk: {damage[0]}",
                "The ones before it were kept.",
                path=newest.path,
            )
        for info in old:
            leftovers.remove(info.path)

    # ---------------------------------------------------------------- reading

    def list(self) -> list[CheckpointInfo]:
        """Committed checkpoints with a sound manifest, newest first: highest step, then latest save. Scans
        the folder.
        """
        infos: list[CheckpointInfo] = []
        for path in self._candidates():
            with contextlib.suppress(CheckpointError, OSError):
                infos.append(self._manifest(path).info(path))
        return infos

    def load(self, info: CheckpointInfo | Path, translators: Sequence[Translator]) -> Loaded:
        """The states of one checkpoint. Every digest is verified before anything is parsed; nothing is ever
        executed.

        Raises:
            CheckpointDamagedError: it is not what was saved, or hostile.
            NewerFormatError: it comes from a later version of backprop.
            StateMismatchError: it holds values of a framework that is not among `translators`.
            CheckpointError: it cannot be read.
        """
        path = info.path if isinstance(info, CheckpointInfo) else Path(info)
        try:
            manifest = self._manifest(path)
            states = folder.read_states(manifest, path, _reader(path), translators)
        except OSError as error:
            raise CheckpointError(
                f"The checkpoint {path} cannot be read: {error.strerror}.", path=path
            ) from error
        return Loaded(manifest.info(path), states)

    def load_newest(self, translators: Sequence[Translator], *, told: Callable[[str], None]) -> Loaded | None:
        """The newest checkpoint that is whole; None if there is none.

        A damaged one is renamed to `damaged-...`, `told` gets a sentence, and the one before it is taken.

        Raises:
            StateMismatchError, NewerFormatError: the newest whole one cannot be used here; going back would
                lose work.
        """
        for path in self._candidates():
            try:
                return self.load(path, translators)
            except CheckpointDamagedError as error:
                moved = self._quarantine(path)
                told(f"{error} It was set aside as {moved.name}; going back to the checkpoint before it.")
            except NewerFormatError:
                raise
            except CheckpointError as error:
                if type(error) is not CheckpointError:
                    raise
                told(f"{error} Going back to the checkpoint before it.")
        return None

    def verify(self, info_or_path: CheckpointInfo | Path) -> builtins.list[str]:
        """Sentences of damage; empty if every byte is what was written."""
        path = info_or_path.path if isinstance(info_or_path, CheckpointInfo) else Path(info_or_path)
        try:
            manifest = self._manifest(path)
        except CheckpointError as error:
            return [str(error)]
        except OSError as error:
            return [f"{path} cannot be read: {error.strerror}."]
        problems: builtins.list[str] = []
        for name, facts in manifest.files.items():
            try:
                verify_file(path / name, facts)
            except FileNotFoundError:
                problems.append(f"{path / name} is missing.")
            except (ValueError, MemoryError) as error:
                problems.append(f"{path / name} is damaged: {error}.")
            except OSError as error:
                problems.append(f"{path / name} cannot be read: {error.strerror}.")
        return problems

    def sweep(self) -> None:
        """Remove what killed saves left behind: only folders of our own making, only of processes that are
        gone.
        """
        leftovers.sweep(self.directory, self._clock)

    def _candidates(self) -> builtins.list[Path]:
        """Everything that has the name of a checkpoint, newest first, damaged or not. Links are no
        checkpoints.
        """
        found: list[tuple[tuple[int, int], Path]] = []
        try:
            with os.scandir(self.directory) as entries:
                for entry in entries:
                    order = names.parse_step_folder(entry.name)
                    if order is not None and entry.is_dir(follow_symlinks=False):
                        found.append((order, self.directory / entry.name))
        except FileNotFoundError:
            return []
        except OSError as error:
            raise CheckpointError(
                f"The checkpoints in {self.directory} cannot be listed: {error.strerror}.",
                path=self.directory,
            ) from error
        return [path for _, path in sorted(found, reverse=True)]

    def _manifest(self, path: Path) -> Manifest:
        try:
            return parse_manifest(bytes(read_file(path / MANIFEST_NAME, limit_bytes=MAX_MANIFEST_BYTES)))
        except (FileNotFoundError, NotADirectoryError):
            raise folder.damaged(path, "it has no manifest") from None
        except ValueError as error:
            raise folder.damaged(path, str(error)) from None

    def _quarantine(self, path: Path) -> Path:
        """Move a damaged checkpoint out of the way, without removing it. Gives its new path, or the old if
        that failed.
        """
        for number in range(1000):
            aside = path.with_name(f"{names.DAMAGED_PREFIX}{path.name}" + (f"-{number}" if number else ""))
            if os.path.lexists(aside):
                continue
            try:
                path.rename(aside)
                sync_folder(self.directory)
            except OSError:
                return (
                    aside if os.path.lexists(aside) else path
                )  # a read-only place: it is skipped, not moved
            return aside
        return path


def _reader(path: Path) -> folder.ReadVerified:
    return lambda name, facts: read_file(path / name, expected=facts)


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
