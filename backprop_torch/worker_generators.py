"""What runs inside a loader's worker: its random generators, and what else it changes, are noted behind each batch.

A worker makes batches ahead of training, so what its generators are when a checkpoint is made says nothing. What they were
behind the last batch that was trained does. So each worker writes them into a small memory that it shares with the process
that trains, behind every batch, for as many batches as it may be ahead. That process reads there when it makes a
checkpoint, and writes there what a new worker is to go on from.
"""

from __future__ import annotations

import ctypes
import mmap
import pickle
import random
import struct
import sys
import threading
from collections.abc import Callable
from typing import Any

import torch
from torch.utils.data import get_worker_info
from torch.utils.data._utils import fetch

from backprop_core.script_state.unkept import Unkept
from backprop_torch.worker_parts import MOST_BYTES, Parts, parts_of

_PYTHON = struct.Struct("<625I?d")
_NUMPY = struct.Struct("<?2496siid")
_NO_NUMPY = _NUMPY.pack(False, b"", 0, 0, 0.0)
_WORDS_OF_NUMPY = 625 * 4
"""624 words, and which of them is next."""
_NUMBER = struct.Struct("<Q")
_PAIR = struct.Struct("<QQ")
_HEADER_BYTES = 2 * _NUMBER.size
_MOST_NAMES = 1 << 13

WorkerInit = Callable[[int], object]


class UnknownGeneratorError(Exception):
    """A worker's generator is of a kind that cannot be noted."""


def state_bytes() -> int:
    """How long the noted state of one worker is."""
    return int(torch.get_rng_state().numel()) + _PYTHON.size + _NUMPY.size


def _python_packed(state: Any) -> bytes:
    version, words, gauss = state
    if version != 3:
        raise UnknownGeneratorError("random")
    return _PYTHON.pack(*words, gauss is not None, gauss or 0.0)


class _NumpyLook:
    """numpy's global generator at one instant.

    To ask for its state takes ten times as long as to read its words where they lie. They tell everything but the second
    number of a pair of normal ones, which is held back for the next call. It only comes, and not goes, with other words.
    """

    __slots__ = ("_generator", "_holds", "_words", "packed")

    def __init__(self, numpy: Any, last: _NumpyLook | None) -> None:
        self._holds: bool
        self.packed: bytes
        self._generator: Any = numpy.random.mtrand._rand._bit_generator
        self._words = ctypes.string_at(self._generator.ctypes.state_address, _WORDS_OF_NUMPY)
        if last is not None and not last._holds and self._looks_like(last):
            self._holds, self.packed = False, last.packed
            return
        name, keys, position, holds, held = numpy.random.get_state()
        if name != "MT19937":
            raise UnknownGeneratorError("numpy.random")
        self._holds = bool(holds)
        self.packed = _NUMPY.pack(True, keys.tobytes(), position, holds, held)

    def _looks_like(self, other: _NumpyLook) -> bool:
        return self._generator is other._generator and self._words == other._words


class GeneratorsSeen:
    """Python's, torch's and numpy's global generators at one instant.

    Args:
        last: an earlier look, which makes this one cheaper.
    """

    __slots__ = ("_numpy", "_python", "_torch")

    def __init__(self, last: GeneratorsSeen | None = None) -> None:
        self._python = random.getstate()
        of_torch = torch.get_rng_state()
        self._torch = ctypes.string_at(of_torch.data_ptr(), of_torch.numel())
        numpy = sys.modules.get("numpy")
        self._numpy: _NumpyLook | None = None
        if numpy is not None:
            self._numpy = _NumpyLook(numpy, None if last is None else last._numpy)

    def shows(self, other: GeneratorsSeen) -> bool:
        """Whether nothing was drawn between the two."""
        return (
            self._torch == other._torch
            and self._packed_of_numpy() == other._packed_of_numpy()
            and self._python == other._python
        )

    def _packed_of_numpy(self) -> bytes:
        return _NO_NUMPY if self._numpy is None else self._numpy.packed

    def packed(self) -> bytes:
        """All of it, `state_bytes` long."""
        return self._torch + _python_packed(self._python) + self._packed_of_numpy()


