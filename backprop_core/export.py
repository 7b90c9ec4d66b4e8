"""A checkpoint in the form other programs take: plain safetensors, and .pt files that `torch.load` opens
without trust.
"""

from __future__ import annotations

import datetime
import os
import pathlib
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from importlib import import_module
from pathlib import Path
from typing import Any

from backprop_core.announced import announced
from backprop_core.checkpoints.array_files import PlannedFile
from backprop_core.checkpoints.arrays import Translator
from backprop_core.checkpoints.choose_place import place_of
from backprop_core.checkpoints.codec import capture
from backprop_core.checkpoints.files import Flusher, sync_folder, write_file
from backprop_core.checkpoints.folder import plan_folder, read_part
from backprop_core.checkpoints.manifest import CheckpointInfo, Manifest
from backprop_core.checkpoints.mapped import MemoryInFile, map_file
from backprop_core.checkpoints.numpy_arrays import NumpyTranslator
from backprop_core.checkpoints.place import read_manifest
from backprop_core.checkpoints.safetensors_file import join_array_files
from backprop_core.checkpoints.shards import SHARDS, SavedShards, ranks_in
from backprop_core.checkpoints.store import CheckpointStore
from backprop_core.clock import SYSTEM, Clock
from backprop_core.errors import StoreError, UsageError
from backprop_core.ports.framework import frameworks_in_use

_OWN = "backprop."


def export_checkpoint(
    info: CheckpointInfo | Path,
    directory: Path,
    *,
    clock: Clock = SYSTEM,
    told: Callable[[str], None] = lambda sentence: None,
) -> list[Path]:
    """Write `<object>.safetensors` and `<object>.pt` for each tracked object of a checkpoint; the paths
    written.

    The arrays keep their state_dict names. The .pt holds the state with plain types only: `torch.load` takes
    it with `weights_only=True`. Values that it would refuse become the nearest plain ones, and `told` says so.
    Without torch only the safetensors files are written. A framework may add files of its own (Keras:
    `model.weights.h5`). What backprop keeps for itself (loop positions, random states) is left out.

    Raises:
        CheckpointDamagedError: the checkpoint is not what was saved.
        UsageError: a file of that name is there already, or there is nothing to export.
        StoreError: the files cannot be written.
    """
    path = info.path if isinstance(info, CheckpointInfo) else Path(info).absolute()
    store = CheckpointStore(path.parent, clock=clock, place=place_of(str(path.parent), clock))
    place = place_of(str(path.parent), clock)
    manifest = read_manifest(place, path.name)
    names = [name for name in manifest.objects if not name.startswith(_OWN)] or list(manifest.objects)
    torch = _torch(told)
    states = store.load(path, _translators()).states
    whole: dict[str, Any] = {}
    if SHARDS in states:
        with _scratch_in(directory) as scratch:
            whole = _whole(states, manifest, path, scratch)
    states |= whole
    planned: dict[Path, Callable[[Path], None]] = {}
    for name in names:
        parts = manifest.objects[name]
        if parts.raw:
            planned[directory / parts.tree] = _copier([place.read(path.name, parts.tree)])
            continue
        if name in whole:
            plan = plan_folder(capture({Path(parts.tree).stem: whole[name]}, _translators()))
            planned |= {
                directory / file: _writer(one)
                for file, one in plan.files.items()
                if not file.endswith(".json")
            }
        elif parts.arrays is not None:
            files = [place.read(path.name, file) for file in (parts.arrays, parts.apart) if file is not None]
            planned[directory / parts.arrays] = _copier(files if len(files) == 1 else join_array_files(files))
        if torch is not None:
            planned[directory / f"{Path(parts.tree).stem}.pt"] = _saver(torch, name, states[name], told)
    for exporter in _exporters():
        planned |= exporter(states, directory)
    if not planned:
        raise UsageError(
            f"{path} holds nothing that can be exported without torch.", "Install torch and try again."
        )
    return _write(planned, directory)


@contextmanager
def _scratch_in(directory: Path) -> Iterator[MemoryInFile]:
    """Memory in a file in `directory`, which is there from now on, unless nothing can be put together in it.

    Raises:
        StoreError: there is no room.
    """
    was_there = directory.exists()
    try:
        directory.mkdir(parents=True, exist_ok=True)
        yield MemoryInFile(directory)
    except BaseException as error:
        if not was_there:
            with suppress(OSError):
                directory.rmdir()
        if isinstance(error, OSError):
            raise StoreError(f"{directory} cannot be written: {error.strerror}.") from error
        raise


