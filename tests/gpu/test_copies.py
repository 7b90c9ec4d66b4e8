"""Copies from a GPU: into memory that is pinned, bit for bit, of every layout, from streams that are still busy."""

from __future__ import annotations

import pytest
import torch

from backprop_core.checkpoints import StagingBuffers, capture
from backprop_core.checkpoints.shared_memory import SharedMemory
from backprop_torch.translator import TorchTranslator

LONG = 200_000_000
"""Cycles that a queued kernel takes: a tenth of a second and more."""


def bits(tensor: torch.Tensor) -> bytes:
    dense = tensor.to_dense() if tensor.layout is not torch.strided else tensor
    if dense.is_complex():
        dense = torch.view_as_real(dense.resolve_conj())
    return dense.cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()


@pytest.fixture(params=["own", "shared"])
def buffers(request: pytest.FixtureRequest) -> StagingBuffers:
    """The process's own memory, and that which the governor holds too."""
    torch.cuda.init()
    return StagingBuffers((TorchTranslator(),), SharedMemory() if request.param == "shared" else None)


def staged(state: dict[str, torch.Tensor], buffers: StagingBuffers) -> dict[str, torch.Tensor]:
    """`state` through the buffers, as a periodic save takes it, built from the copy."""
    translator = TorchTranslator()
    nodes = {name: translator.take_apart(tensor) for name, tensor in state.items()}
    arrays = {f"{name}/{part}": dense for name, node in nodes.items() for part, dense in node.arrays.items()}
    copies, _ = buffers.fill("model", arrays, dict.fromkeys(arrays, "torch"))
    buffers.synchronize()
    built = {}
    for name, node in nodes.items():
        views = {part: copies[f"{name}/{part}"].view() for part in node.arrays}
        built[name] = translator.build(node.tag, node.meta, views)
    return built  # type: ignore[return-value]


def shapes() -> dict[str, torch.Tensor]:
    """Every layout and kind of element that a model on a device has."""
    made = torch.Generator("cuda").manual_seed(3)
    square = torch.randn(64, 64, device="cuda", generator=made)
    kinds = (torch.float16, torch.bfloat16, torch.float64, torch.int8, torch.int64, torch.bool)
    return {str(kind): (8 * square).to(kind) for kind in kinds} | {
        "plain": square,
        "transposed": square.t(),
        "strided": square[::3, 1::2],
        "channels last": square.reshape(1, 4, 32, 32).to(memory_format=torch.channels_last),
        "complex": torch.complex(square, square.flip(0)),
        "conjugate": torch.complex(square, square).conj(),
        "float8": square.to(torch.float8_e4m3fn),
        "scalar": torch.tensor(2.5, device="cuda"),
        "csr": torch.where(square > 1, square, torch.zeros_like(square)).to_sparse_csr(),
    }


def test_every_layout_comes_back_bit_for_bit(buffers: StagingBuffers) -> None:
    """Types, strides, conjugates and sparse layouts, into either kind of memory."""
    state = shapes()
    for name, copy in staged(state, buffers).items():
        assert copy.dtype == state[name].dtype, name
        assert bits(copy) == bits(state[name]), name


def test_memory_for_copies_is_pinned(buffers: StagingBuffers) -> None:
    """CUDA knows the memory as pinned, so copies into it may be queued."""
    dense = TorchTranslator().take_apart(torch.zeros(1 << 20, device="cuda")).arrays[""]
    place = buffers.prepare("model", {"a": dense}, {"a": "torch"})["a"]
    assert torch.frombuffer(place, dtype=torch.uint8).is_pinned()


def test_memory_of_the_governors_is_let_go() -> None:
    """`unpin` undoes what made the shared memory fast: CUDA takes it for ordinary memory again."""
    torch.cuda.init()
    memory = SharedMemory().allocate(1 << 20)
    unpin = TorchTranslator().pin(memory)
    assert torch.frombuffer(memory, dtype=torch.uint8).is_pinned()
    unpin()
    assert not torch.frombuffer(memory, dtype=torch.uint8).is_pinned()


def test_a_copy_waits_for_what_was_queued_before_it(buffers: StagingBuffers) -> None:
    """A value that a kernel in the queue has yet to write is the one that is copied; what is queued later is not."""
    tensor = torch.zeros(1 << 20, device="cuda")
    torch.cuda._sleep(LONG)
    tensor += 1
    copy = staged({"a": tensor}, buffers)["a"]
    tensor += 1
    assert bool((copy == 1).all())


def test_a_save_copies_what_it_captured(buffers: StagingBuffers) -> None:
    """`capture(...).staged(...)`, which a periodic save calls, with kernels queued before and after it."""
    tensor = torch.zeros(1 << 20, device="cuda")
    torch.cuda._sleep(LONG)
    tensor += 1
    snapshot = capture({"model": {"a": tensor}}, (TorchTranslator(),)).staged(buffers)
    tensor += 1
    torch.cuda.synchronize()
    (dense,) = snapshot.objects["model"].arrays.values()
    assert bool((torch.frombuffer(dense.view(), dtype=torch.float32) == 1).all())


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="one GPU here")
def test_every_device_is_waited_for(buffers: StagingBuffers) -> None:
    """Copies from a second device, whose queue is long, are whole when `synchronize` returns."""
    tensors = {str(n): torch.zeros(1 << 20, device=f"cuda:{n}") for n in range(torch.cuda.device_count())}
    for number, tensor in enumerate(tensors.values()):
        with torch.cuda.device(number):
            torch.cuda._sleep(LONG)
            tensor.add_(1)
    for name, copy in staged(tensors, buffers).items():
        assert bool((copy == 1).all()), name
