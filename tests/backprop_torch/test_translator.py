"""Tensors through a checkpoint and back."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pytest
import torch

from backprop_core.checkpoints import CheckpointStore, StagingBuffers, capture
from backprop_core.errors import CheckpointDamagedError, UnsavableStateError
from backprop_core.testing.clock import FakeClock
from backprop_torch import translator as translator_module
from backprop_torch.translator import TorchTranslator
from tests.backprop_core.checkpoints.states import facts

TRANSLATORS = (TorchTranslator(),)


def through(folder: Path, state: object) -> Any:
    """`state` after a save by way of the staging buffers, and a load."""
    store = CheckpointStore(folder, clock=FakeClock())
    snapshot = capture({"x": state}, TRANSLATORS)
    plain = store.commit(snapshot, facts(1), retain=False)
    staged = store.commit(snapshot.staged(StagingBuffers(TRANSLATORS)), facts(2), retain=False)
    for path in plain.path.iterdir():
        if path.name != "manifest.json":
            assert path.read_bytes() == (staged.path / path.name).read_bytes(), (
                "a staged save has the same bytes"
            )
    return store.load(staged, TRANSLATORS).states["x"]


def bits(tensor: torch.Tensor) -> bytes:
    """All bytes of a dense tensor in C order."""
    dense = tensor.detach().resolve_conj().resolve_neg().contiguous()
    return dense.reshape(-1).view(torch.uint8).numpy().tobytes() if dense.numel() else b""


def same(left: torch.Tensor, right: torch.Tensor) -> bool:
    return (left.dtype, left.shape, bits(left)) == (right.dtype, right.shape, bits(right))


DTYPES = [
    value
    for name, value in sorted(vars(torch).items())
    if isinstance(value, torch.dtype) and name == str(value)[6:]
]
PLAIN_DTYPES = [dtype for dtype in DTYPES if not str(dtype)[6:].startswith(("q", "bits", "int1", "int2", "int3", "int4",
    "int5", "int6", "int7", "uint1", "uint2", "uint3", "uint4", "uint5", "uint6", "uint7", "float4")) or dtype in
    (torch.int16, torch.int32, torch.int64, torch.uint16, torch.uint32, torch.uint64)]  # fmt: skip


@pytest.mark.parametrize("dtype", PLAIN_DTYPES, ids=str)
def test_every_dtype_comes_back_bit_for_bit(tmp_path: Path, dtype: torch.dtype) -> None:
    """Arbitrary bits of every element type, NaN payloads included, whatever safetensors calls it."""
    torch.manual_seed(3)
    raw = torch.randint(0, 2 if dtype is torch.bool else 256, (24 * dtype.itemsize,), dtype=torch.uint8)
    tensor = raw.view(dtype).reshape(2, 3, 4)
    again = through(tmp_path, {"t": tensor, "0-d": tensor[0, 0, 0], "empty": tensor[:0]})
    assert same(tensor, again["t"])
    assert same(tensor[0, 0, 0], again["0-d"])
    assert again["empty"].shape == (0, 3, 4)
    assert again["empty"].dtype == dtype


def test_views_of_every_layout_come_back_with_their_values(tmp_path: Path) -> None:
    """Transposed, strided, expanded, channels-last, conjugated and negated views: the values, in ordinary memory."""
    base = torch.randn(4, 6)
    complex_ = torch.randn(3, 3, dtype=torch.complex64)
    state = {
        "transposed": base.T,
        "strided": base[::2, 1::3],
        "expanded": base[:1].expand(5, 6),
        "channels": torch.randn(2, 3, 4, 5).contiguous(memory_format=torch.channels_last),
        "conjugated": complex_.conj(),
        "negated": complex_.conj().imag,
        "offset": torch.arange(10)[3:],
    }
    again = through(tmp_path, state)
    for name, tensor in state.items():
        assert same(tensor, again[name]), name


def test_sparse_tensors_of_every_layout_come_back(tmp_path: Path) -> None:
    """COO, coalesced or not, and the four compressed layouts."""
    warnings.filterwarnings("ignore")  # torch calls the compressed layouts beta
    dense = torch.tensor([[0.0, 1.0, 0.0, 2.0], [3.0, 0.0, 0.0, -0.0]])
    twice = torch.sparse_coo_tensor(torch.tensor([[0, 0], [1, 1]]), torch.tensor([1.0, 2.0]), (2, 4))
    state = {
        "coo": dense.to_sparse(),
        "uncoalesced": twice,
        "csr": dense.to_sparse_csr(),
        "csc": dense.to_sparse_csc(),
        "bsr": dense.to_sparse_bsr((1, 2)),
        "bsc": dense.to_sparse_bsc((1, 2)),
    }
    again = through(tmp_path, state)
    for name, tensor in state.items():
        assert again[name].layout is tensor.layout, name
        assert torch.equal(again[name].to_dense(), tensor.to_dense()), name
    assert not again["uncoalesced"].is_coalesced()
    assert again["coo"].is_coalesced()


def test_tied_weights_stay_tied(tmp_path: Path) -> None:
    """Two names of one tensor are one tensor after loading, stored once."""
    weight = torch.nn.Parameter(torch.randn(3, 3))
    state = {"a": weight, "b": weight, "c": weight.detach()}
    again = through(tmp_path, state)
    assert again["a"] is again["b"]
    again["a"].data[0, 0] = 7.0
    assert again["c"][0, 0] == 7.0


def test_loaded_tensors_can_be_trained_on(tmp_path: Path) -> None:
    """What comes out is ordinary writable memory."""
    again = through(tmp_path, {"w": torch.ones(3)})
    again["w"].requires_grad_().sum().backward()
    assert torch.equal(again["w"].grad, torch.ones(3))


@pytest.mark.parametrize(
    "tensor",
    [
        torch.quantize_per_tensor(torch.ones(2), 0.1, 0, torch.quint8),
        torch.empty(2, device="meta"),
        torch.nested.nested_tensor([torch.ones(1), torch.ones(2)]),
    ],
    ids=["quantized", "meta", "nested"],
)
def test_tensors_without_plain_bytes_are_refused(tensor: torch.Tensor) -> None:
    """Quantized, nested and data-less tensors are refused at save time with their place."""
    with pytest.raises(UnsavableStateError, match=r"^x\.t "):
        capture({"x": {"t": tensor}}, TRANSLATORS)


@pytest.mark.parametrize(
    ("tag", "meta"),
    [
        ("os", {"size": [4], "parts": {"": {"dtype": "uint8", "shape": [4]}}}),
        ("tensor", {"size": [4], "parts": {"": {"dtype": "load", "shape": [4]}}}),
        ("tensor", {"size": [4], "parts": {"": {"dtype": "uint8", "shape": [1 << 60]}}}),
        ("tensor", {"size": [4], "parts": {}}),
        ("tensor", {}),
        ("sparse_coo", {"size": [2], "coalesced": True, "parts": {"": {"dtype": "uint8", "shape": [4]}}}),
    ],
)
def test_hostile_facts_build_nothing(tmp_path: Path, tag: str, meta: dict[str, Any]) -> None:
    """A tree that names other attributes of torch, or sizes that are not there, is damage."""
    from tests.faults.forging import NODE, forge

    folder = forge(tmp_path / "step-000000000001", tree={**NODE, "by": "torch", "tag": tag, "meta": meta})
    with pytest.raises(CheckpointDamagedError):
        CheckpointStore(tmp_path, clock=FakeClock()).load(folder, TRANSLATORS)


def test_hostile_sparse_indices_are_refused(tmp_path: Path) -> None:
    """Indices outside the tensor would read foreign memory later: they are damage now."""
    from tests.faults.forging import forge, safetensors

    header = {
        "i": {"dtype": "I64", "shape": [1, 1], "data_offsets": [0, 8]},
        "v": {"dtype": "F32", "shape": [1], "data_offsets": [8, 12]},
    }
    parts = {"indices": {"dtype": "int64", "shape": [1, 1]}, "values": {"dtype": "float32", "shape": [1]}}
    for coalesced in (True, False):
        meta = {"size": [4], "coalesced": coalesced, "parts": parts}
        tree = {
            "$": "node",
            "by": "torch",
            "tag": "sparse_coo",
            "name": "x",
            "arrays": {"indices": "i", "values": "v"},
        }
        folder = tmp_path / f"step-00000000000{int(coalesced)}"
        forge(
            folder,
            tree={**tree, "meta": meta},
            arrays=safetensors(header, (1 << 40).to_bytes(8, "little") + bytes(4)),
        )
        with pytest.raises(CheckpointDamagedError):
            CheckpointStore(tmp_path, clock=FakeClock()).load(folder, TRANSLATORS)


class Elsewhere(torch.Tensor):
    """A tensor that says it lies on the second GPU, which this machine lacks."""

    is_cuda = True  # type: ignore[assignment]
    device = torch.device("cuda", 1)  # type: ignore[assignment]


def test_copies_from_every_gpu_are_waited_for_before_a_snapshot_is_used(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Not the current device alone: the parts of a model may lie on several; and each copy is waited for once."""
    from backprop_torch.translator import _dense

    waited: list[torch.device] = []
    monkeypatch.setattr(torch.cuda, "synchronize", waited.append)
    translator = TorchTranslator()
    source = torch.arange(6.0)
    for tensor in (source, source.as_subclass(Elsewhere), source.as_subclass(Elsewhere)):
        buffer = bytearray(24)
        _dense(tensor, translator._copying).copy_into(memoryview(buffer))
        assert bytes(buffer) == bits(source)
    translator.synchronize()
    translator.synchronize()
    assert waited == [torch.device("cuda", 1)]


