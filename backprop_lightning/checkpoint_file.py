"""Lightning's own checkpoint as one file of ours: written through a reused buffer, read from verified bytes only."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pickle import UnpicklingError
from typing import IO, Any, cast

import torch

from backprop_core.checkpoints.arrays import Dense, RawFile, allocate_ram
from backprop_core.errors import StateMismatchError

NAME = "lightning.ckpt"


class CheckpointFile:
    """Turns Lightning's checkpoint dict into the bytes of `lightning.ckpt`, with as little copying as can be."""

    def __init__(self) -> None:
        self._arena = memoryview(b"")

    def raw(self, checkpoint: dict[str, Any]) -> RawFile:
        """The file of `checkpoint`; tensors are copied when the bytes are asked for, once."""
        counter = _Counter()
        _write(checkpoint, counter)
        nbytes = counter.nbytes
        if self._arena.nbytes < nbytes:  # now, and not when a save at the deadline asks for the bytes
            self._arena = memoryview(b"")  # the old one goes before the new one comes: never both
            self._arena = allocate_ram(nbytes + nbytes // 64)

        def view() -> memoryview:
            place = self._arena[:nbytes]
            _write(checkpoint, _Filler(place))
            return place

        return RawFile(
            Dense("U8", (nbytes,), nbytes, view, lambda buffer: _write(checkpoint, _Filler(buffer)))
        )


def read(data: memoryview, source: str) -> dict[str, Any]:
    """The checkpoint dict in `data`, which must have been verified. Runs no code from it: torch's `weights_only` rules.

    Raises:
        StateMismatchError: the script has put objects into it that only an unsafe load could read.
    """
    try:
        loaded: dict[str, Any] = torch.load(
            cast("IO[bytes]", _Reader(data)), map_location="cpu", weights_only=True
        )
    except UnpicklingError as error:
        raise StateMismatchError(
            f"{source}/{NAME} holds objects that cannot be loaded without running code: {_first_line(error)}",
            "Keep plain values and tensors in hyper-parameters and on_save_checkpoint, or allow the class with "
            "torch.serialization.add_safe_globals before fit.",
        ) from error
    return loaded


def refused(checkpoint: dict[str, Any]) -> str:
    """What `read` will refuse of this checkpoint, or an empty text. Weights and optimizers are not looked at."""
    rest = {key: value for key, value in checkpoint.items() if key not in ("state_dict", "optimizer_states")}
    written = io.BytesIO()
    torch.save(rest, written)
    try:
        read(memoryview(written.getvalue()), "checkpoint")
    except StateMismatchError as error:
        return str(error)
    return ""


def _first_line(error: UnpicklingError) -> str:
    for line in str(error).splitlines():
        if "GLOBAL" in line or "Unsupported" in line:
            return line.strip()
    return str(error).split("\n", 1)[0]


def _write(checkpoint: dict[str, Any], target: _Counter | _Filler) -> None:
    with _without_crc32():
        torch.save(checkpoint, target)  # type: ignore[arg-type]


@contextmanager
def _without_crc32() -> Iterator[None]:
    """The manifest's digest covers every byte, so the zip's own checksum would only cost time."""
    switch = getattr(torch.serialization, "set_crc32_options", None)
    if switch is None:
        yield
        return
    before = torch.serialization.get_crc32_options()
    switch(False)
    try:
        yield
    finally:
        switch(before)


class _Counter:
    """Counts what is written."""

    def __init__(self) -> None:
        self.nbytes = 0

    def write(self, data: Any) -> int:
        size = memoryview(data).nbytes
        self.nbytes += size
        return size

    def flush(self) -> None: ...


class _Filler:
    """Fills a buffer of exactly the right size."""

    def __init__(self, buffer: memoryview) -> None:
        self._buffer = buffer
        self._at = 0

    def write(self, data: Any) -> int:
        view = memoryview(data).cast("B")
        end = self._at + view.nbytes
        self._buffer[self._at : end] = view
        self._at = end
        return view.nbytes

    def flush(self) -> None: ...


class _Reader(io.RawIOBase):
    """A file over memory, without a copy of its own."""

    def __init__(self, data: memoryview) -> None:
        self._data = data
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        piece = self._data[self._at : self._at + len(buffer)]
        buffer[: len(piece)] = piece
        self._at += len(piece)
        return len(piece)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: len(self._data)}[whence]
        self._at = base + offset
        return self._at

    def tell(self) -> int:
        return self._at
