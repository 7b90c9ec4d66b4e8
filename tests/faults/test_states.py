"""(f) Arbitrary states: what comes back is bit-identical, or was refused with a sentence at save time."""

from __future__ import annotations

import datetime
import string
from collections import Counter, OrderedDict, deque
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from backprop_core.checkpoints import NumpyTranslator, StagingBuffers, capture
from backprop_core.checkpoints.arrays import DTYPE_BITS, ArrayNode, Dense, Translator
from backprop_core.checkpoints.codec import Snapshot
from backprop_core.checkpoints.folder import plan_folder
from backprop_core.checkpoints.store import CheckpointStore
from backprop_core.errors import UnsavableStateError
from backprop_core.testing.checkpoint_places import BLOBS, Blob, BlobTranslator
from backprop_core.testing.clock import FakeClock
from tests.backprop_core.checkpoints.states import assert_same

from .saving import facts

FLOATS = st.floats() | st.integers(0, (1 << 64) - 1).map(lambda bits: float(np.uint64(bits).view(np.float64)))
TEXTS = st.text(st.characters(exclude_categories=())) | st.text(
    string.ascii_letters, min_size=300, max_size=1000
)
LEAVES = (
    st.none() | st.booleans() | st.integers() | st.integers(-(1 << 300), 1 << 300) | FLOATS | TEXTS | st.binary()
    | st.binary().map(bytearray) | st.builds(complex, FLOATS, FLOATS) | st.datetimes() | st.dates() | st.times()
    | st.datetimes(timezones=st.just(datetime.UTC)) | st.timedeltas() | st.builds(range, st.integers(), st.integers())
    | st.sampled_from([Path("a/b"), Path("/")])
)  # fmt: skip
DTYPES = (
    npst.scalar_dtypes()
    | npst.byte_string_dtypes()
    | npst.unicode_string_dtypes()
    | npst.complex_number_dtypes()
)
SHAPES = npst.array_shapes(min_dims=0, min_side=0, max_side=4)


@st.composite
def arrays(draw: st.DrawFn) -> Any:
    """Arrays of every dtype with arbitrary bits, some of them views that are not contiguous, some scalars."""
    dtype = draw(DTYPES)
    shape = draw(SHAPES)
    count = int(np.prod(shape)) * dtype.itemsize
    data = draw(st.binary(min_size=count, max_size=count))
    if dtype.kind == "b":
        data = bytes(byte & 1 for byte in data)
    if dtype.kind == "U":
        data = bytes(count)
    array = np.frombuffer(data, dtype).reshape(shape) if count else np.zeros(shape, dtype)
    way = draw(st.integers(0, 4))
    if way == 1 and array.ndim:
        return array[::-1]
    if way == 2:
        return array.T
    if way == 3 and array.size:
        return array.reshape(-1)[0]
    return array


KEYS = st.none() | st.booleans() | st.integers() | TEXTS | st.binary() | st.tuples(st.integers(), TEXTS)
MEMBERS = st.integers() | TEXTS | st.binary() | st.floats(allow_nan=False)
STATES = st.recursive(
    LEAVES | arrays(),
    lambda inner: (
        st.lists(inner, max_size=4) | st.lists(inner, max_size=4).map(tuple) | st.dictionaries(KEYS, inner, max_size=4)
        | st.dictionaries(TEXTS, inner, max_size=4).map(OrderedDict) | st.lists(inner, max_size=4).map(deque)
        | st.frozensets(MEMBERS, max_size=4) | st.sets(MEMBERS, max_size=4)
        | st.dictionaries(TEXTS, st.integers(), max_size=3).map(Counter)
        | inner.map(lambda value: {"one": value, "same": value, "list": [value, value]})
    ),
    max_leaves=20,
)  # fmt: skip


def captured(states: dict[str, object], translators: Sequence[Translator]) -> Snapshot | UnsavableStateError:
    """The states taken apart, or the error that refuses them."""
    try:
        return capture(states, translators)
    except UnsavableStateError as error:
        return error


