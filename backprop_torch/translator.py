"""Tensors as dense arrays of bytes, and back, bit for bit."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from contextlib import suppress
from functools import cache, partial
from typing import TYPE_CHECKING, Any, cast

import numpy
import torch

from backprop_core.checkpoints.arrays import JSON, ArrayNode, Dense, allocate_ram, unpinned
from backprop_core.checkpoints.memory import address_of, view_at
from backprop_torch.generators import cuda_in_use

if TYPE_CHECKING:
    from typing_extensions import Buffer

_NAMES: dict[torch.dtype, str] = {
    torch.bool: "BOOL",
    torch.uint8: "U8",
    torch.int8: "I8",
    torch.int16: "I16",
    torch.uint16: "U16",
    torch.int32: "I32",
    torch.uint32: "U32",
    torch.int64: "I64",
    torch.uint64: "U64",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.float32: "F32",
    torch.float64: "F64",
    torch.float8_e4m3fn: "F8_E4M3",
    torch.float8_e5m2: "F8_E5M2",
}
_PLAIN_TYPES = frozenset({torch.Tensor, torch.nn.Parameter, torch.nn.Buffer})
_STRIDED = torch.strided
_MOST_FORMS = 4096
_COMPRESSED = {
    torch.sparse_csr: ("crow_indices", "col_indices"),
    torch.sparse_csc: ("ccol_indices", "row_indices"),
    torch.sparse_bsr: ("crow_indices", "col_indices"),
    torch.sparse_bsc: ("ccol_indices", "row_indices"),
}


class TorchTranslator:
    """Takes tensors of every layout apart: strided, sparse COO and the four compressed sparse ones."""

    name = "torch"

    def __init__(self) -> None:
        self._copying: set[torch.device] = set()
        """Devices whose copies may still be under way."""
        self._forms: dict[tuple[torch.dtype, torch.Size], _Form] = {}

    def handles(self, value: object) -> bool:
        return isinstance(value, torch.Tensor)

    def identity(self, value: Any) -> Hashable | None:
        if value.layout is not _STRIDED or value.numel() == 0 or value.is_quantized or value.is_meta:
            return None
        return (
            value.device,
            value.data_ptr(),
            value.dtype,
            value.shape,
            value.stride(),
            value.is_conj(),
            value.is_neg(),
        )

    def take_apart(self, value: Any) -> ArrayNode:
        return self._plain(value) or self._of_any_kind(value)

    def _plain(self, value: Any) -> ArrayNode | None:
        """The node of a dense tensor in plain memory, which nearly all are of a model on the CPU; None for any other.

        A hundred small tensors are asked for their facts at each save, and training waits. So nothing is asked twice, no
        tensor is made (`detach` takes a microsecond), and what follows from element type and shape alone is kept.
        """
        if (
            type(value) not in _PLAIN_TYPES
            or not value.is_cpu
            or value.layout is not _STRIDED
            or not value.is_contiguous()
            or value.is_nested
            or value.is_neg()
        ):
            return None
        kind = value.dtype, value.shape
        form = self._forms.get(kind)
        if form is None:
            if value.dtype not in _NAMES or not value.numel():  # complex and quantized ones are not
                return None
            if len(self._forms) >= _MOST_FORMS:
                self._forms.clear()
            form = self._forms[kind] = _Form(value)
        address, storage, offset, shape = (
            value.data_ptr(),
            value.untyped_storage(),
            value.storage_offset(),
            form.shape,
        )
        dense = Dense(
            form.dtype,
            shape,
            form.nbytes,
            partial(_in_storage, storage, offset, form),
            partial(_copy_from_storage, storage, offset, form),
            address,
            None if value.is_inference() else value._version,
        )
        return ArrayNode("tensor", form.meta, {"": dense}, (address, form.dtype, shape))

    def _of_any_kind(self, value: Any) -> ArrayNode:
        tensor: torch.Tensor = value.detach()  # which has the same version counter
        if type(value) not in _PLAIN_TYPES or tensor.is_nested:
            raise TypeError(
                f"is a {type(value).__name__}, a kind of tensor that cannot be stored as plain bytes"
            )
        if tensor.is_quantized or tensor.is_meta:
            raise TypeError("is quantized or has no data, so it cannot be stored as plain bytes")
        meta: dict[str, JSON] = {"size": list(tensor.shape)}
        if tensor.layout is _STRIDED:
            return self._node("tensor", meta, {"": tensor})
        if tensor.layout is torch.sparse_coo:
            meta["coalesced"] = tensor.is_coalesced()
            parts = {"indices": tensor._indices(), "values": tensor._values()}
            return self._node("sparse_coo", meta, parts)
        if tensor.layout not in _COMPRESSED:
            raise TypeError(f"has the layout {tensor.layout}, which cannot be stored as plain bytes")
        outer, inner = _COMPRESSED[tensor.layout]
        parts = {outer: getattr(tensor, outer)(), inner: getattr(tensor, inner)(), "values": tensor.values()}
        return self._node(str(tensor.layout).removeprefix("torch."), meta, parts)

    def build(self, tag: str, meta: Mapping[str, JSON], arrays: Mapping[str, memoryview]) -> object:
        facts: Any = meta
        parts = {name: _tensor(view, facts["parts"][name]) for name, view in arrays.items()}
        if tag == "tensor":
            return parts[""]
        size = [int(n) for n in facts["size"]]
        if tag == "sparse_coo":
            return torch.sparse_coo_tensor(
                parts["indices"],
                parts["values"],
                size,
                is_coalesced=bool(facts["coalesced"]),
                check_invariants=True,  # indices from a forged file would read foreign memory later
            )
        layout = getattr(torch, tag)
        if layout not in _COMPRESSED:
            raise TypeError(f"is a tensor of an unknown kind, {tag!r}")
        outer, inner = _COMPRESSED[layout]
        return torch.sparse_compressed_tensor(
            parts[outer], parts[inner], parts["values"], size, layout=layout, check_invariants=True
        )

    def allocate(self, nbytes: int) -> memoryview:
        if cuda_in_use() and nbytes:
            with suppress(RuntimeError):  # no more memory may be pinned here: copies are slower, and no worse
                pinned = torch.empty(nbytes, dtype=torch.uint8, pin_memory=True)
                return memoryview(cast("Buffer", pinned.numpy())).cast("B")
        return allocate_ram(nbytes)

    def pin(self, memory: memoryview) -> Callable[[], None]:
        if not (cuda_in_use() and len(memory)):
            return unpinned
        address, runtime = address_of(memory), torch.cuda.cudart()  # type: ignore[no-untyped-call]
        if int(runtime.cudaHostRegister(address, len(memory), 0)):  # else: copies are slower, and no worse
            return unpinned
        return lambda: runtime.cudaHostUnregister(address)

    def synchronize(self) -> None:
        while self._copying:  # each of them: torch's own call waits for the current device alone
            torch.cuda.synchronize(self._copying.pop())

    def _node(self, tag: str, meta: dict[str, JSON], tensors: Mapping[str, torch.Tensor]) -> ArrayNode:
        meta["parts"] = {name: _part(tensor) for name, tensor in tensors.items()}
        return ArrayNode(tag, meta, {name: _dense(tensor, self._copying) for name, tensor in tensors.items()})


class _Form:
    """What all plain tensors of one element type and shape have in common."""

    __slots__ = ("dtype", "itemsize", "meta", "nbytes", "shape")

    def __init__(self, tensor: torch.Tensor) -> None:
        self.dtype = _NAMES[tensor.dtype]
        self.shape = tuple(tensor.shape)
        self.itemsize = tensor.element_size()
        self.nbytes = tensor.numel() * self.itemsize
        self.meta: dict[str, JSON] = {"size": list(tensor.shape), "parts": {"": _part(tensor)}}


def _part(tensor: torch.Tensor) -> dict[str, JSON]:
    return {"dtype": _text(tensor.dtype), "shape": list(tensor.shape)}


def _in_storage(storage: Any, offset: int, form: _Form) -> memoryview:
    """A tensor's bytes, `offset` elements into its storage, wherever that lies by now: the script may resize it."""
    return view_at(storage.data_ptr() + offset * form.itemsize, form.nbytes, storage)


