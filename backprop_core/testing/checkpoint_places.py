"""What every place for checkpoints must do: subclass `PlaceContract` in a test module and say how to make
one.

A place is a file system or an object store behind `backprop_core.checkpoints.place.Place`.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from backprop_core.checkpoints.arrays import JSON, ArrayNode, Dense, unpinned
from backprop_core.checkpoints.codec import Snapshot, capture
from backprop_core.checkpoints.files import FileFacts
from backprop_core.checkpoints.manifest import MANIFEST_NAME, CheckpointFacts
from backprop_core.checkpoints.place import Place
from backprop_core.checkpoints.store import CheckpointStore
from backprop_core.errors import CheckpointDamagedError, CheckpointWriteError
from backprop_core.outcome import SaveReason

from .clock import FakeClock

FACTS = CheckpointFacts("r", 1, 0, 0, 0, SaveReason.PERIODIC)


class Blob:
    """Bytes that only a translator can store. `broken` ones fail when they are written."""

    def __init__(self, data: bytes, *, broken: bool = False) -> None:
        self.data = data
        self.broken = broken


class BlobTranslator:
    """Translates `Blob`, for tests that want arrays without a framework."""

    name = "blob"

    def handles(self, value: object) -> bool:
        return isinstance(value, Blob)

    def identity(self, value: object) -> int:
        return id(value)

    def take_apart(self, value: object) -> ArrayNode:
        assert isinstance(value, Blob)
        data, broken = value.data, value.broken

        def view() -> memoryview:
            if broken:
                raise OSError(28, "No space left on device")
            return memoryview(data)

        def copy_into(buffer: memoryview) -> None:
            buffer[:] = data

        address = 0 if broken else ctypes.cast(ctypes.c_char_p(data), ctypes.c_void_p).value or 0
        return ArrayNode("blob", {}, {"": Dense("U8", (len(data),), len(data), view, copy_into, address)})

    def build(self, tag: str, meta: Mapping[str, JSON], arrays: Mapping[str, memoryview]) -> object:
        return Blob(bytes(arrays[""]))

    def allocate(self, nbytes: int) -> memoryview:
        return memoryview(bytearray(nbytes))

    def pin(self, memory: memoryview) -> Callable[[], None]:
        return unpinned

    def synchronize(self) -> None: ...


BLOBS = (BlobTranslator(),)


def blobs(seed: int, *, broken: bool = False) -> Snapshot:
    """Two objects, one of which is larger than the pieces in which files are written."""
    large = bytes([seed]) * 9_000_000
    return capture(
        {"model": {"w": Blob(large)}, "optimizer": {"m": Blob(b"m" * 3, broken=broken), "n": seed}}, BLOBS
    )


def adapted(step: int) -> Snapshot:
    """A large base that never changes, and what is trained beside it."""
    model = {
        "base": Blob(b"base" * 1_000_000),
        "trained": Blob(bytes([step]) * 300_000),
        "bias": Blob(b"b" * 10),
    }
    return capture({"model": model, "teacher": {"w": Blob(b"t" * 2_000_000)}}, BLOBS)


class PlaceContract:
    """The tests. `make_place` gives an empty place; called again in the same test, it gives the same one
    anew.
    """

    def make_place(self) -> Place:
        raise NotImplementedError

    def damage(self, name: str, file: str) -> None:
        """Change a byte of a file, behind the place's back."""
        raise NotImplementedError

    def store(self, keep: int = 2) -> CheckpointStore:
        """A store over the place, as another process would open it."""
        place = self.make_place()
        return CheckpointStore(place.directory, clock=FakeClock(), keep=keep, place=place)

    def test_what_has_not_changed_is_not_written_again(self) -> None:
        """Beside a base that stays, only what is trained is written after two saves; every checkpoint is whole alone."""
        store = self.store(keep=10)
        infos = [store.commit(adapted(step), replace(FACTS, step=step)) for step in range(1, 5)]
        assert [info.nbytes - info.linked_nbytes < 400_000 for info in infos] == [False, False, True, True]
        for info in infos[:3]:
            self.make_place().remove(info.path.name)
        assert store.verify(infos[3]) == []
        loaded: Any = store.load(infos[3], BLOBS).states
        assert loaded["model"]["base"].data == b"base" * 1_000_000
        assert loaded["model"]["trained"].data == bytes([4]) * 300_000
        assert loaded["teacher"]["w"].data == b"t" * 2_000_000
        again = self.store(keep=10).commit(adapted(5), replace(FACTS, step=5))
        assert again.linked_nbytes > 4_000_000  # the base, in a process that has seen no save yet

    def test_what_was_thought_unchanged_and_is_gone_is_written(self) -> None:
        """The checkpoint that would be shared vanishes, or is damaged: the next save is whole nevertheless."""
        store = self.store(keep=10)
        infos = [store.commit(adapted(step), replace(FACTS, step=step)) for step in range(1, 4)]
        for info in infos:
            self.make_place().remove(info.path.name)
        info = store.commit(adapted(4), replace(FACTS, step=4))
        assert info.linked_nbytes == 0
        assert store.verify(info) == []

    def test_an_empty_place_holds_nothing(self) -> None:
        """Looking into a place that does not exist yet finds nothing and fails nowhere."""
        store = self.store()
        assert store.list() == []
        assert store.load_newest(BLOBS, told=_unexpected) is None
        store.sweep()

    def test_what_was_saved_comes_back(self) -> None:
        """Another process finds the checkpoint and reads every byte of it."""
        saved = self.store().commit(blobs(3), replace(FACTS, step=5))
        store = self.store()
        assert [info.path for info in store.list()] == [saved.path]
        assert store.verify(saved) == []
        loaded = store.load(saved.path, BLOBS)
        model = loaded.states["model"]
        assert isinstance(model, dict)
        assert model["w"].data == bytes([3]) * 9_000_000
        assert loaded.states["optimizer"]["n"] == 3  # type: ignore[index]

    def test_only_the_newest_are_kept(self) -> None:
        """Retention holds, and a second save of a step has a name of its own."""
        store = self.store()
        for seed, step in enumerate((1, 2, 2, 3)):
            store.commit(blobs(seed), replace(FACTS, step=step))
        assert [info.path.name for info in self.store().list()] == [
            "step-000000000003",
            "step-000000000002.1",
        ]

    def test_saves_of_one_step_stay_in_their_order(self) -> None:
        """However often a step is saved, the last save is the newest, also where older ones of that step are gone."""
        store = self.store()
        for seed in range(6):
            store.commit(blobs(seed), replace(FACTS, step=2))
            newest = self.store().list()[0]
            loaded = store.load(newest.path, BLOBS)
            assert loaded.states["optimizer"]["n"] == seed  # type: ignore[index]

    def test_damage_is_found_and_set_aside(self) -> None:
        """A changed byte is found, said, and the checkpoint before it is restored, now and afterwards."""
        store = self.store()
        for step in (1, 2):
            store.commit(blobs(step), replace(FACTS, step=step))
        newest = store.list()[0]
        self.damage(newest.path.name, "model.safetensors")
        assert len(store.verify(newest)) == 1
        told: list[str] = []
        for _ in range(2):
            loaded = self.store().load_newest(BLOBS, told=told.append)
            assert loaded is not None
            assert loaded.info.step == 1
        assert len(told) == 1

    def test_a_save_that_fails_leaves_nothing(self) -> None:
        """An error in the middle of a file: no checkpoint appears, and the older one is untouched."""
        store = self.store()
        store.commit(blobs(1), replace(FACTS, step=1))
        error = _error_of(lambda: store.commit(blobs(2, broken=True), replace(FACTS, step=2)))
        assert isinstance(error, CheckpointWriteError)
        assert "the disk is full" in str(error)
        assert [info.step for info in self.store().list()] == [1]
        assert store.commit(blobs(3), replace(FACTS, step=2)).path.name == "step-000000000002"

    def test_a_missing_manifest_is_not_taken_for_a_checkpoint(self) -> None:
        """Reading what is not there says so."""
        store = self.store()
        info = store.commit(blobs(1), replace(FACTS, step=1))
        error = _error_of(lambda: store.load(info.path.with_name("step-000000000009"), BLOBS))
        assert isinstance(error, CheckpointDamagedError)
        assert "no manifest" in str(error)

    def test_wrong_expectations_are_refused(self) -> None:
        """A file that is whole but not the one expected is refused by size and by digest."""
        place = self.make_place()
        name = self.store().commit(blobs(1), replace(FACTS, step=1)).path.name
        size = len(place.read(name, MANIFEST_NAME))
        for expected in (FileFacts(size + 1, "0" * 32), FileFacts(size, "0" * 32)):
            for attempt in (place.read, place.verify):
                error = _error_of(partial(attempt, name, MANIFEST_NAME, expected=expected))
                assert isinstance(error, ValueError)


def _error_of(call: Callable[[], object]) -> Exception | None:
    try:
        call()
    except Exception as error:
        return error
    return None


def _unexpected(sentence: str) -> None:
    raise AssertionError(sentence)