def set_generators(packed: bytes) -> None:
    """Put the generators of this process where `GeneratorsSeen.packed` saw them."""
    of_torch = len(packed) - _PYTHON.size - _NUMPY.size
    *words, has_gauss, gauss = _PYTHON.unpack_from(packed, of_torch)
    present, keys, position, numpy_has_gauss, numpy_gauss = _NUMPY.unpack_from(
        packed, of_torch + _PYTHON.size
    )
    torch.set_rng_state(torch.frombuffer(bytearray(packed[:of_torch]), dtype=torch.uint8))
    random.setstate((3, tuple(words), gauss if has_gauss else None))
    if present:
        import numpy as np

        words_of_numpy = np.frombuffer(keys, dtype=np.uint32)
        np.random.set_state(("MT19937", words_of_numpy, position, numpy_has_gauss, numpy_gauss))


class WorkerMemory:
    """Memory that a loader's workers share with the process that made them.

    Each worker has a place of its own there. It begins with the number of the order that the worker has to carry out, which
    is to set its generators and what else it changes to the state behind it, and with a mark that the worker has given up.
    Then come, for each of the newest batches of its life, its number and the number of the state behind it; then these
    states, each behind its length; then what the worker changes and cannot pass on.

    Args:
        workers: how many.
        slots: how many of a worker's newest batches are remembered.
        context: what starts the workers; None: they are forked from this process.
    """

    def __init__(self, workers: int, slots: int, context: Any | None) -> None:
        self.slots, self._size = slots, _NUMBER.size + state_bytes() + MOST_BYTES
        self._states = _HEADER_BYTES + self._size + slots * _PAIR.size
        self._names = self._states + slots * (_NUMBER.size + self._size)
        self._each = self._names + _NUMBER.size + _MOST_NAMES
        length = workers * self._each
        self._shared: Any = mmap.mmap(-1, length) if context is None else context.RawArray("B", length)

    def _bytes(self) -> memoryview:
        return memoryview(self._shared).cast("B")

    # -- the process that trains ---------------------------------------------------------------------------------

    def order(self, worker: int, packed: bytes) -> None:
        """Before its next batch the worker is to set its generators and what else it changes."""
        start, memory = worker * self._each, self._bytes()
        _put(memory, start + _HEADER_BYTES, packed)
        _NUMBER.pack_into(memory, start, _NUMBER.unpack_from(memory, start)[0] + 1)

    def take_back(self, worker: int) -> None:
        """An order that this worker has not carried out is none: it has made no batch yet."""
        _NUMBER.pack_into(self._bytes(), worker * self._each, 0)

    def noted(self, worker: int, batch: int) -> bytes | None:
        """The worker's state behind the batch with this number of its life; empty: as it was when it began.

        None where that is not known: the batch is not made, or too long ago.
        """
        start, memory = worker * self._each, self._bytes()
        if _NUMBER.unpack_from(memory, start + _NUMBER.size)[0]:
            return None
        pair = start + _HEADER_BYTES + self._size + batch % self.slots * _PAIR.size
        number, version = _PAIR.unpack_from(memory, pair)
        if number != batch:
            return None
        if not version:
            return b""
        place = start + self._states + version % self.slots * (_NUMBER.size + self._size)
        if _NUMBER.unpack_from(memory, place)[0] != version:
            return None
        return _at(memory, place + _NUMBER.size)

    def named(self, worker: int) -> list[Unkept]:
        """What the worker changes and cannot pass on."""
        named = _at(self._bytes(), worker * self._each + self._names)
        try:
            return pickle.loads(named) if named else []
        except Exception:  # the worker is writing it: the next checkpoint finds it
            return []

    # -- the worker ----------------------------------------------------------------------------------------------

    def ordered(self, worker: int, done: int) -> tuple[int, bytes | None]:
        """The newest order's number, and the generators' state if it is not the one that is done."""
        start, memory = worker * self._each, self._bytes()
        number: int = _NUMBER.unpack_from(memory, start)[0]
        if number == done:
            return number, None
        return number, _at(memory, start + _HEADER_BYTES)

    def note(self, worker: int, batch: int, version: int, packed: bytes | None) -> None:
        """This batch is made, and the generators' state has this number behind it; the state itself if it is new."""
        start, memory = worker * self._each, self._bytes()
        if packed is not None:
            place = start + self._states + version % self.slots * (_NUMBER.size + self._size)
            _NUMBER.pack_into(memory, place, version)
            _put(memory, place + _NUMBER.size, packed)
        pair = start + _HEADER_BYTES + self._size + batch % self.slots * _PAIR.size
        _PAIR.pack_into(memory, pair, batch, version)

    def name(self, worker: int, unkept: list[Unkept]) -> None:
        """The worker changes this and cannot pass it on."""
        place = worker * self._each + self._names
        while len(packed := pickle.dumps(unkept)) > _MOST_NAMES:
            unkept = unkept[:-1]
        _put(self._bytes(), place, packed)

    def give_up(self, worker: int) -> None:
        """Nothing that this worker has noted, or will, is to be believed."""
        _NUMBER.pack_into(self._bytes(), worker * self._each + _NUMBER.size, 1)


