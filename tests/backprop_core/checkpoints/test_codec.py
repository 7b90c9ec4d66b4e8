"""Taking states apart and putting them together again."""

from __future__ import annotations

import datetime
import enum
import json
import math
import pickle
import random
import struct
from collections import Counter, OrderedDict, defaultdict, deque
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pytest

from backprop_core.checkpoints import Snapshot, StagingBuffers, capture
from backprop_core.checkpoints.arrays import allocate_ram
from backprop_core.checkpoints.codec import rebuild
from backprop_core.errors import StateMismatchError, UnsavableStateError
from backprop_core.strict_json import decode_exactly, encode_exactly

from .states import NUMPY, assert_same, small_states


def through_json(snapshot: Snapshot, name: str = "x") -> Any:
    """What a state is after the tree went through JSON text and the arrays through bytes."""
    state = snapshot.objects[name]
    arrays = {key: memoryview(bytearray(dense.view())) for key, dense in state.arrays.items()}
    return rebuild(decode_exactly(encode_exactly(state.tree)), arrays, NUMPY)


def round_trip(value: object) -> Any:
    return through_json(capture({"x": value}, NUMPY))


NAN_WITH_PAYLOAD = struct.unpack("<d", bytes.fromhex("efbeadde0000f87f"))[0]
METADATA = OrderedDict(a=1.5)
METADATA._metadata = OrderedDict({"": {"version": 1}})  # type: ignore[attr-defined]

PLAIN = [
    None, True, 0, -1, 2**53, 2**53 + 1, -(2**200), 10**5000, 0.1, -0.0, math.inf, -math.inf, math.nan,
    NAN_WITH_PAYLOAD,
    1e-320, "", "ü😀", "\ud800", "\ud83d\ude00", "$", b"", b"\x00\xff", bytearray(b"ab"), complex(-0.0,
    math.nan),
    (), (1, (2,)), [], [[]], {}, {"$": 1}, {"$": {"$": "tuple"}}, {1: 2, "1": 3}, {None: 1, (1, 2): 2,
    1.5: 3, b"k": 4},
    {"a" * 5000: {"b": {}}}, set(), {1, "a", (2, 3)}, frozenset({1}), {frozenset({1}), frozenset()},
    OrderedDict([("b", 1), ("a", 2)]), METADATA, defaultdict(list, {"a": [1]}), defaultdict(None, {1: 2}),
    Counter("abca"),
    deque([1, 2], maxlen=3), deque(), range(3, 10, 2), slice(1, None, 2), Path("/tmp/a b"),
    PurePosixPath("../x"),
    datetime.datetime(2026, 11, 23, 15, 42, 48, 123456), datetime.datetime(2026, 1, 1, fold=1,
    tzinfo=datetime.UTC),
    datetime.datetime(1, 1, 1, tzinfo=datetime.timezone(datetime.timedelta(hours=5, seconds=7), "odd")),
    datetime.date(2026, 1, 2), datetime.time(1, 2, 3, 4), datetime.timedelta(days=-1, microseconds=1),
    datetime.timedelta.max, random.Random(3).getstate(), np.random.RandomState(3).get_state(),
    np.random.default_rng(3).bit_generator.state, np.random.MT19937(5).state, np.random.Philox(5).state,
]  # fmt: skip


@pytest.mark.parametrize("value", PLAIN, ids=[f"{n}-{type(value).__name__}" for n, value in enumerate(PLAIN)])
def test_plain_values_come_back_exactly(value: object) -> None:
    """A plain value of every kind has the same type and the same bits after a save."""
    assert_same(value, round_trip(value))


ARRAYS = [
    np.arange(12, dtype=np.float32).reshape(3, 4), np.array(3.5), np.zeros((0, 3)), np.zeros((2, 0),
    np.float16),
    np.arange(12).reshape(3, 4).T, np.arange(24, dtype=np.int16)[::-3], np.asfortranarray(np.ones((3, 2))),
    np.array([True, False]), np.array([1 + 2j], np.complex64), np.array([1 + 2j]), np.array([[1, 2]], ">i4"),
    np.array(["ab", "c"]), np.array([b"ab"]), np.array(["2026-01-01"], "datetime64[D]"), np.array([1],
    "timedelta64[s]"),
    np.frombuffer(bytes.fromhex("efbeadde0000f87f"), np.float64), np.array([-0.0, np.nan]), np.array("", "U"),
    np.float32(0.1), np.float64(-0.0), np.int8(-3), np.bool_(True), np.complex64(1j), np.str_("ab"),
    np.bytes_(b""),
    np.datetime64("2026-01-01T00:00:01"), np.broadcast_to(np.float32(2), (3, 3)),
]  # fmt: skip


