"""The group over which the ranks of a box talk. Every wait in it ends: another rank may be stopped, or behind a cut link.

Waits are cut into short ones. In between Python hears signals, and whoever waits is asked whether it should go on.
"""

from __future__ import annotations

import ctypes
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist

from backprop_core.session.rank_patience import LOOK_EVERY_S
from backprop_core.session.ranks_error import LateRankError, LostRankError, RankError

_LOOK = timedelta(seconds=LOOK_EVERY_S)
_NO_TIMEOUT = timedelta(days=365)
"""Gloo's own timeout of half an hour would end a training that was paused for longer."""


_WORDS: deque[Any] = deque(maxlen=8)
"""The last words of this process, which a thread of gloo may still hold.

It frees a word behind its end, and the tensors with it, for which it asks for Python's lock. Where the interpreter ends at
that moment Python ends the thread, and C++ then the process: "terminate called without an active exception" (M, with gloo
alone: 2 of 16 pairs of processes that ended right behind a word on a busy machine, none of 50 that held it so).
"""


class RankGroup:
    """A group of all ranks on the processor, so that no accelerator waits for a word. All have to make it together.

    Attributes:
        goes_on: asked while this rank waits; False: it waits no longer.
    """

    def __init__(self) -> None:
        self._group = dist.new_group(backend="gloo")
        self._broken: RankError | None = None
        self.goes_on: Callable[[], bool] = lambda: True
        with suppress(Exception):
            dist.distributed_c10d._set_pg_timeout(_NO_TIMEOUT, self._group)

    def highest(self, numbers: list[int]) -> list[int]:
        """The highest that any rank gives, of each number."""
        given = torch.tensor(numbers, dtype=torch.int64)
        self._done(lambda: dist.all_reduce(given, op=dist.ReduceOp.MAX, group=self._group, async_op=True))
        return [int(one) for one in given]

    def first_says(self, numbers: list[int]) -> list[int]:
        """The numbers that the first rank gives."""
        given = torch.tensor(numbers, dtype=torch.int64)
        self._done(lambda: dist.broadcast(given, src=0, group=self._group, async_op=True))
        return [int(one) for one in given]

    def first_gives(self, data: bytes) -> bytes:
        """The bytes that the first rank gives; those of the others are ignored."""
        (size,) = self.first_says([len(data)])
        given = _tensor_of(data, size)
        self._done(lambda: dist.broadcast(given, src=0, group=self._group, async_op=True))
        return given.numpy().tobytes()

    def given(self, data: bytes) -> list[bytes]:
        """The bytes that each rank gives, in the order of ranks; on the first rank alone."""
        sizes = self.all_numbers(len(data))
        largest, is_first = max(1, *sizes), dist.get_rank() == 0
        mine = _tensor_of(data, largest)
        parts = [torch.empty(largest, dtype=torch.uint8) for _ in sizes] if is_first else None
        self._done(lambda: dist.gather(mine, parts, dst=0, group=self._group, async_op=True))
        return [part[:size].numpy().tobytes() for part, size in zip(parts or (), sizes, strict=False)]

    def all_give(self, data: bytes) -> list[bytes]:
        """The bytes that each rank gives, in the order of ranks, on all of them."""
        sizes = self.all_numbers(len(data))
        largest = max(1, *sizes)
        parts = [torch.empty(largest, dtype=torch.uint8) for _ in sizes]
        mine = _tensor_of(data, largest)
        self._done(lambda: dist.all_gather(parts, mine, group=self._group, async_op=True))
        return [part[:size].numpy().tobytes() for part, size in zip(parts, sizes, strict=True)]

    def all_numbers(self, number: int) -> list[int]:
        """The number that each rank gives."""
        numbers = [torch.zeros(1, dtype=torch.int64) for _ in range(dist.get_world_size())]
        mine = torch.tensor([number], dtype=torch.int64)
        self._done(lambda: dist.all_gather(numbers, mine, group=self._group, async_op=True))
        return [int(one.item()) for one in numbers]

    def _done(self, begin: Callable[[], Any]) -> None:
        """Begin a collective, and return when it is over.

        Raises:
            LostRankError: another rank is gone.
            LateRankError: it has not come, and is waited for no longer.
        """
        if self._broken is not None:  # words would be taken for others
            raise self._broken
        try:
            work = begin()
            _WORDS.append(work)
            self._wait(work)
        except RankError as error:
            self._broken = error
            raise
        except RuntimeError as error:
            what = (str(error).strip() or type(error).__name__).splitlines()[0]
            what = what.partition("] ")[2] or what  # where in gloo's source
            self._broken = LostRankError(
                f"Another process of this training is gone: {what.partition('. ')[0]}."
            )
            raise self._broken from error

    def _wait(self, work: Any) -> None:
        while True:
            try:
                work.wait(_LOOK)
            except RuntimeError:
                if work.is_completed():
                    work.wait()  # it has failed, and says so again; or it came in the last moment
                    return
            else:
                return
            if not self.goes_on():
                _never_freed((self._group, work))
                raise LateRankError("Another process of this training has not come to this place in time.")


def _tensor_of(data: bytes, size: int) -> torch.Tensor:
    """`data` as bytes of a tensor that has room for `size` of them."""
    made = torch.zeros(size, dtype=torch.uint8)
    if data:
        used = min(size, len(data))
        made[:used] = torch.frombuffer(bytearray(data[:used]), dtype=torch.uint8)
    return made


def _never_freed(kept: object) -> None:
    """Keep what must not be freed: the last words, and a group in which a word was waited for and never came.

    The end of such a group would wait for that word, half an hour by gloo's timeout: in `destroy_process_group`, or where
    the interpreter takes down its modules (both measured). So it has one reference that nothing takes away.
    """
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(kept))


_never_freed(_WORDS)