def _put(memory: memoryview, place: int, packed: bytes) -> None:
    """Bytes behind their length, which is written last: who reads meanwhile finds none."""
    _NUMBER.pack_into(memory, place, 0)
    memory[place + _NUMBER.size : place + _NUMBER.size + len(packed)] = packed
    _NUMBER.pack_into(memory, place, len(packed))


def _at(memory: memoryview, place: int) -> bytes:
    length = _NUMBER.unpack_from(memory, place)[0]
    return bytes(memory[place + _NUMBER.size : place + _NUMBER.size + length])


class NotingInit:
    """A loader's `worker_init_fn`: the script's own, and then the worker begins to note its generators.

    Args:
        own: the script's; None: it has none.
        seed: the loader's base seed in the process that first made these workers; None: these are the first.
    """

    def __init__(self, own: WorkerInit | None, memory: WorkerMemory, seed: int | None) -> None:
        self.own, self.memory, self.seed = own, memory, seed

    def __call__(self, worker: int) -> None:
        if self.seed is not None:
            _seed_as_torch_does(self.seed, worker)
        if self.own is not None:
            self.own(worker)
        try:
            _Noting(self.memory, worker).install()
        except Exception:  # the worker works without us
            self.memory.give_up(worker)


def _seed_as_torch_does(base: int, worker: int) -> None:
    seed = base + worker
    random.seed(seed)
    torch.manual_seed(seed)
    if "numpy" in sys.modules:
        import numpy as np
        from torch.utils.data._utils.worker import _generate_state

        words: Any = _generate_state
        np.random.seed(words(base, worker))
    info = get_worker_info()
    if info is not None:
        object.__setattr__(info, "seed", seed)


class _Noting:
    """Notes behind each batch that this process makes: its generators, and what it has changed."""

    def __init__(self, memory: WorkerMemory, worker: int) -> None:
        self._memory, self._worker = memory, worker
        self._thread = threading.get_ident()
        self._made = self._version = self._done = 0
        self._inside = False
        self._last = GeneratorsSeen()
        self._last.packed()  # raises where they cannot be noted
        self._new: bytes | None = None
        self._parts: Parts | None = None
        self._changes = b""
        self._named: list[Unkept] = []

    def install(self) -> None:
        """From now on, in this process only."""
        original: Any = fetch._MapDatasetFetcher.fetch
        noting = self

        def fetches(fetcher: Any, index: Any) -> Any:
            if noting._inside or threading.get_ident() != noting._thread:
                return original(fetcher, index)  # a loader inside of the script's dataset
            noting._before(fetcher)
            try:
                return original(fetcher, index)
            finally:
                noting._behind()

        setattr(fetch._MapDatasetFetcher, "fetch", fetches)  # noqa: B010

    def _before(self, fetcher: Any) -> None:
        self._inside = True
        try:
            if self._parts is None:
                self._parts = parts_of(fetcher)
            self._done, packed = self._memory.ordered(self._worker, self._done)
            if packed is not None:
                generators, changes = packed[: state_bytes()], packed[state_bytes() :]
                self._parts.restore(changes)
                self._changes = changes
                set_generators(generators)
                self._changed(GeneratorsSeen())
        except Exception:
            self._memory.give_up(self._worker)

    def _behind(self) -> None:
        self._inside = False
        self._made += 1
        try:
            assert self._parts is not None  # there since before the batch
            changes, named = self._parts.look(), self._parts.unkept
            look = GeneratorsSeen(self._last)
            if changes != self._changes or not look.shows(self._last):
                self._changes = changes
                self._changed(look)
            if named != self._named:
                self._named = named
                self._memory.name(self._worker, named)
            self._memory.note(self._worker, self._made, self._version, self._new)
            self._new = None
        except Exception:
            self._memory.give_up(self._worker)

    def _changed(self, look: GeneratorsSeen) -> None:
        self._last = look
        self._version += 1
        self._new = look.packed() + self._changes
