"""Arrays among a script's state: what they look like, whether they changed, and new ones where the old do not fit.

Small arrays are compared by all of their bytes. Of large ones torch's own count of changes and a sample are looked at; what
that can miss is said in docs/state.md.
"""

from __future__ import annotations

import copy
import ctypes
import sys
from typing import Any, Final

import xxhash

from backprop_core.checkpoints.arrays import Dense, Translator

READ_WHOLE: Final = 1 << 20
"""Arrays up to so many bytes are always compared whole."""
READ_AT_ONCE: Final = 256 << 20
"""Bytes of larger arrays that carry no count of changes and are compared whole in one walk, first come first served."""
_SAMPLES: Final = 4096
_PLAIN_TENSORS: Final = ("Tensor", "Parameter")
_BLOCKS, _BLOCK = 64, 4096
_DEPTH: Final = 3
_SHORT: Final = frozenset({type(None), bool, int, float, complex, str, bytes})


class Reader:
    """Marks of arrays; two marks differ if the array has changed.

    Args:
        bytes_left: how many bytes of large arrays may be read.
    """

    def __init__(self, bytes_left: int = READ_AT_ONCE) -> None:
        self._left = bytes_left
        self._told: dict[int, tuple[Any, str]] = {}

    def mark(self, value: Any, translator: Translator) -> bytes:
        """What `value` holds, in 16 bytes.

        Raises:
            TypeError: a kind of array that cannot be stored; a sentence says why.
        """
        if _lies_in_a_file_that_is_read(value):
            return bytes(xxhash.xxh3_128(f"{id(value)} {looks(value)}".encode()).digest())
        node = translator.take_apart(value)
        seen = xxhash.xxh3_128()
        for name, dense in node.arrays.items():
            seen.update(f"{name} {dense.dtype}{dense.shape} {self._text_of(node.meta)}".encode())
            if dense.nbytes <= READ_WHOLE:
                seen.update(dense.view())
            else:
                self._large(seen, value, dense, translator)
        if not node.arrays:
            seen.update(repr(node).encode())
        return bytes(seen.digest())

    def _text_of(self, meta: Any) -> str:
        """What a translator tells of an array. Many of a model look alike, and have one such record."""
        told = self._told.get(id(meta))
        if told is None:
            told = self._told[id(meta)] = (meta, str(meta))
        return told[1]

    def mark_of_unstorable(self, value: Any) -> bytes:
        """As much as can be seen of an array that has no form to be stored in, to say all the same that it has changed."""
        seen = xxhash.xxh3_128(f"{id(value)} {looks(value)} {version_of(value)}".encode())
        if type(value).__module__.partition(".")[0] == "numpy" and value.size <= READ_WHOLE // 8:
            if value.dtype.hasobject:
                members = value.ravel().tolist()
                seen.update(repr([_seen_in(one, _DEPTH) for one in members]).encode())
            else:
                seen.update(value.tobytes())
        return bytes(seen.digest())

    def _large(self, seen: Any, value: Any, dense: Dense, translator: Translator) -> None:
        version = version_of(value)
        if version is not None:
            seen.update(f"version {version} at {dense.address}".encode())
            _sample(seen, value, translator)
            return
        if dense.address and self._left >= dense.nbytes:
            self._left -= dense.nbytes
            seen.update(dense.view())
        elif dense.address:
            stride = max(1, dense.nbytes // _BLOCKS)
            for start in range(0, dense.nbytes, stride):
                seen.update(ctypes.string_at(dense.address + start, min(_BLOCK, dense.nbytes - start)))
        else:
            seen.update(f"id {id(value)}".encode())


def _seen_in(member: Any, depth: int) -> Any:
    """A member of an array of objects: which one it is, and what it holds if it is a list or a dict."""
    kind = type(member)
    if kind in _SHORT:
        return member
    if depth and kind in (list, tuple) and len(member) <= READ_WHOLE // 8:
        return id(member), [_seen_in(one, depth - 1) for one in member]
    if depth and kind is dict and len(member) <= READ_WHOLE // 8:
        return id(member), [(_seen_in(k, 0), _seen_in(one, depth - 1)) for k, one in member.items()]
    return id(member)


def _lies_in_a_file_that_is_read(value: Any) -> bool:
    """A data set, say: to look at it would be to read the file."""
    return type(value).__name__ == "memmap" and not is_mutable(value)


def _sample(seen: Any, value: Any, translator: Translator) -> None:
    """Some elements of a torch tensor, evenly spread."""
    if not value.is_contiguous():
        return
    flat = value.detach().reshape(-1)
    some = translator.take_apart(flat[:: max(1, flat.shape[0] // _SAMPLES)])
    for dense in some.arrays.values():
        seen.update(dense.view())


def version_of(value: Any) -> int | None:
    """How often torch has seen the tensor's memory change; None where nobody counts."""
    try:
        counted = value._version
    except (AttributeError, RuntimeError):  # numpy; a tensor made in inference mode
        return None
    return counted if type(counted) is int else None


def looks(value: Any) -> str:
    """Element type and shape: what has to be the same for an array to be written in place."""
    try:
        return f"{getattr(value, 'dtype', '')}{tuple(getattr(value, 'shape', ()))}"
    except RuntimeError:  # torch's nested tensors have no shape, and say so in this way
        return f"{getattr(value, 'dtype', '')}(no shape)"


def is_mutable(value: Any) -> bool:
    """Whether an array can be written in place; those of JAX and TensorFlow's tensors cannot."""
    package = type(value).__module__.partition(".")[0]
    if package == "numpy":
        return bool(value.flags.writeable)
    return package == "torch" or hasattr(value, "assign")


def facts(value: Any) -> dict[str, Any]:
    """What a new array has to be told besides its elements."""
    found: dict[str, Any] = {}
    device = getattr(value, "device", None)
    if type(value).__module__.partition(".")[0] == "torch" and device is not None:
        found = {"device": str(device), "grad": bool(value.requires_grad and value.is_leaf)}
        if type(value).__name__ == "Parameter":
            found["parameter"] = True
    return found


def can_be_hollow(value: Any) -> bool:
    """Whether `hollow` makes an array like this one: a plain tensor or parameter of torch's."""
    kind = type(value)
    if kind.__name__ not in _PLAIN_TENSORS or kind.__module__ not in ("torch", "torch.nn.parameter"):
        return False
    return str(value.layout) == "torch.strided"


def hollow_facts(value: Any) -> dict[str, Any]:
    """What `hollow` has to be told: how the array looks, and no element of it."""
    dtype = str(value.dtype).rpartition(".")[2]
    return {**facts(value), "dtype": dtype, "shape": list(value.shape)}


def is_like(value: Any, told: Any) -> bool:
    """Whether a tensor that is here looks as `hollow_facts` told."""
    return (
        value.device.type == str(told["device"]).partition(":")[0]
        and str(value.dtype).rpartition(".")[2] == told["dtype"]
        and list(value.shape) == list(told["shape"])
    )


def hollow(told: Any) -> Any:
    """A new tensor of zeros, which looks as `hollow_facts` told: its elements come from elsewhere."""
    torch = sys.modules["torch"]
    fresh = torch.zeros(told["shape"], dtype=getattr(torch, told["dtype"]), device=told["device"])
    if told.get("parameter"):
        return torch.nn.Parameter(fresh, requires_grad=bool(told.get("grad")))
    return fresh.requires_grad_() if told.get("grad") else fresh


def memory_of(value: Any) -> int | None:
    """Where a torch tensor's memory begins, which tensors that share it have in common; None for all else."""
    if type(value).__module__.partition(".")[0] != "torch" or not hasattr(value, "untyped_storage"):
        return None
    try:
        return value.untyped_storage().data_ptr() or None
    except (RuntimeError, NotImplementedError):  # sparse and the like have several storages, or none
        return None


def view_of(value: Any) -> dict[str, Any] | None:
    """How a tensor lies in its memory; None where it is more than a view of it."""
    if value.requires_grad:
        return None
    return {"shape": list(value.shape), "stride": list(value.stride()), "offset": int(value.storage_offset())}


def sharing(owner: Any, view: Any, saved: Any) -> Any | None:
    """A tensor that lies in the memory of `owner` as `view` says; None where that looks otherwise here than `saved`."""
    if memory_of(owner) is None or owner.dtype != saved.dtype:
        return None
    shape, stride, offset = tuple(view["shape"]), tuple(view["stride"]), int(view["offset"])
    last = offset + sum((size - 1) * step for size, step in zip(shape, stride, strict=True))
    if last >= owner.untyped_storage().nbytes() // owner.element_size():
        return None
    return owner.detach().as_strided(shape, stride, offset)


def made(saved: Any, told: Any) -> Any:
    """A new array of the elements of `saved`, where `facts` were `told`."""
    package = type(saved).__module__.partition(".")[0]
    if package == "torch":
        fresh = saved.detach().clone()
        device = str(told.get("device", "cpu")) if isinstance(told, dict) else "cpu"
        if device not in ("cpu", "meta"):
            fresh = fresh.to(device)
        if not isinstance(told, dict):
            return fresh
        if told.get("parameter"):  # only such a tensor may stand among a module's parameters
            return sys.modules["torch"].nn.Parameter(fresh, requires_grad=bool(told.get("grad")))
        return fresh.requires_grad_() if told.get("grad") else fresh
    return saved.copy() if package == "numpy" and getattr(saved, "shape", None) else saved


def write(target: Any, saved: Any) -> None:
    """Put the elements of `saved` into `target`, which looks the same."""
    package = type(target).__module__.partition(".")[0]
    if package == "numpy":
        target[...] = saved
    elif hasattr(target, "copy_"):
        target.detach().copy_(saved)
    else:
        target.assign(saved)


def copied(state: Any) -> Any:
    """A copy of a stored difference that later changes do not reach."""
    kind = type(state)
    if kind is dict:
        return {key: copied(value) for key, value in state.items()}
    if kind in (list, tuple):
        return kind(copied(value) for value in state)
    if kind.__module__.partition(".")[0] in ("torch", "numpy") and hasattr(state, "shape"):
        return made(state, None)
    return copy.deepcopy(state)
