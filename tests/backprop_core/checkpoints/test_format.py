"""The format on the disk: checked-in folders of every version load, now and in all later versions of backprop.

`format_2/` was written by `python -m tests.backprop_core.checkpoints.test_format`, `format_1/` by that of its
time. A change that breaks these tests needs a
new format version and a reader for the old one, not new folders.
"""

from __future__ import annotations

import datetime
import json
import math
import shutil
import sys
import tempfile
from collections import Counter, OrderedDict, defaultdict, deque
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
import torch
import xxhash

from backprop_core.checkpoints import (
    FORMAT_VERSION,
    CheckpointFacts,
    CheckpointStore,
    NumpyTranslator,
    capture,
)
from backprop_core.checkpoints.manifest import NewerFormatError
from backprop_core.checkpoints.unchanged import Unchanged, Worth
from backprop_core.outcome import SaveReason
from backprop_core.testing.clock import FakeClock
from backprop_torch.translator import TorchTranslator

from .states import assert_same, store_at

HERE = Path(__file__).parent
TRANSLATORS = (TorchTranslator(), NumpyTranslator())


def torch_states() -> dict[str, object]:
    """What a plain PyTorch run saves: tied weights, an optimizer, random states, sparse and narrow tensors."""
    weight = torch.arange(12, dtype=torch.float32).reshape(3, 4)
    model: Any = OrderedDict(
        [("first.weight", weight), ("first.bias", torch.ones(3)), ("last.weight", weight)]
    )
    model._metadata = OrderedDict([("", {"version": 1}), ("first", {"version": 1})])
    adam = {"step": torch.tensor(3.0), "exp_avg": weight / 8, "exp_avg_sq": weight.double()}
    return {
        "model": model,
        "optimizer": {
            "state": {0: adam},
            "param_groups": [{"lr": 1e-3, "betas": (0.9, 0.999), "params": [0, 1]}],
        },
        "rest": {
            "half": torch.tensor([1.5, -0.0], dtype=torch.bfloat16),
            "long": torch.tensor([2**40]),
            "flags": torch.tensor([True, False]),
            "empty": torch.zeros(0, 3),
            "complex": torch.tensor([1 + 2j], dtype=torch.complex128),
            "sparse": torch.sparse_coo_tensor(torch.tensor([[0, 2]]), torch.tensor([3.0, 4.0]), (4,)),
        },
    }


def plain_states() -> dict[str, object]:
    """A value of every plain kind, and numpy's."""
    return {
        "plain": {
            "none": None, "bool": True, "int": -(2**70), "float": [0.1, math.nan, -math.inf, -0.0], "str": ["ü", "\ud800"],
            "bytes": b"\x00\xff", "bytearray": bytearray(b"a"), "complex": 1 - 0j, "tuple": (1, (2,)), 3: "int key",
            "set": {1, "b"}, "frozenset": frozenset({(1,)}), "deque": deque([1], 3), "ordered": OrderedDict(b=1, a=2),
            "default": defaultdict(list, {"x": [1]}), "counter": Counter("aab"), "range": range(1, 9, 2), "slice": slice(2),
            "path": PurePosixPath("a/b"), "date": datetime.date(2026, 11, 23), "delta": datetime.timedelta(1, 2, 3),
            "datetime": datetime.datetime(2026, 11, 23, 15, 42, tzinfo=datetime.timezone(datetime.timedelta(hours=2), "X")),
            "time": datetime.time(1, 2, fold=1), "dollar": {"$": "x"},
        },
        "numpy": {
            "float": np.linspace(0, 1, 5).astype(np.float32), "scalar": np.float64(0.1), "big-endian": np.array([1], ">i2"),
            "text": np.array(["ab", "c"]), "date": np.array(["2026-11-23"], "datetime64[D]"), "0-d": np.array(7),
            "mt19937": np.random.RandomState(5).get_state(),
        },
    }  # fmt: skip


FACTS = CheckpointFacts(
    "20261123-154248-k3f9",
    2,
    1234,
    3,
    17,
    SaveReason.DEADLINE,
    1,
    {"loops": [1, (2,)]},
    {"torch": "2.13"},
    1.25,
    {"a": math.nan},
)
VERSION_1 = {1234: torch_states, 1300: plain_states}


@pytest.mark.parametrize("step", VERSION_1)
def test_folders_of_format_version_1_load(step: int) -> None:
    """What was checked in when version 1 was made verifies and loads to the same bits."""
    store = CheckpointStore(HERE / "format_1", clock=FakeClock())
    (info,) = (info for info in store.list() if info.step == step)
    assert store.verify(info) == []
    loaded = store.load(info, TRANSLATORS)
    assert_same_with_torch(loaded.states, VERSION_1[step]())
    facts = replace(FACTS, step=step)
    assert loaded.info.facts == replace(facts, extra=loaded.info.facts.extra)
    assert math.isnan(loaded.info.facts.extra["a"])  # type: ignore[arg-type]
    if step == 1234:
        model: Any = loaded.states["model"]
        assert model["first.weight"] is model["last.weight"]


@pytest.mark.parametrize("step", VERSION_1)
def test_what_is_written_today_is_format_version_1(step: int, tmp_path: Path) -> None:
    """Saving the same states gives the same bytes in every file but the manifest."""
    info = store_at(tmp_path).commit(capture(VERSION_1[step](), TRANSLATORS), replace(FACTS, step=step))
    assert json.loads((info.path / "manifest.json").read_bytes())["backprop_checkpoint"] == 1
    for path in info.path.iterdir():
        if path.name != "manifest.json":
            assert path.read_bytes() == (HERE / "format_1" / info.path.name / path.name).read_bytes(), (
                path.name
            )