@pytest.mark.parametrize("value", ARRAYS, ids=lambda v: f"{type(v).__name__}-{v.dtype}-{v.shape}")
def test_numpy_values_come_back_exactly(value: Any) -> None:
    """Every dtype and layout of numpy keeps its bits: zero-sized, 0-d, reversed, transposed, foreign byte
    order.
    """
    again = round_trip(value)
    assert_same(value, again)
    if isinstance(value, np.ndarray) and value.size:
        assert again.flags.writeable


def test_dtypes_of_ml_dtypes_come_back_exactly() -> None:
    """bfloat16, the float8s and the types below a byte keep their bits."""
    import ml_dtypes

    names = (
        "bfloat16",
        "float8_e4m3fn",
        "float8_e5m2",
        "float8_e8m0fnu",
        "float8_e4m3fnuz",
        "int4",
        "float4_e2m1fn",
    )
    for name in names:
        value = np.arange(4).astype(getattr(ml_dtypes, name))
        assert_same(value, round_trip(value))
        assert_same(value[1], round_trip(value[1]))


def test_shared_memory_is_stored_once_and_comes_back_shared() -> None:
    """Tied weights are one array in the file and one object after loading; another view of them shares their
    memory.
    """
    weight = np.ones((2, 3), np.float32)
    snapshot = capture({"x": {"a": weight, "b": weight, "c": weight[:], "other": weight.T}}, NUMPY)
    state = snapshot.objects["x"]
    assert state.aliases == {"b": "a", "c": "a"}
    assert set(state.arrays) == {"a", "other"}
    again = through_json(snapshot)
    assert again["b"] is again["a"]
    assert again["c"] is again["a"]


def test_array_names_are_those_of_the_state_dict_and_unique() -> None:
    """The names in the file are the dotted paths, and two that read alike do not overwrite each other."""
    state = {
        "a.b": np.ones(1),
        "a": {"b": np.zeros(1)},
        "state": {0: {"m": np.ones(2)}},
        "__metadata__": np.ones(3),
    }
    snapshot = capture({"x": state}, NUMPY)
    assert set(snapshot.objects["x"].arrays) == {"a.b", "a.b~2", "state.0.m", "__metadata__~2"}
    assert_same(state, through_json(snapshot))


class Color(enum.Enum):
    RED = 1


class Text(enum.StrEnum):
    A = "a"


class Own:
    pass


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (Color.RED, "enum"),
        (Text.A, "enum"),
        (Own(), "Own"),
        (Own, "type"),
        (lambda: 1, "function"),
        (defaultdict(Own), "defaultdict"),
        (np.array([None]), "dtype object"),
        (np.zeros(2, [("a", "i4")]), "portable"),
        (np.ones(1, np.longdouble), "portable"),
        (np.ma.array([1]), "MaskedArray"),
        (datetime.datetime(2026, 1, 1, tzinfo=__import__("zoneinfo").ZoneInfo("UTC")), "zone"),
    ],
)
def test_values_without_a_plain_form_are_refused_with_their_place(value: object, reason: str) -> None:
    """What could only be pickled is refused at save time, naming where it sits and what it is."""
    with pytest.raises(UnsavableStateError, match=reason) as caught:
        capture({"optimizer": {"state": {0: {"foo": value}}}}, NUMPY)
    if "zone" not in reason:
        assert caught.value.what.startswith("optimizer.state[0]['foo'] ")


def test_a_state_that_contains_itself_is_refused() -> None:
    """A cycle is named instead of ending in a recursion error."""
    cycle: list[object] = []
    cycle.append(cycle)
    with pytest.raises(UnsavableStateError, match="contains itself"):
        capture({"x": cycle}, NUMPY)


def test_a_state_nested_too_deeply_is_refused() -> None:
    """Depth beyond the limit is refused at save time; just below it, it loads."""
    deep: list[Any] = []
    for _ in range(99):
        deep = [deep]
    assert_same(deep, round_trip(deep))
    with pytest.raises(UnsavableStateError, match="deep"):
        capture({"x": [deep]}, NUMPY)


