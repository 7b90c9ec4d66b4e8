"""Lightning's own checkpoint as one file of ours: written through a reused buffer, read from verified bytes only."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pickle import PicklingError, UnpicklingError
from typing import IO, Any, cast

import torch

from backprop_core.checkpoints.arrays import Dense, RawFile, allocate_ram
from backprop_core.errors import StateMismatchError
from backprop_core.quick_dataclass import dataclass
from backprop_lightning import refused_objects

NAME = "lightning.ckpt"
_LIGHTNING = ("lightning.", "pytorch_lightning.")
_HYPER_PARAMETERS = ("hyper_parameters", "hparams_name", "hparams_type")
"""How the keys of a module's and of a DataModule's hyper-parameters end."""
_LIGHTNINGS_OWN = frozenset(
    {"state_dict", "optimizer_states", "lr_schedulers", "loops", "callbacks", "epoch", "global_step"}
)


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


@dataclass(frozen=True, slots=True)
class ScriptsOwn:
    """What the running script has of its own in place of what a checkpoint holds.

    Attributes:
        hyper_parameters: by their key in a checkpoint; they play no part in a resume.
        reads_entries: it has an `on_load_checkpoint`, which may look for what `on_save_checkpoint` has put in.
    """

    hyper_parameters: Mapping[str, Any]
    reads_entries: bool

    @staticmethod
    def of(trainer: Any) -> ScriptsOwn:
        owners = [one for one in (trainer.lightning_module, trainer.datamodule) if one is not None]
        hyper = {one.CHECKPOINT_HYPER_PARAMS_KEY: dict(one.hparams) for one in owners if one.hparams}
        hooks = [getattr(type(one), "on_load_checkpoint", None) for one in (*owners, *trainer.callbacks)]
        return ScriptsOwn(hyper, any(hook and not hook.__module__.startswith(_LIGHTNING) for hook in hooks))


def read(
    data: memoryview, source: str, script: ScriptsOwn, say: Callable[[str], None] = lambda text: None
) -> dict[str, Any]:
    """The checkpoint dict in `data`, which must have been verified. Runs no code from it: torch's `weights_only` rules.

    Hyper-parameters that these rules refuse are those of the running script; entries that nobody asks for are left out.

    Raises:
        StateMismatchError: the script has put objects into it that only an unsafe load could read.
    """
    file = cast("IO[bytes]", _Reader(data))
    try:
        with refused_objects.readable(file):
            loaded: dict[str, Any] = torch.load(file, map_location="cpu", weights_only=True)
    except UnpicklingError as error:
        raise _unreadable(source, _first_line(error)) from error
    for key in list(loaded):
        missing = sorted(set(refused_objects.named(loaded[key])))
        if not missing:
            continue
        entry = loaded.pop(key)
        if key.endswith(_HYPER_PARAMETERS):
            if isinstance(entry, Mapping):
                loaded[key] = script.hyper_parameters.get(key, {})
        elif key in _LIGHTNINGS_OWN or script.reads_entries:
            raise _unreadable(source, f"{key!r} holds {', '.join(missing)}.")
        else:
            say(f"{key!r} of {source}/{NAME} was left out: it holds {', '.join(missing)}.")
    return loaded


def _unreadable(source: str, what: str) -> StateMismatchError:
    return StateMismatchError(
        f"{source}/{NAME} holds objects that cannot be loaded without running code: {what}",
        "Keep plain values and tensors in on_save_checkpoint and in the states of callbacks, or allow the class with "
        "torch.serialization.add_safe_globals before fit.",
    )


def refused(checkpoint: dict[str, Any], script: ScriptsOwn) -> str:
    """What `read` will refuse of this checkpoint, or an empty text. Weights and optimizers are not looked at."""
    rest = {key: value for key, value in checkpoint.items() if key not in ("state_dict", "optimizer_states")}
    try:
        written = io.BytesIO()
        torch.save(rest, written)
        read(memoryview(written.getvalue()), "checkpoint", script)
    except StateMismatchError as error:
        return str(error)
    except (PicklingError, AttributeError, TypeError) as error:
        return f"It holds something that cannot be pickled: {error}."
    return ""


def hard_hyper_parameters(checkpoint: dict[str, Any], script: ScriptsOwn) -> dict[str, set[str]]:
    """Those that cannot be pickled, or that keep the rest of the file from being read, by key: they are left out of it."""
    hard: dict[str, set[str]] = {}
    for key in (key for key in checkpoint if key.endswith("hyper_parameters")):
        names = {
            name for name, value in dict(checkpoint[key]).items() if refused({key: {name: value}}, script)
        }
        if names:
            hard[key] = names
    return hard


def without(checkpoint: dict[str, Any], hard: Mapping[str, set[str]]) -> dict[str, Any]:
    """The checkpoint without these hyper-parameters."""
    for key, names in hard.items():
        if key in checkpoint:
            checkpoint[key] = {k: v for k, v in dict(checkpoint[key]).items() if k not in names}
    return checkpoint


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
