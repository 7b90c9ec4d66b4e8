"""The framework-free coat of arrays: what a translator turns tensors into, and back.

Core never imports a framework. A translator for torch, numpy or anything else takes a value apart into named
dense arrays and a few plain facts; the store writes those; the same translator builds the value again.
"""

from __future__ import annotations

import contextlib
import mmap
import sys
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol, TypeAlias

from backprop_core.quick_dataclass import dataclass

from .memory import read_memory

JSON: TypeAlias = "bool | int | float | str | Sequence[JSON] | Mapping[str, JSON] | None"

# Bits of one element of every dtype the safetensors format knows (safetensors 0.8,
# `safetensors/src/tensor.rs`).
DTYPE_BITS: Mapping[str, int] = {
    "F4": 4, "F6_E2M3": 6, "F6_E3M2": 6,
    "BOOL": 8, "U8": 8, "I8": 8, "F8_E5M2": 8, "F8_E4M3": 8, "F8_E8M0": 8, "F8_E4M3FNUZ": 8, "F8_E5M2FNUZ": 8,
    "I16": 16, "U16": 16, "F16": 16, "BF16": 16,
    "I32": 32, "U32": 32, "F32": 32,
    "I64": 64, "U64": 64, "F64": 64, "C64": 64,
}  # fmt: skip

_PAGE = mmap.PAGESIZE
_TOUCHED_AT_ONCE = 64 << 20
# MADV_WIPEONFORK of Linux 4.14 (asm-generic/mman-common.h), which the mmap module does not name yet.
_WIPE_ON_FORK = 18 if sys.platform == "linux" else None
# Python's default is a shared map: it gets no huge pages (a third of the speed here), and forks write into it.
_PRIVATE = {"flags": mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS} if hasattr(mmap, "MAP_PRIVATE") else {}


class Dense(NamedTuple):
    """One dense, C-contiguous array. A tuple, because two of them are made of each array while training waits.

    Attributes:
        dtype: the safetensors name of the element type, such as "F32", "BF16", "I64" or "BOOL".
        shape: the lengths of the axes; `()` for one element.
        nbytes: bytes of all elements.
        view: the elements in C order as a one-dimensional view of bytes; zero-copy where the memory allows
            it.
        copy_into: fills a writable buffer of exactly `nbytes`; may be asynchronous until
            `Translator.synchronize`.
        address: where the elements lie in this process's memory, in C order and without gaps, so that they can be copied
            without asking the framework; 0 where that is not so. `view` and `copy_into` keep the memory alive.
        version: the framework's own count of changes, or None. Nothing may rest on it alone: much is written past it.
        in_place: the memory is still the training's, which may change it or let go of it at any moment.
    """

    dtype: str
    shape: tuple[int, ...]
    nbytes: int
    view: Callable[[], memoryview]
    copy_into: Callable[[memoryview], None]
    address: int = 0
    version: int | None = None
    in_place: bool = False

    def pieces(self) -> Iterator[memoryview]:
        """The elements in C order, as views of bytes that are valid until the next one is asked for.

        Raises:
            OSError: the memory of an array that was left in place is gone.
        """
        if self.in_place:
            yield from read_memory(self.address, self.nbytes)
        else:
            yield self.view()


class ArrayNode(NamedTuple):
    """How one value of a framework is taken apart.

    Attributes:
        tag: what it was, such as "tensor" or "sparse_coo"; only the translator reads it.
        meta: plain facts needed to build it again, JSON as it stands: no NaN, no tuples, no key "$".
        arrays: its dense parts by name, often just `{"": dense}`.
        identity: what `Translator.identity` would say, where to take the value apart has told it; None asks that.
    """

    tag: str
    meta: Mapping[str, JSON]
    arrays: Mapping[str, Dense]
    identity: Hashable | None = None


@dataclass(frozen=True, slots=True)
class RawFile:
    """A tracked state that already has a file format, such as another program's checkpoint.

    It becomes a file of its own in the checkpoint, named like the object and holding exactly `content`, and is
    given back as a memoryview of its verified bytes.
    """

    content: Dense


class Translator(Protocol):
    """Takes the values of one framework apart and builds them again."""

    @property
    def name(self) -> str:
        """Written into the checkpoint: on loading, the translator of this name is asked."""
        ...

    def handles(self, value: object) -> bool:
        """Whether `value` belongs to this framework. Exact and cheap, without importing the framework."""
        ...

    def identity(self, value: object) -> Hashable | None:
        """Equal for two values over the same memory with the same layout (tied weights); None if never
        shared.
        """
        ...

    def take_apart(self, value: object) -> ArrayNode:
        """The parts of `value`, without copying.

        Raises:
            TypeError: a sentence saying why a value of this kind cannot be stored.
        """
        ...

    def build(self, tag: str, meta: Mapping[str, JSON], arrays: Mapping[str, memoryview]) -> object:
        """The value again. The memoryviews are writable and may be kept: no copy is needed."""
        ...

    def allocate(self, nbytes: int) -> memoryview:
        """A writable staging buffer, its pages already touched (pinned where that makes copies faster)."""
        ...

    def pin(self, memory: memoryview) -> Callable[[], None]:
        """Have copies into memory that is not this translator's own run at full speed; undone by what is returned."""
        ...

    def synchronize(self) -> None:
        """Wait until every `copy_into` so far has really happened."""
        ...


def unpinned() -> None:
    """Undo nothing: what `Translator.pin` returns where no copy is faster for it."""


def allocate_ram(nbytes: int, *, staging: bool = True) -> memoryview:
    """A writable, page-aligned buffer of ordinary memory, in huge pages where the system gives them.

    An anonymous map instead of a bytearray: it is not zeroed twice, and huge pages make the first touch several times
    faster. A `staging` buffer has every page faulted in now, so that the first copy into it runs at full speed, and is
    empty in forked processes: loader workers would share it, and the next copy would first have to unshare every page
    (ten times as slow, measured). Empty, not absent (MADV_DONTFORK): a forked process that let go of a map that it does
    not have would unmap whatever it has put in that place since, and crash.

    Raises:
        MemoryError: the system does not have that much.
    """
    if nbytes == 0:
        return memoryview(bytearray())
    try:
        memory = mmap.mmap(-1, nbytes, **_PRIVATE)
    except (OSError, OverflowError, ValueError) as error:
        raise MemoryError(f"{nbytes} bytes of memory are not available") from error
    if nbytes >= 1 << 21:
        _advise(memory, getattr(mmap, "MADV_HUGEPAGE", None))
    view = memoryview(memory)
    if staging:
        _advise(memory, _WIPE_ON_FORK)
        touch(view)
    return view


def _advise(memory: mmap.mmap, advice: int | None) -> None:
    """Tell the kernel, if it listens: without, all is only slower."""
    if advice is not None:
        with contextlib.suppress(OSError):
            memory.madvise(advice)


def touch(view: memoryview) -> None:
    """Fault every page in, by reading zeros: a read lets other threads run meanwhile, an assignment would not."""
    try:
        with Path("/dev/zero").open("rb", buffering=0) as zeros:
            for start in range(0, len(view), _TOUCHED_AT_ONCE):
                zeros.readinto(view[start : start + _TOUCHED_AT_ONCE])
    except OSError:
        pages = view[::_PAGE]
        pages[:] = bytes(len(pages))
