"""The checkpoints of a run. One is committed, or it does not exist."""

from __future__ import annotations

import builtins
import contextlib
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from backprop_core.clock import Clock
from backprop_core.errors import BackpropError, CheckpointDamagedError, CheckpointError, CheckpointWriteError
from backprop_core.quick_dataclass import dataclass

from . import disk_errors, folder, retention
from .array_files import arrays_apart
from .arrays import Translator
from .choose_place import place_of
from .codec import Snapshot
from .files import FileFacts
from .local_place import LocalPlace
from .manifest import (
    CheckpointFacts,
    CheckpointInfo,
    Manifest,
    dump_manifest,
)
from .place import Place, read_manifest
from .unchanged import ChangedMeanwhileError, Unchanged


@dataclass(slots=True)
class Loaded:
    """What came out of a checkpoint: its facts, and the state of each tracked object by name."""

    info: CheckpointInfo
    states: dict[str, object]


@dataclass(frozen=True, slots=True)
class _Checked:
    """Sentences on files that are not what was written, and on files that could not be looked at."""

    damaged: list[str]
    unreadable: list[str]


class CheckpointStore:
    """The checkpoints in one directory; `open_store` makes one for an object store.

    Args:
        directory: where the checkpoint folders lie; made when the first one is saved.
        clock: measures how long saves take and dates them.
        keep: how many of the newest stay; at least 2.
        keep_every: the first checkpoint at or after every multiple of so many steps stays for good.
        unchanged: what the last checkpoint held; made anew where it is left out.
    """

    def __init__(
        self,
        directory: Path,
        *,
        clock: Clock,
        keep: int = 2,
        keep_every: int | None = None,
        place: Place | None = None,
        unchanged: Unchanged | None = None,
    ) -> None:
        self._place: Place = LocalPlace(Path(directory), clock) if place is None else place
        self.directory = self._place.directory
        self._clock = clock
        self._keep = keep
        self._keep_every = keep_every
        self._one_save = threading.Lock()
        self.unchanged = Unchanged() if unchanged is None else unchanged

    def commit(self, snapshot: Snapshot, facts: CheckpointFacts, *, retain: bool = True) -> CheckpointInfo:
        """Save a snapshot so that it is complete on the disk when this returns, or absent.

        With `retain` older checkpoints are removed afterwards, once the new one has been read back and
        verified. Without, they stay until a later save: what a save at the deadline wants.

        Raises:
            CheckpointWriteError: it was not saved; older checkpoints are untouched.
            UnsavableStateError: a fact that cannot be stored.
        """
        with self._one_save:
            info = self._told(lambda: self._commit(snapshot, facts, hurried=not retain), facts)
            if retain:
                self._retain(info)
            return info

    def adopt(
        self, plan: folder.FolderPlan, facts: CheckpointFacts, expected: Mapping[str, FileFacts]
    ) -> CheckpointInfo:
        """Save what another process has left, like `commit`; older checkpoints stay.

        Args:
            plan: the files; their bytes may be anything.
            expected: what the process that made them said of each.

        Raises:
            CheckpointDamagedError: they are not what was said. Nothing is saved.
            CheckpointWriteError: it was not saved.
        """
        with self._one_save:
            return self._told(lambda: self._written(plan, facts, expected)[1], facts)

    def _told(self, save: Callable[[], CheckpointInfo], facts: CheckpointFacts) -> CheckpointInfo:
        """What `save` returns; whatever goes wrong is an error that says of which checkpoint."""
        try:
            return save()
        except OSError as error:
            raise disk_errors.write_error(self.directory, facts.step, error) from error
        except ChangedMeanwhileError as error:
            error.reason = facts.reason
            raise
        except BackpropError:
            raise
        except Exception as error:  # a device that fails while it is read, say: training is not to end for it
            raise CheckpointWriteError(
                f"The checkpoint of step {facts.step} was not saved: {error or type(error).__name__}.",
                path=self.directory,
            ) from error

    def _commit(self, snapshot: Snapshot, facts: CheckpointFacts, *, hurried: bool) -> CheckpointInfo:
        started = self._clock.monotonic()
        self.unchanged.begin()
        if self.unchanged.looks_back:
            self._look_back(facts.run_id)
        plan = folder.plan_folder(snapshot, self.unchanged)
        manifest, info = self._written(plan, facts, started=started)
        saved = {} if hurried else {name: state.arrays for name, state in snapshot.objects.items()}
        self.unchanged.committed(info.path.name, manifest.files, plan.objects, saved)
        return info

    def _written(
        self,
        plan: folder.FolderPlan,
        facts: CheckpointFacts,
        expected: Mapping[str, FileFacts] | None = None,
        *,
        started: float | None = None,
    ) -> tuple[Manifest, CheckpointInfo]:
        """Write a checkpoint whose files have to be as `expected`, where that is given."""
        started = self._clock.monotonic() if started is None else started
        manifests: list[Manifest] = []

        def seal(files: Mapping[str, FileFacts]) -> bytes:
            changed = [name for name in expected or () if files[name] != (expected or {})[name]]
            if changed:
                raise CheckpointDamagedError(
                    f"{changed[0]} of step {facts.step} has changed since it was sealed.", path=self.directory
                )
            save_s = self._clock.monotonic() - started
            manifests.append(Manifest(facts, files, plan.objects, save_s, self._clock.wall()))
            return dump_manifest(manifests[-1])

        name = self._place.write(plan, facts.step, seal)
        save_s = self._clock.monotonic() - started
        return manifests[-1], replace(manifests[-1].info(self.directory / name), save_s=save_s)

    def _look_back(self, run_id: str) -> None:
        """A new process goes on: what stayed unchanged in the run's last checkpoint need not be written again."""
        with contextlib.suppress(BackpropError, OSError, ValueError, StopIteration):  # there may be none
            name = next(iter(self._names()))
            manifest = read_manifest(self._place, name)
            apart = arrays_apart(
                manifest, lambda file: self._place.read(name, file, expected=manifest.files[file])
            )
            if manifest.facts.run_id == run_id:
                self.unchanged.begin_from(name, manifest.files, apart)

    def _retain(self, newest: CheckpointInfo) -> None:
        try:
            of_this_run = [info for info in self.list() if info.facts.run_id == newest.facts.run_id]
            old = retention.expendable(
                of_this_run, spare=newest.path, keep=self._keep, keep_every=self._keep_every
            )
        except CheckpointError:
            return  # what cannot be listed cannot be tidied: the save itself is done
        if not old:
            return
        checked = self._check(self._place, newest.path.name)
        if checked.damaged:
            self._place.set_aside(newest.path.name)
            self.unchanged.forget()  # the next one has every byte written anew
            raise CheckpointWriteError(
                f"The checkpoint of step {newest.step} was damaged while it was written: {checked.damaged[0]}",
                "The older ones were kept.",
                path=newest.path,
            )
        if not checked.unreadable:  # else it may well be whole, but nothing is removed on a guess
            for info in old:
                self._place.remove(info.path.name)

    def list(self) -> list[CheckpointInfo]:
        """Committed checkpoints with a sound manifest, newest first: highest step, then latest save. Scans
        the folder.
        """
        infos: list[CheckpointInfo] = []
        for name in self._names():
            with contextlib.suppress(CheckpointError, OSError):
                infos.append(read_manifest(self._place, name).info(self.directory / name))
        return infos

    def paths(self, *, damaged: bool = False) -> builtins.list[Path]:
        """Everything that claims to be a checkpoint, newest first; with `damaged` also what was set aside.

        Raises:
            CheckpointError: the folder cannot be listed.
        """
        names = self._names()
        if damaged:
            names += self._place.names_set_aside()
        return [self.directory / name for name in names]

    def load(self, info: CheckpointInfo | Path, translators: Sequence[Translator]) -> Loaded:
        """The states of one checkpoint. Every digest is verified before anything is parsed; nothing is ever
        executed.

        Raises:
            CheckpointDamagedError: it is not what was saved, or hostile.
            NewerFormatError: it comes from a later version of backprop.
            StateMismatchError: it holds values of a framework that is not among `translators`.
            CheckpointError: it cannot be read.
        """
        place, name = self._find(info)
        path = place.directory / name
        try:
            manifest = read_manifest(place, name)
            states = folder.read_states(
                manifest, path, lambda file, facts: place.read(name, file, expected=facts), translators
            )
        except OSError as error:
            raise CheckpointError(
                f"The checkpoint {path} cannot be read: {_reason(error)}.", path=path
            ) from error
        return Loaded(manifest.info(path), states)

    def load_newest(
        self,
        translators: Sequence[Translator],
        *,
        told: Callable[[str], None],
        of_run: str | None = None,
        suits: Callable[[CheckpointFacts], bool] = lambda facts: True,
    ) -> Loaded | None:
        """The newest checkpoint that is whole and `suits`, of run `of_run` where one is named; None if there is none.

        A damaged one is renamed to `damaged-...`, `told` gets a sentence, and the one before it is taken.

        Raises:
            StateMismatchError, NewerFormatError: the newest whole one cannot be used here; going back would
                lose work.
            CheckpointError: the folder cannot be listed.
        """
        for name in self._names():
            if self._is_out_of_the_question(name, of_run, suits):
                continue
            try:
                return self.load(self.directory / name, translators)
            except CheckpointDamagedError as error:
                aside = self._place.set_aside(name)
                told(f"{error} It was set aside as {aside}; falling back to the previous checkpoint.")
            except CheckpointError as error:
                if type(error) is not CheckpointError:
                    raise
                told(f"{error} Falling back to the previous checkpoint.")
        return None

    def _is_out_of_the_question(
        self, name: str, of_run: str | None, suits: Callable[[CheckpointFacts], bool]
    ) -> bool:
        """Whether a checkpoint says itself that it is another run's, or does not suit; one that cannot be read does not."""
        try:
            facts = read_manifest(self._place, name).facts
            return (of_run is not None and facts.run_id != of_run) or not suits(facts)
        except (CheckpointError, OSError):
            return False

    def verify(self, info_or_path: CheckpointInfo | Path) -> builtins.list[str]:
        """Sentences of damage; empty if every byte is what was written."""
        checked = self._check(*self._find(info_or_path))
        return checked.damaged + checked.unreadable

    def _check(self, place: Place, name: str) -> _Checked:
        path = place.directory / name
        checked = _Checked([], [])
        try:
            manifest = read_manifest(place, name)
        except CheckpointError as error:
            return _Checked([str(error)], [])
        except OSError as error:
            return _Checked([], [f"{path} cannot be read: {_reason(error)}."])
        for file, facts in manifest.files.items():
            try:
                place.verify(name, file, facts)
            except FileNotFoundError:
                checked.damaged.append(f"{path / file} is missing.")
            except ValueError as error:
                checked.damaged.append(f"{path / file} is damaged: {error}.")
            except (OSError, MemoryError) as error:
                checked.unreadable.append(f"{path / file} cannot be read: {_reason(error)}.")
        return checked

    def sweep(self) -> None:
        """Remove what killed saves left behind: only folders of our own making, only of processes that are
        gone.
        """
        self._place.sweep()

    def _names(self) -> builtins.list[str]:
        try:
            return self._place.names()
        except OSError as error:
            raise CheckpointError(
                f"The checkpoints in {self.directory} cannot be listed: {_reason(error)}.",
                path=self.directory,
            ) from error

    def _find(self, info: CheckpointInfo | Path) -> tuple[Place, str]:
        """Where a checkpoint lies, which need not be in this store's own directory."""
        path = info.path if isinstance(info, CheckpointInfo) else Path(info)
        if path.parent == self.directory:
            return self._place, path.name
        return place_of(str(path.parent), self._clock), path.name


def open_store(
    target: str | Path, *, clock: Clock, keep: int = 2, keep_every: int | None = None
) -> CheckpointStore:
    """The store at `target`: a folder, or an address that fsspec knows, such as `s3://bucket/run`.

    Raises:
        UsageError: the address needs a library that is not installed.
    """
    place = place_of(str(target), clock)
    return CheckpointStore(place.directory, clock=clock, keep=keep, keep_every=keep_every, place=place)


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
