"""The safetensors file format: eight bytes of length, a JSON header, then the arrays end to end.

Written here rather than by the safetensors library because ours streams, hashes on the way and is flushed to
the disk, with the mode the umask asks for; the files open with that library like any other. The format is
described in the README of the safetensors project; the limits are those of its `tensor.rs`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from math import prod
from typing import Any

from backprop_core.quick_dataclass import dataclass
from backprop_core.strict_json import decode_exactly, encode_exactly

from .arrays import DTYPE_BITS, JSON, Dense

MAX_HEADER_BYTES = 100_000_000
_METADATA = "__metadata__"
_ALIGN = 64
_MOST = 1 << 63


@dataclass(frozen=True, slots=True)
class ArrayFile:
    """A file that is still to be written.

    Attributes:
        header: the length and the JSON header.
        arrays: in the order of the file.
        nbytes: size of the whole file.
    """

    header: bytes
    arrays: tuple[Dense, ...]
    nbytes: int

    def chunks(self) -> Iterator[memoryview]:
        """The file's bytes, piece by piece, each made only when it is asked for."""
        yield memoryview(self.header)
        for dense in self.arrays:
            yield from dense.pieces()


def plan_array_file(arrays: Mapping[str, Dense], metadata: Mapping[str, str]) -> ArrayFile:
    """Lay the arrays out, the widest elements first so that all are aligned for zero-copy reading.

    Raises:
        ValueError: the header would be longer than any reader accepts.
    """
    order = sorted(arrays, key=lambda name: (-DTYPE_BITS[arrays[name].dtype], name))
    header: dict[str, JSON] = {_METADATA: dict(metadata)} if metadata else {}
    offset = 0
    for name in order:
        dense = arrays[name]
        end = offset + dense.nbytes
        header[name] = {"dtype": dense.dtype, "shape": list(dense.shape), "data_offsets": [offset, end]}
        offset = end
    text = encode_exactly(header)
    text += b" " * (-(8 + len(text)) % _ALIGN)
    if len(text) > MAX_HEADER_BYTES:
        raise ValueError(f"{len(arrays)} arrays are more than one file can name")
    head = len(text).to_bytes(8, "little") + text
    return ArrayFile(head, tuple(arrays[name] for name in order), len(head) + offset)


def parse_array_file(data: memoryview) -> dict[str, memoryview]:
    """The arrays of a whole file in memory, as views into `data`.

    Raises:
        ValueError: the file is not what the format demands; nothing larger than the file itself was
            allocated.
    """
    _, spans, body = _parsed(data)
    return {name: body[start:stop] for name, (start, stop) in spans.items()}


def join_array_files(files: Iterable[memoryview]) -> Iterator[memoryview]:
    """One file with the arrays of all of them, piece by piece; its metadata is theirs.

    Raises:
        ValueError: one of them is not what the format demands.
    """
    arrays: dict[str, Dense] = {}
    metadata: dict[str, str] = {}
    for data in files:
        header, spans, body = _parsed(data)
        metadata |= {str(key): str(value) for key, value in dict(header.get(_METADATA, {})).items()}
        for name, (start, stop) in spans.items():
            arrays[name] = _dense(header[name], body[start:stop])
    return plan_array_file(arrays, metadata).chunks()


def _dense(entry: Mapping[str, Any], view: memoryview) -> Dense:
    def copy_into(buffer: memoryview) -> None:
        buffer[:] = view

    return Dense(entry["dtype"], tuple(entry["shape"]), len(view), lambda: view, copy_into)


def _parsed(data: memoryview) -> tuple[dict[str, Any], dict[str, tuple[int, int]], memoryview]:
    """The header of a whole file, where each array lies in its body, and the body."""
    if len(data) < 8:
        raise ValueError("it is too short to be a safetensors file")
    length = int.from_bytes(data[:8], "little")
    if length > min(len(data) - 8, MAX_HEADER_BYTES):
        raise ValueError(f"it claims a header of {length} bytes, more than it has")
    header = decode_exactly(data[8 : 8 + length])
    if not isinstance(header, dict):
        raise ValueError("its header is not a JSON object")
    body = data[8 + length :]
    spans = {name: _span(name, entry, len(body)) for name, entry in header.items() if name != _METADATA}
    end = 0
    for start, stop in sorted(spans.values()):
        if start != end:
            raise ValueError("its arrays overlap or leave gaps")
        end = stop
    if end != len(body):
        raise ValueError("it has bytes that belong to no array")
    return header, spans, body


def _span(name: str, entry: object, size: int) -> tuple[int, int]:
    if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
        raise ValueError(f"the entry of array {name[:80]!r} is malformed")
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not (_lengths(shape) and _lengths(offsets) and len(offsets) == 2 and isinstance(dtype, str)):
        raise ValueError(f"the entry of array {name[:80]!r} is malformed")
    start, stop = offsets
    if not start <= stop <= size or dtype not in DTYPE_BITS or len(shape) > 1000:
        raise ValueError(f"array {name[:80]!r} lies outside the file or has an unknown dtype")
    if prod(shape) * DTYPE_BITS[dtype] != (stop - start) * 8:
        raise ValueError(f"array {name[:80]!r} has another size than its shape says")
    return start, stop


def _lengths(value: object) -> bool:
    return isinstance(value, list) and all(type(number) is int and 0 <= number < _MOST for number in value)
