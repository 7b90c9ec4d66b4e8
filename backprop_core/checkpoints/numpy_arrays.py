"""numpy values taken apart. numpy itself is imported only to build them again: whoever saves one has it
loaded already.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Hashable, Mapping
from functools import cache
from typing import TYPE_CHECKING, Any, cast

from .arrays import JSON, ArrayNode, Dense, allocate_ram, unpinned

if TYPE_CHECKING:
    import numpy as np

# numpy's name of a dtype in native little-endian order -> safetensors' name. The second group comes from
# ml_dtypes.
_SAFE_NAMES: Mapping[str, str] = {
    "bool": "BOOL", "uint8": "U8", "int8": "I8", "uint16": "U16", "int16": "I16", "uint32": "U32",
    "int32": "I32", "uint64": "U64", "int64": "I64", "float16": "F16", "float32": "F32", "float64": "F64",
    "bfloat16": "BF16", "float8_e4m3fn": "F8_E4M3", "float8_e5m2": "F8_E5M2", "float8_e8m0fnu": "F8_E8M0",
    "float8_e4m3fnuz": "F8_E4M3FNUZ", "float8_e5m2fnuz": "F8_E5M2FNUZ",
}  # fmt: skip
# Of ml_dtypes too, but unknown to safetensors or kept one element a byte: stored as U8.
_EXTENSION_NAMES = frozenset(
    {"int2", "int4", "uint2", "uint4", "float4_e2m1fn", "float6_e2m3fn", "float6_e3m2fn", "float8_e3m4",
     "float8_e4m3", "float8_e4m3b11fnuz"}
)  # fmt: skip
_CODE = re.compile(r"[<>|][biufcmMSU][0-9]{1,9}(\[[0-9]{0,9}[A-Za-zμ]{1,7}\])?")
_MOST_MAPPED = 256 << 20
"""Bytes of an array that lies in a file of the script's and is stored all the same."""
_PORTABLE_KINDS = "biufcmMSU"
_EXTENSIONS = _EXTENSION_NAMES | {name for name in _SAFE_NAMES if name.startswith(("bfloat", "float8"))}


class NumpyTranslator:
    """Translates `numpy.ndarray` and numpy's scalars, those of ml_dtypes included."""

    name = "numpy"

    def handles(self, value: object) -> bool:
        numpy = sys.modules.get("numpy")
        return numpy is not None and isinstance(value, (numpy.ndarray, numpy.generic))

    def identity(self, value: object) -> Hashable | None:
        if type(value).__name__ != "ndarray":
            return None
        array = cast("np.ndarray[Any, Any]", value)
        if array.size == 0:
            return None
        interface = array.__array_interface__
        return ("numpy", interface["data"][0], array.shape, array.strides, _dtype_name(array.dtype))

    def take_apart(self, value: object) -> ArrayNode:
        import numpy as np

        if isinstance(value, np.generic):
            dtype = _storable(value.dtype)
            return ArrayNode(
                "scalar", {"dtype": dtype, "hex": _contiguous_bytes(np.asarray(value)).hex()}, {}
            )
        if type(value) is np.memmap:
            value = _mapped(value)
        if type(value) is not np.ndarray:
            raise TypeError(
                f"{type(value).__name__} is a kind of numpy array that cannot be stored; use a plain ndarray"
            )
        dtype = _storable(value.dtype)
        meta: dict[str, JSON] = {"dtype": dtype, "shape": list(value.shape)}
        return ArrayNode("ndarray", meta, {"": _dense(value, dtype)})

    def build(self, tag: str, meta: Mapping[str, JSON], arrays: Mapping[str, memoryview]) -> object:
        import numpy as np

        dtype = _dtype(str(meta["dtype"]))
        if tag == "scalar":
            return (
                np.frombuffer(bytes.fromhex(str(meta["hex"])), dtype)[0] if dtype.itemsize else dtype.type()
            )
        if tag != "ndarray":
            raise ValueError(f"{tag!r} cannot be built by numpy")
        lengths = meta["shape"]
        if not isinstance(lengths, list) or not all(type(n) is int and n >= 0 for n in lengths):
            raise ValueError("the shape of an array is a list of lengths")
        data = arrays[""]
        if not data.nbytes:
            return (
                np.zeros(cast("list[int]", lengths), dtype)
                if 0 in lengths or not dtype.itemsize
                else _bad_length()
            )
        return np.frombuffer(data, dtype).reshape(cast("list[int]", lengths))

    def allocate(self, nbytes: int) -> memoryview:
        return allocate_ram(nbytes)

    def pin(self, memory: memoryview) -> Callable[[], None]:
        return unpinned

    def synchronize(self) -> None:
        """Nothing to wait for: copies are done when `copy_into` returns."""


def _mapped(value: np.memmap[Any, Any]) -> np.ndarray[Any, Any]:
    """An array whose elements are in a file: kept like any other, unless each save would write a large file again."""
    import numpy as np

    if value.nbytes > _MOST_MAPPED:
        raise TypeError(
            f"a numpy memmap above {_MOST_MAPPED >> 20} MB is not stored; its file holds what was written to it last"
        )
    return value.view(np.ndarray)


def _dense(array: np.ndarray[Any, Any], dtype: str) -> Dense:
    import numpy as np

    def copy_into(buffer: memoryview) -> None:
        if array.nbytes:
            np.copyto(np.frombuffer(buffer, array.dtype).reshape(array.shape), array)

    safe_name = _SAFE_NAMES.get(dtype)
    shape = array.shape if safe_name else (array.nbytes,)
    address = array.ctypes.data if array.flags.c_contiguous else 0
    return Dense(safe_name or "U8", shape, array.nbytes, lambda: _contiguous_bytes(array), copy_into, address)


def _contiguous_bytes(array: np.ndarray[Any, Any]) -> memoryview:
    import numpy as np

    if not array.nbytes:
        return memoryview(b"")
    # Through uint8, because the buffer protocol knows neither bfloat16 nor datetime64.
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8).data


@cache
def _dtype_name(dtype: np.dtype[Any]) -> str:
    """How the dtype is written: its plain name when native and little-endian, else numpy's exact code such as
    `>f4`.
    """
    if dtype.name in _EXTENSIONS or (dtype.name in _SAFE_NAMES and dtype.str[0] in "<|"):
        return dtype.name
    return dtype.str


@cache
def _storable(dtype: np.dtype[Any]) -> str:
    name = _dtype_name(dtype)
    wide = (
        dtype.kind in "fc" and dtype.itemsize > 8 and dtype.str[1:] != "c16"
    )  # long double differs by machine
    if name not in _EXTENSIONS and (dtype.kind not in _PORTABLE_KINDS or wide):
        raise TypeError(f"numpy's dtype {dtype} has no portable form; convert the array before the save")
    return name


def _dtype(name: str) -> np.dtype[Any]:
    import numpy as np

    if name in _EXTENSIONS:
        import ml_dtypes

        return np.dtype(cast("type[Any]", getattr(ml_dtypes, name)))
    if name not in _SAFE_NAMES and not _CODE.fullmatch(name):  # numpy evaluates some of what it is given
        raise ValueError(f"{name[:40]!r} is not a dtype that checkpoints hold")
    dtype = np.dtype(name)
    if (
        dtype.hasobject
        or dtype.names is not None
        or dtype.subdtype is not None
        or dtype.kind not in _PORTABLE_KINDS
    ):
        raise ValueError(f"the dtype {name!r} is not one that checkpoints hold")
    return dtype


def _bad_length() -> object:
    raise ValueError("an array with elements has no bytes")