def check(folder: Path, state: object) -> None:
    """Save and load `state`, staged as for a periodic save."""
    translators = (NumpyTranslator(),)
    snapshot = captured({"state": state}, translators)
    if isinstance(snapshot, UnsavableStateError):
        assert snapshot.what.startswith("state")
        assert snapshot.hint
        return
    store = CheckpointStore(folder, clock=FakeClock())
    info = store.commit(snapshot.staged(StagingBuffers(translators)), facts(1), retain=False)
    loaded = store.load(info, translators)
    assert_same(state, loaded.states["state"])
    file = info.path / "state.safetensors"
    if file.exists():
        with safetensors.safe_open(file, "numpy") as opened:
            assert set(opened.keys()) == set(snapshot.objects["state"].arrays)


@pytest.mark.faults
@settings(max_examples=1500, deadline=None, suppress_health_check=list(HealthCheck))
@given(state=STATES)
def test_thousands_of_arbitrary_states_come_back(
    tmp_path_factory: pytest.TempPathFactory, state: object
) -> None:
    """Nested containers, every numpy dtype with arbitrary bits, aliases, odd keys: bit-identical or refused."""
    check(tmp_path_factory.mktemp("state"), state)


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(state=STATES)
def test_arbitrary_states_come_back(tmp_path_factory: pytest.TempPathFactory, state: object) -> None:
    """Some of them, fast enough for every day."""
    check(tmp_path_factory.mktemp("state"), state)


class Typed(Blob):
    """Bytes under any dtype name."""

    def __init__(self, data: bytes, dtype: str, shape: tuple[int, ...]) -> None:
        super().__init__(data)
        self.dtype, self.shape = dtype, shape


class TypedTranslator(BlobTranslator):
    """Stores `Typed` with its dtype."""

    def take_apart(self, value: object) -> ArrayNode:
        assert isinstance(value, Typed)
        dense = super().take_apart(value).arrays[""]
        return ArrayNode(
            "t", {}, {"": Dense(value.dtype, value.shape, dense.nbytes, dense.view, dense.copy_into)}
        )


@pytest.mark.parametrize("dtype", [*DTYPE_BITS, "F128", ""])
def test_every_dtype_of_safetensors_is_read_by_its_library(tmp_path: Path, dtype: str) -> None:
    """A file with each dtype, 8 elements of it, opens with the safetensors library; an unknown dtype is refused."""
    nbytes = DTYPE_BITS.get(dtype, 8)
    value = Typed(bytes(range(nbytes)), dtype, (2, 4))
    snapshot = captured({"state": {"x": value}}, (TypedTranslator(),))
    if isinstance(snapshot, UnsavableStateError):
        assert dtype not in DTYPE_BITS
        assert "safetensors does not know" in str(snapshot)
        return
    store = CheckpointStore(tmp_path, clock=FakeClock())
    info = store.commit(snapshot, facts(1))
    loaded: Any = store.load(info, BLOBS)
    assert loaded.states["state"]["x"].data == value.data
    ((_, entry),) = safetensors.deserialize((info.path / "state.safetensors").read_bytes())  # type: ignore[no-untyped-call]
    assert (entry["dtype"], entry["shape"], bytes(entry["data"])) == (dtype, [2, 4], value.data)


def test_huge_keys_do_not_make_huge_names(tmp_path: Path) -> None:
    """A key of a megabyte is kept in the tree; the array's name in the file stays short."""
    state = {"k" * (1 << 20): np.ones(2), ("k" * (1 << 20)) + "2": np.zeros(2)}
    snapshot = capture({"state": state}, (NumpyTranslator(),))
    assert max(map(len, snapshot.objects["state"].arrays)) < 1000
    check(tmp_path, state)


def test_plans_name_their_sizes(tmp_path: Path) -> None:
    """The planned size of every file is the size it gets: the check for free space can be trusted."""
    plan = plan_folder(capture({"a": [np.ones(3)] * 4, "b": "x" * 1000}, (NumpyTranslator(),)))
    for name, file in plan.files.items():
        assert file.nbytes == sum(len(chunk) for chunk in file.chunks()), name