def test_what_was_read_can_still_be_resized() -> None:
    """The script may resize a tensor that a checkpoint or a comparison has read: `numpy()` would forbid it for good."""
    tensor = torch.ones(3)
    dense = TorchTranslator().take_apart(tensor).arrays[""]
    assert bytes(dense.view()) == bits(torch.ones(3))
    dense.copy_into(memoryview(bytearray(dense.nbytes)))
    tensor.resize_(1000)
    assert tensor.shape == (1000,)


def test_a_view_keeps_the_memory_that_it_shows() -> None:
    """The tensor itself may be gone by then."""
    view = TorchTranslator().take_apart(torch.full((1000,), 7, dtype=torch.uint8)).arrays[""].view()
    torch.full((1000,), 9, dtype=torch.uint8)
    assert set(view) == {7}


def test_memory_that_cannot_be_pinned_is_ordinary_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where CUDA pins no more, copies go into memory that is not pinned; torch says so with a RuntimeError."""

    def refuse(*_: object, **keywords: object) -> torch.Tensor:
        assert keywords["pin_memory"]
        raise RuntimeError("CUDA error: out of memory")

    monkeypatch.setattr(translator_module, "cuda_in_use", lambda: True)
    monkeypatch.setattr(torch, "empty", refuse)
    assert len(TorchTranslator().allocate(1000)) == 1000
