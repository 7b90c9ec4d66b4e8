"""What is in a checkpoint, whatever it lies on: which files a snapshot becomes, and how states come out of
them again.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from backprop_core.errors import CheckpointDamagedError, StateMismatchError
from backprop_core.quick_dataclass import dataclass
from backprop_core.strict_json import decode_exactly, encode_exactly

from . import leftovers
from .array_files import APART, INDEX, PlannedFile, plan_array_files
from .arrays import Translator
from .codec import CapturedState, Snapshot, rebuild
from .files import FileFacts, Flusher, open_folder, write_file
from .manifest import Manifest, ObjectFiles
from .names import Owner
from .safetensors_file import parse_array_file
from .shards import PART, SHARDS, Part, SavedShards, part_folder, ranks_in
from .unchanged import Divides

MAX_TREE_BYTES: Final = 256 << 20
"""Parsed JSON takes some thirty times its size: a tree is for facts, arrays are for data."""

RAW_NAME: Final = r"[A-Za-z0-9_][A-Za-z0-9_-]{0,99}\.[A-Za-z0-9_-]{1,20}"
"""Names of raw files: no folder, no hidden file, an extension that is not ours."""

_LARGE_BYTES = 16 << 20
"""From here on a thread costs less than it gains."""
_READERS: Final = 2

ReadVerified = Callable[[str, FileFacts], memoryview]
"""Gives the bytes of a file whose size and digest are right; ValueError or OSError otherwise."""


@dataclass(frozen=True, slots=True)
class FolderPlan:
    """All files of a checkpoint but the manifest, by name, and which object they belong to."""

    files: Mapping[str, PlannedFile]
    objects: Mapping[str, ObjectFiles]
    parts: Callable[[Path], Sequence[Part]] | None = None
    """Writes what the ranks hold into folders beside the checkpoint, where its arrays are spread over several."""

    @property
    def nbytes(self) -> int:
        """Bytes of all files that are certainly to be written."""
        return sum(file.nbytes for file in self.files.values() if file.before is None)


def plan_folder(
    snapshot: Snapshot, unchanged: Divides | None = None, copied_by: int | None = None
) -> FolderPlan:
    """Name and lay out the files of a snapshot; `unchanged` says what may be the same as in the last checkpoint.

    Args:
        copied_by: the rank whose copy in memory it is. What it holds of arrays that are spread is among the files then;
            what the others hold of them is not asked for.

    Raises:
        ValueError: an object that no reader would take back; a sentence.
    """
    files: dict[str, PlannedFile] = {}
    objects: dict[str, ObjectFiles] = {}
    for name, state in snapshot.objects.items():
        if state.raw:
            files[name] = _raw_file(name, state, files)
            objects[name] = ObjectFiles(name, None, raw=True)
    for name, state in snapshot.objects.items():
        if state.raw:
            continue
        stem = _stem(name, {n.casefold() for n in files})
        files[f"{stem}.json"] = _tree_file(name, state)
        objects[name] = ObjectFiles(f"{stem}.json", None)
        if state.arrays:
            arrays, objects[name] = plan_array_files(name, stem, state, unchanged)
            files |= arrays
    if copied_by is not None and snapshot.shards is not None:
        part = plan_folder(snapshot.shards).files
        return FolderPlan(files | {f"{part_folder(copied_by)}{name}": part[name] for name in part}, objects)
    return FolderPlan(files, objects, _parts_of(snapshot))


def _parts_of(snapshot: Snapshot) -> Callable[[Path], Sequence[Part]] | None:
    own, others = snapshot.shards, snapshot.others
    if own is None:
        return None
    if others is None:
        raise ValueError(
            "its arrays are spread over several processes, and the parts of the others are missing"
        )

    def parts(directory: Path) -> Sequence[Part]:
        part = write_part(directory, own, 0)
        try:
            return [part, *others()]
        except BaseException:
            leftovers.remove(directory / part.folder)
            raise

    return parts


def write_part(directory: Path, snapshot: Snapshot, rank: int) -> Part:
    """Write what one rank holds into a folder of its own in `directory`; it is on the disk when this returns.

    Raises:
        OSError: it is not.
        ValueError: a name that no reader would take back.
    """
    plan = plan_folder(snapshot)
    name = Owner.this_process().saving_folder()
    folder = directory / name
    folder.mkdir(parents=True)
    flusher = Flusher()
    try:
        files = {
            file: write_file(folder / file, one.chunks(), flusher, lasting=one.lasting)
            for file, one in plan.files.items()
        }
        flusher.take(open_folder(folder))
    finally:
        flusher.wait()
    return Part(rank, name, files)


def _raw_file(name: str, state: CapturedState, taken: Mapping[str, PlannedFile]) -> PlannedFile:
    (content,) = state.arrays.values()
    if not re.fullmatch(RAW_NAME, name) or name in taken or name.endswith((".json", ".safetensors")):
        raise ValueError(f"{name[:80]!r} is not a valid file name in a checkpoint")
    return PlannedFile(content.nbytes, lambda: iter((content.view(),)))


def _tree_file(name: str, state: CapturedState) -> PlannedFile:
    tree = encode_exactly(state.tree)
    if len(tree) > MAX_TREE_BYTES:
        raise ValueError(
            f"the plain values of {name} take {len(tree)} bytes as JSON, more than {MAX_TREE_BYTES};"
            " keep long lists of numbers as an array or a tensor"
        )
    return PlannedFile(len(tree), lambda: iter((tree,)))


_ENDINGS: Final = (".json", ".safetensors", APART, INDEX)


def _stem(name: str, taken: set[str]) -> str:
    """A file name for an object, safe on every file system, unlike the others even where case is ignored."""
    base = re.sub(r"[^A-Za-z0-9_.-]", "_", name).lstrip(".-")[:100] or "object"
    stem, number = base, 2
    taken = taken | {"manifest.json"}
    while any(f"{stem}{ending}".casefold() in taken for ending in _ENDINGS):
        stem, number = f"{base}~{number}", number + 1
    return stem


def read_part(
    manifest: Manifest, path: Path, rank: int, read: ReadVerified, translators: Sequence[Translator]
) -> dict[str, Mapping[str, Any]]:
    """What rank `rank` held of arrays that were spread, by object; its files are verified before one of them is parsed.

    Raises:
        CheckpointDamagedError, StateMismatchError, OSError: as `read_states`.
    """
    folder = part_folder(rank)
    files = {name: facts for name, facts in manifest.files.items() if name.startswith(folder)}
    data = {name: _read(name, path, read, facts) for name, facts in files.items()}
    found: dict[str, Mapping[str, Any]] = {}
    for name in files:
        if name.endswith(".json"):
            arrays = f"{name.removesuffix('.json')}.safetensors"
            parts = ObjectFiles(name, arrays if arrays in data else None)
            state = _state(name, path, parts, data, translators)
            found[state["object"]] = state["shards"]
    return found


def read_states(
    manifest: Manifest, path: Path, read: ReadVerified, translators: Sequence[Translator]
) -> dict[str, object]:
    """The states of all objects. Every file is verified before the first one is parsed.

    Raises:
        CheckpointDamagedError: a file that is missing, changed or malformed.
        StateMismatchError: a framework that is not in use here.
        OSError: a file that is there but cannot be read.
    """
    data = _read_all(manifest, path, read)
    ranks = ranks_in(manifest)
    states = {name: _state(name, path, parts, data, translators) for name, parts in manifest.objects.items()}
    if ranks:
        states[SHARDS] = SavedShards(ranks, lambda rank: read_part(manifest, path, rank, read, translators))
    return states


def _read_all(manifest: Manifest, path: Path, read: ReadVerified) -> dict[str, memoryview]:
    """All files but those of ranks, the large ones beside each other: one is hashed while another is read."""
    files = {name: facts for name, facts in manifest.files.items() if not PART.match(name)}
    large = [name for name, facts in files.items() if facts.nbytes >= _LARGE_BYTES]
    if len(large) < 2:
        return {name: _read(name, path, read, facts) for name, facts in files.items()}
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(_READERS, thread_name_prefix="backprop-read") as pool:
        by_size = sorted(files.items(), key=lambda item: -item[1].nbytes)
        reads = {name: pool.submit(_read, name, path, read, facts) for name, facts in by_size}
        try:
            return {name: reads[name].result() for name in files}
        finally:
            pool.shutdown(cancel_futures=True)


def _read(name: str, path: Path, read: ReadVerified, facts: FileFacts) -> memoryview:
    if name.endswith(".json") and facts.nbytes > MAX_TREE_BYTES:
        raise damaged(path / name, f"it claims {facts.nbytes} bytes of JSON")
    try:
        return read(name, facts)
    except FileNotFoundError:
        raise damaged(path / name, "it is missing") from None
    except ValueError as error:
        raise damaged(path / name, str(error)) from None
    except MemoryError:
        raise damaged(path / name, f"its {facts.nbytes} bytes do not fit into memory") from None


def _state(
    name: str,
    path: Path,
    parts: ObjectFiles,
    data: Mapping[str, memoryview],
    translators: Sequence[Translator],
) -> Any:
    if parts.raw:
        return data[parts.tree]
    file = parts.arrays or parts.tree
    try:
        arrays = {} if parts.arrays is None else parse_array_file(data[parts.arrays])
        if parts.apart is not None:
            file = parts.apart
            kept = parse_array_file(data[file])
            if kept.keys() & arrays.keys():
                raise ValueError("it holds arrays that are in the other file, too")
            arrays |= kept
        file = parts.tree
        return rebuild(decode_exactly(data[parts.tree]), arrays, translators)
    except (StateMismatchError, CheckpointDamagedError):
        raise
    except ImportError as error:
        raise StateMismatchError(
            f"The state of {name[:80]} needs a library that is not installed: {error.name}.",
            "Install it and try again.",
        ) from error
    except Exception as error:  # whatever a hostile tree makes a translator trip over, it is the tree's fault
        raise damaged(
            path / file, f"it cannot be read back ({type(error).__name__}: {str(error)[:200]})"
        ) from error


def damaged(path: Path, problem: str) -> CheckpointDamagedError:
    """The error for a file of a checkpoint."""
    return CheckpointDamagedError(f"{path} is damaged: {problem}.", path=path)
