"""Which files the arrays of one object become: one, or two where a large part of them stays as it is."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Final

from backprop_core.quick_dataclass import dataclass
from backprop_core.strict_json import decode_exactly, encode_exactly

from .arrays import Dense
from .codec import CapturedState
from .manifest import Manifest, ObjectFiles
from .safetensors_file import ArrayFile, plan_array_file
from .unchanged import Before, ChangedMeanwhileError, Divides

APART: Final = "~unchanged.safetensors"
"""The ending of the file of arrays that stay as they are. No other object's file can have it: see `folder._stem`."""
INDEX: Final = ".safetensors.index.json"
"""The ending of the list that Hugging Face's loaders read to find the arrays of several files."""


@dataclass(frozen=True, slots=True)
class PlannedFile:
    """A file still to be written.

    Attributes:
        nbytes: its size.
        chunks: makes its bytes piece by piece.
        before: the file of the last checkpoint that it is likely to equal; then that one is linked.
        in_place: some of the bytes are still the training's memory: it has to equal `before`, or the save fails.
        differs: to be called when it does not.
        lasting: each chunk stays as it is when the next one is asked for.
    """

    nbytes: int
    chunks: Callable[[], Iterator[bytes | memoryview]]
    before: Before | None = None
    in_place: bool = False
    differs: Callable[[], None] = lambda: None
    lasting: bool = False

    def changed_meanwhile(self) -> ChangedMeanwhileError:
        """The error for a file in place that turned out to differ."""
        self.differs()
        return ChangedMeanwhileError("An array that had not been copied was changed before it was read.")


def plan_array_files(
    name: str, stem: str, state: CapturedState, unchanged: Divides | None
) -> tuple[dict[str, PlannedFile], ObjectFiles]:
    """The files for the arrays of object `name`, whose file names begin with `stem`; and which they are.

    Raises:
        ValueError: more arrays than a file can name.
    """
    tree, whole = f"{stem}.json", f"{stem}.safetensors"
    if unchanged is None:
        return {whole: _file(plan_array_file(state.arrays, state.metadata()))}, ObjectFiles(tree, whole)
    parting = unchanged.part(name, state.arrays, state.in_place)
    if not parting.apart:
        planned = _planned(name, whole, state, state.arrays, unchanged, stays=parting.whole_stays)
        return {whole: planned}, ObjectFiles(tree, whole)
    kept = {key: dense for key, dense in state.arrays.items() if key in parting.apart}
    rest = {key: dense for key, dense in state.arrays.items() if key not in parting.apart}
    apart = f"{stem}{APART}"
    files = {
        apart: _planned(name, apart, state, kept, unchanged, stays=parting.apart_stays),
        whole: _file(plan_array_file(rest, state.metadata())),
        f"{stem}{INDEX}": _index({apart: kept, whole: rest}),
    }
    return files, ObjectFiles(tree, whole, apart=apart)


def _planned(
    name: str,
    file: str,
    state: CapturedState,
    arrays: Mapping[str, Dense],
    unchanged: Divides,
    *,
    stays: bool,
) -> PlannedFile:
    """A file of which some or all arrays may stay as they were."""
    plan = plan_array_file(arrays, state.metadata())
    return _file(
        plan,
        before=unchanged.before(file, plan.nbytes) if stays else None,
        in_place=bool(state.in_place),
        differs=lambda: unchanged.differs(name, arrays),
    )


def _file(
    plan: ArrayFile,
    *,
    before: Before | None = None,
    in_place: bool = False,
    differs: Callable[[], None] = lambda: None,
) -> PlannedFile:
    chunks = _from_live_memory(plan) if in_place else plan.chunks
    return PlannedFile(plan.nbytes, chunks, before, in_place, differs, lasting=not in_place)


def _from_live_memory(plan: ArrayFile) -> Callable[[], Iterator[memoryview]]:
    def chunks() -> Iterator[memoryview]:
        try:
            yield from plan.chunks()
        except OSError as error:
            raise ChangedMeanwhileError(
                "The memory of an array that had not been copied was freed before it was read."
            ) from error

    return chunks


def _index(files: Mapping[str, Mapping[str, Dense]]) -> PlannedFile:
    """The index of Hugging Face's sharded checkpoints, such as `model.safetensors.index.json`."""
    total = sum(dense.nbytes for arrays in files.values() for dense in arrays.values())
    text = encode_exactly(
        {
            "metadata": {"total_size": total},
            "weight_map": {key: file for file, arrays in files.items() for key in sorted(arrays)},
        },
        indent=1,
    )
    return PlannedFile(len(text), lambda: iter((text,)))


def arrays_apart(manifest: Manifest, read: Callable[[str], memoryview]) -> dict[str, frozenset[str]]:
    """By object, the arrays that a checkpoint has in a file of those that stay as they are; `read` gives a file's bytes.

    Raises:
        OSError, ValueError: an index cannot be read.
    """
    found: dict[str, frozenset[str]] = {}
    for name, parts in manifest.objects.items():
        index = parts.tree.removesuffix(".json") + INDEX
        if parts.apart is not None and index in manifest.files:
            where = decode_exactly(read(index))
            names = where.get("weight_map") if isinstance(where, dict) else None
            if isinstance(names, dict):
                found[name] = frozenset(str(key) for key, file in names.items() if file == parts.apart)
    return found