def _whole(
    states: Mapping[str, object], manifest: Manifest, path: Path, scratch: MemoryInFile
) -> dict[str, Any]:
    """The objects whose arrays are spread over ranks, with whole arrays in their place.

    They are put together in a file, from files: all of them may be more than memory holds.
    """
    translators = _translators()
    saved = SavedShards(
        ranks_in(manifest),
        lambda rank: read_part(
            manifest, path, rank, lambda name, facts: map_file(path / name, facts), translators
        ),
    )
    found: Mapping[str, Any] = {name: state for name, state in states.items() if not name.startswith(_OWN)}
    for framework in frameworks_in_use():
        found = framework.united(found, saved, {}, {}, scratch.empty)
    return {name: state for name, state in found.items() if state is not states[name]}


def _write(planned: Mapping[Path, Callable[[Path], None]], directory: Path) -> list[Path]:
    taken = [path for path in planned if os.path.lexists(path)]
    if taken:
        raise UsageError(f"{taken[0]} already exists.", "Choose an empty folder.")
    done: list[Path] = []
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for path, write in planned.items():
            done.append(path)
            write(path)
        sync_folder(directory)
    except BaseException as error:
        for path in done:
            path.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise StoreError(
                f"{done[-1] if done else directory} cannot be written: {error.strerror}."
            ) from error
        raise
    return done


def _writer(planned: PlannedFile) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        flusher = Flusher()
        try:
            write_file(path, planned.chunks(), flusher)
        finally:
            flusher.wait()

    return write


def _copier(chunks: Iterable[memoryview]) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        flusher = Flusher()
        try:
            write_file(path, chunks, flusher)
        finally:
            flusher.wait()

    return write


def _saver(torch: Any, name: str, state: object, told: Callable[[str], None]) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        changed: set[str] = set()
        plain = _trusted(torch, state, changed)
        with path.open("xb") as file:
            torch.save(plain, file)
            file.flush()
            os.fsync(file.fileno())
        torch.load(path, weights_only=True, map_location="cpu", mmap=True)
        if changed:
            told(
                f"{path.name}: torch.load refuses {', '.join(sorted(changed))}; {name} has plain values instead."
            )

    return write


def _torch(told: Callable[[str], None]) -> Any:
    try:
        return import_module("torch")
    except ImportError:
        told("torch is not installed: no .pt files are written.")
        return None


def _exporters() -> Sequence[Callable[[Mapping[str, Any], Path], Mapping[Path, Callable[[Path], None]]]]:
    """What frameworks add: given the states and the folder, files to write and how. Entry points `backprop.exporters`."""
    return [entry.load() for entry in announced("backprop.exporters")]


def _translators() -> Sequence[Translator]:
    return [*(framework.translator for framework in frameworks_in_use()), NumpyTranslator()]


_AS_THEY_ARE = (type(None), bool, int, float, complex, str, bytes, bytearray)


def _trusted(torch: Any, value: Any, changed: set[str]) -> Any:
    """`value` with nothing in it that `torch.load(weights_only=True)` refuses; names of changed types go to
    `changed`.
    """
    kind = type(value)
    if kind in _AS_THEY_ARE or isinstance(value, torch.Tensor):
        return value
    if kind in (dict, OrderedDict, Counter, defaultdict):
        items = {_trusted(torch, k, changed): _trusted(torch, v, changed) for k, v in value.items()}
        return _mapping(kind, items, value, changed)
    if kind in (list, tuple, set):
        return kind(_trusted(torch, item, changed) for item in value)
    changed.add(kind.__name__)
    if kind in (deque, frozenset, range):
        return [_trusted(torch, item, changed) for item in value]
    return _from_numpy(torch, value) if kind.__module__ == "numpy" else _text(value)


def _text(value: object) -> object:
    match value:
        case datetime.date() | datetime.time():
            return value.isoformat()
        case datetime.timedelta():
            return value.total_seconds()
        case pathlib.PurePath():
            return str(value)
        case _:
            return repr(value)


def _mapping(kind: type, items: dict[Any, Any], value: Any, changed: set[str]) -> Any:
    if kind is OrderedDict:
        ordered = OrderedDict(items)
        vars(ordered).update(vars(value))  # torch's versions of its modules
        return ordered
    if kind is not dict:
        changed.add(kind.__name__)
    return items


def _from_numpy(torch: Any, value: Any) -> Any:
    if not hasattr(value, "reshape") or not value.shape:
        return value.item() if value.dtype.kind in "biufcSU" else str(value)
    if value.dtype.name == "bfloat16":
        return torch.from_numpy(value.view("uint16").copy()).view(torch.bfloat16)
    if value.dtype.kind in "biufc" and value.dtype.isnative:
        return torch.from_numpy(value.copy())
    return value.tolist()