def _copy_from_storage(storage: Any, offset: int, form: _Form, buffer: memoryview) -> None:
    """As `_copier`'s for plain memory."""
    source = numpy.frombuffer(_in_storage(storage, offset, form), numpy.uint8)
    numpy.copyto(numpy.frombuffer(buffer, numpy.uint8), source)


@cache
def _text(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _dense(tensor: torch.Tensor, copying: set[torch.device]) -> Dense:
    if tensor.is_complex():  # safetensors has no complex128: store the real and imaginary parts side by side
        tensor = torch.view_as_real(tensor.resolve_conj())
    tensor = tensor.resolve_neg()
    name = _NAMES.get(tensor.dtype)
    shape = tuple(tensor.shape)
    nbytes = tensor.numel() * tensor.element_size()
    if name is None:  # a dtype that safetensors does not name: its bytes, and the dtype in the tree
        name, shape = "U8", (nbytes,)
    address = tensor.data_ptr() if tensor.is_cpu and tensor.is_contiguous() else 0
    version = None if tensor.is_inference() else tensor._version
    return Dense(name, shape, nbytes, lambda: _bytes(tensor), _copier(tensor, copying), address, version)


def _bytes(tensor: torch.Tensor) -> memoryview:
    if tensor.numel() == 0:
        return memoryview(b"")
    flat = tensor.detach().cpu().contiguous()
    return _memory(flat)


def _memory(tensor: torch.Tensor) -> memoryview:
    """The bytes of a contiguous tensor on the CPU. Its `numpy()` would forbid the script to resize it from then on."""
    return view_at(tensor.data_ptr(), tensor.numel() * tensor.element_size(), tensor)


def _copier(tensor: torch.Tensor, copying: set[torch.device]) -> Callable[[memoryview], None]:
    def copy_into(buffer: memoryview) -> None:
        if tensor.numel() == 0:
            return
        if tensor.device.type == "cpu" and tensor.is_contiguous():
            # Not torch's own copy: it spreads over threads, and where other work is on the cores it waits for them at each
            # tensor, up to a hundred times as long as one thread needs for the copy itself (measured).
            numpy.copyto(
                numpy.frombuffer(buffer, numpy.uint8), numpy.frombuffer(_memory(tensor), numpy.uint8)
            )
        else:
            target = torch.frombuffer(buffer, dtype=tensor.dtype, count=tensor.numel())
            if tensor.is_cuda:  # any other accelerator's copy is waited for at once
                copying.add(tensor.device)
            target.view(tensor.shape).copy_(tensor, non_blocking=tensor.is_cuda)

    return copy_into


def _tensor(view: memoryview, part: Mapping[str, Any]) -> torch.Tensor:
    dtype = getattr(torch, str(part["dtype"]), None)
    if not isinstance(dtype, torch.dtype):
        raise TypeError(f"has an unknown element type, {part['dtype']!r}")
    shape = [int(n) for n in part["shape"]]
    if 0 in shape:
        return torch.empty(shape, dtype=dtype)
    tensor = torch.frombuffer(view, dtype=dtype)
    if tensor.data_ptr() % dtype.itemsize:
        tensor = torch.frombuffer(bytearray(view), dtype=dtype)
    return tensor.reshape(shape)