def test_the_same_state_gives_the_same_tree() -> None:
    """Two captures of equal states are equal, sets included: nothing depends on the order of hashing."""
    first, second = (
        capture({"x": {"s": {f"k{n}" for n in order}}}, NUMPY) for order in (range(9), range(8, -1, -1))
    )
    assert json.dumps(first.objects["x"].tree) == json.dumps(second.objects["x"].tree)


def test_a_missing_framework_is_said_and_not_called_damage() -> None:
    """Loading without the translator that saved says which framework is missing."""
    state = capture({"x": np.ones(2)}, NUMPY).objects["x"]
    with pytest.raises(StateMismatchError, match="numpy"):
        rebuild(state.tree, {}, ())


def test_staged_copies_do_not_follow_the_originals() -> None:
    """After staging, training may write to its arrays: the snapshot still holds what was there."""
    states = small_states()
    live = states["model"]["layer.weight"]  # type: ignore[index]
    before = live.copy()
    staged = capture(states, NUMPY).staged(StagingBuffers(NUMPY))
    live[:] = 0
    assert_same(through_json(staged, "model")["layer.weight"], before)


def test_plain_memory_is_copied_by_its_address_and_all_else_by_its_framework() -> None:
    """Only arrays that lie in C order without gaps have an address; staged, all of them hold what the originals held."""
    block = np.arange(3_000_000, dtype=np.float64).reshape(1000, 3000)
    arrays = {
        "large": block,
        "small": block[3],
        "offset": block.reshape(-1)[5:17],
        "scalar": np.array(2.5),
        "empty": np.zeros((0, 4)),
        "turned": block.T[:7],
        "gaps": block[:, ::2],
        "backwards": block[3, ::-1],
    }
    snapshot = capture({"a": arrays}, NUMPY)
    dense = snapshot.objects["a"].arrays
    plain = {name for name in arrays if dense[name].address}
    assert {"large", "small", "offset", "scalar"} <= plain <= {"large", "small", "offset", "scalar", "empty"}
    staged = snapshot.staged(StagingBuffers(NUMPY)).objects["a"].arrays
    for name, array in arrays.items():
        assert bytes(staged[name].view()) == array.tobytes(), name


def test_staging_reuses_its_memory() -> None:
    """The second snapshot of the same sizes allocates nothing."""
    allocated: list[int] = []

    class Counting(type(NUMPY[0])):  # type: ignore[misc]
        def allocate(self, nbytes: int) -> memoryview:
            allocated.append(nbytes)
            return super().allocate(nbytes)  # type: ignore[no-any-return]

    translators = (Counting(),)
    buffers = StagingBuffers(translators)
    capture(small_states(), translators).reserve(buffers)
    assert len(allocated) == 3
    for seed in range(3):
        staged = capture(small_states(seed), translators).staged(buffers)
        assert_same(through_json(staged, "rng"), small_states(seed)["rng"])
    assert len(allocated) == 3
    assert buffers.nbytes == sum(allocated)


def test_staging_memory_is_empty_in_forked_processes() -> None:
    """The kernel empties staging buffers in loader workers, and shares loaded arrays with them as usual."""
    flags = {staging: vm_flags(allocate_ram(4 << 20, staging=staging)) for staging in (True, False)}
    assert "wf" in flags[True]
    assert "wf" not in flags[False]


def vm_flags(view: memoryview) -> list[str]:
    """What the kernel says of the memory behind `view`; `wf` is "wipe on fork" (proc(5), smaps)."""
    address = np.frombuffer(view, np.uint8).ctypes.data
    inside = False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        head = line.split()[0]
        if "-" in head and not head.endswith(":"):
            start, end = (int(part, 16) for part in head.split("-"))
            inside = start <= address < end
        elif inside and head == "VmFlags:":
            return line.split()[1:]
    return []


def test_a_file_that_a_script_pickles_has_the_same_bytes_behind_a_resume() -> None:
    """A name that comes twice is one object in source text, and pickled once: restored ones are it, too."""
    defaults = {"weight_decay": 0.1}
    groups = [{"lr": 0.5, "max_lr": 1.0, "weight_decay": 0.1, "phases": ["max_lr"]}, OrderedDict(lr=1)]
    assert pickle.dumps([round_trip(groups), defaults]) == pickle.dumps([groups, defaults])