def parted_states(step: int) -> dict[str, object]:
    """A base that stays as it is beside what is trained."""
    base = torch.arange(600, dtype=torch.float32).reshape(20, 30)
    return {"model": {"base": base, "trained": torch.full((40, 5), float(step)), "bias": torch.ones(3)}}


def write_format_2(folder: Path) -> Path:
    """The third save of such states: its base is in a file of its own."""
    store = store_at(folder, keep=10, unchanged=Unchanged(Worth(array_bytes=256, file_bytes=1000)))
    for step in (1, 2, 3):
        info = store.commit(capture(parted_states(step), TRANSLATORS), replace(FACTS, step=step))
    return info.path


def test_a_folder_of_format_version_2_loads() -> None:
    """An object in two files of arrays verifies, loads to the same bits, and opens with safetensors and its index."""
    store = CheckpointStore(HERE / "format_2", clock=FakeClock())
    (info,) = store.list()
    assert store.verify(info) == []
    assert_same_with_torch(store.load(info, TRANSLATORS).states, parted_states(3))
    index = json.loads((info.path / "model.safetensors.index.json").read_bytes())["weight_map"]
    files = {file: safetensors.numpy.load_file(info.path / file) for file in set(index.values())}
    for name, value in parted_states(3)["model"].items():  # type: ignore[attr-defined]
        assert (files[index[name]][name] == value.numpy()).all()


def test_what_is_written_today_is_format_version_2(tmp_path: Path) -> None:
    """Saving the same states in the same order gives the same bytes in every file but the manifest."""
    path = write_format_2(tmp_path)
    assert json.loads((path / "manifest.json").read_bytes())["backprop_checkpoint"] == FORMAT_VERSION == 2
    for file in path.iterdir():
        if file.name != "manifest.json":
            assert file.read_bytes() == (HERE / "format_2" / path.name / file.name).read_bytes(), file.name


def test_a_stranger_reads_a_checkpoint_with_safetensors_and_json_alone() -> None:
    """What docs/checkpoint-format.md says is enough: digests, arrays and hyperparameters without backprop."""
    folder = HERE / "format_1" / "step-000000001234"
    text = (folder / "manifest.json").read_bytes()
    manifest = json.loads(text)
    seal = manifest["manifest_xxh3_128"]
    assert xxhash.xxh3_128_hexdigest(text.replace(seal.encode(), b"0" * 32)) == seal
    for name, facts in manifest["files"].items():
        data = (folder / name).read_bytes()
        assert (len(data), xxhash.xxh3_128_hexdigest(data)) == (facts["bytes"], facts["xxh3_128"])
    files = manifest["objects"]["model"]
    arrays = safetensors.numpy.load_file(folder / files["arrays"])
    np.testing.assert_array_equal(arrays["first.weight"], np.arange(12, dtype=np.float32).reshape(3, 4))
    with safetensors.safe_open(folder / files["arrays"], "numpy") as opened:
        assert opened.metadata()["last.weight"] == "first.weight"
    groups = json.loads((folder / "optimizer.json").read_text())["param_groups"]
    assert groups[0]["lr"] == 1e-3
    assert groups[0]["betas"] == {"$": "tuple", "items": [0.9, 0.999]}


def test_a_later_format_is_left_alone(tmp_path: Path) -> None:
    """A checkpoint of a version this backprop does not know is neither loaded, nor called damaged, nor moved."""
    store = store_at(tmp_path)
    info = store.commit(capture({"x": 1}, ()), replace(FACTS, step=1))
    file = info.path / "manifest.json"
    text = file.read_bytes().replace(b'"backprop_checkpoint": 1', b'"backprop_checkpoint": 3')
    seal = json.loads(text)["manifest_xxh3_128"].encode()
    digest = xxhash.xxh3_128_hexdigest(text.replace(seal, b"0" * 32))
    file.write_bytes(text.replace(seal, digest.encode()))
    with pytest.raises(NewerFormatError, match="format version 3"):
        store.load_newest((), told=pytest.fail)
    assert info.path.exists()


def assert_same_with_torch(left: Any, right: Any, where: str = "states") -> None:
    """`assert_same` for states in which tensors may sit in dicts."""
    if isinstance(left, torch.Tensor):
        assert (left.dtype, left.shape, left.layout) == (right.dtype, right.shape, right.layout), where
        assert torch.equal(left.to_dense(), right.to_dense()), where
        if left.layout is torch.strided:
            assert_same(
                left.flatten().view(torch.uint8).numpy(), right.flatten().view(torch.uint8).numpy(), where
            )
    elif isinstance(left, dict):
        assert type(left) is type(right), where
        assert list(left) == list(right), where
        assert getattr(left, "_metadata", None) == getattr(right, "_metadata", None), where
        for key in left:
            assert_same_with_torch(left[key], right[key], f"{where}[{key!r}]")
    else:
        assert_same(left, right, where)


if __name__ == "__main__":
    target = HERE / f"format_{FORMAT_VERSION}"
    if target.exists():
        sys.exit(f"{target} is there already: folders of a version are written once.")
    with tempfile.TemporaryDirectory() as scratch:
        print(shutil.copytree(write_format_2(Path(scratch)), target / "step-000000000003"))
