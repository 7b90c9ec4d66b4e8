"""Every place for checkpoints passes the same suite; and what is particular to object stores."""

from __future__ import annotations

import uuid
from pathlib import Path

import fsspec
import pytest

from backprop_core.checkpoints import open_store
from backprop_core.checkpoints.choose_place import place_of
from backprop_core.checkpoints.local_place import LocalPlace
from backprop_core.checkpoints.names import Owner
from backprop_core.checkpoints.place import Place
from backprop_core.checkpoints.remote_place import RemotePlace
from backprop_core.errors import UsageError
from backprop_core.testing.checkpoint_places import PlaceContract
from backprop_core.testing.clock import FakeClock

from .states import NUMPY, assert_same, facts, small_snapshot, small_states


class TestLocalPlace(PlaceContract):
    """A folder on a file system."""

    @pytest.fixture(autouse=True)
    def _folder(self, tmp_path: Path) -> None:
        self.folder = tmp_path / "checkpoints"

    def make_place(self) -> Place:
        return LocalPlace(self.folder, FakeClock())

    def damage(self, name: str, file: str) -> None:
        data = bytearray((self.folder / name / file).read_bytes())
        data[-1] ^= 1
        (self.folder / name / file).write_bytes(data)


class TestMemoryStore(PlaceContract):
    """fsspec's object store in memory."""

    @pytest.fixture(autouse=True)
    def _url(self, tmp_path: Path) -> None:
        self.url = f"memory://{uuid.uuid4().hex}/run"

    def make_place(self) -> Place:
        return RemotePlace(self.url, FakeClock())

    def damage(self, name: str, file: str) -> None:
        fs, root = fsspec.core.url_to_fs(self.url)
        data = bytearray(fs.cat_file(f"{root}/{name}/{file}"))
        data[-1] ^= 1
        fs.pipe_file(f"{root}/{name}/{file}", bytes(data))


class TestLocalObjectStore(TestMemoryStore):
    """fsspec's view of a folder, used as an object store: nothing is renamed."""

    @pytest.fixture(autouse=True)
    def _url(self, tmp_path: Path) -> None:
        self.url = f"file://{tmp_path}/bucket/run"


def test_addresses_survive_paths() -> None:
    """An address that went through Path and lost a slash leads to the same store, and is shown with both."""
    url = f"memory://{uuid.uuid4().hex}/x"
    saved = open_store(url, clock=FakeClock()).commit(small_snapshot(2), facts(3))
    assert saved.address == f"{url}/step-000000000003"
    again = open_store(Path(url), clock=FakeClock())
    assert_same(again.load(Path(str(saved.path)), NUMPY).states, small_states(2))
    other = open_store("/nowhere", clock=FakeClock())
    assert other.load(Path(saved.address), NUMPY).info.step == 3
    assert isinstance(place_of("C:/x", FakeClock()), LocalPlace | RemotePlace)


def test_an_upload_without_its_manifest_does_not_exist() -> None:
    """Files of a killed save are neither listed nor loaded; sweep removes them once their process is gone."""
    url = f"memory://{uuid.uuid4().hex}/x"
    store = open_store(url, clock=FakeClock())
    store.commit(small_snapshot(1), facts(1))
    fs, root = fsspec.core.url_to_fs(url)
    here = Owner.this_process()
    for step, owner in ((2, Owner(here.place, here.pid, here.started + 1)), (3, here)):
        fs.pipe_file(f"{root}/step-00000000000{step}/model.json", b"{}")
        fs.pipe_file(f"{root}/step-00000000000{step}/{owner.saving_folder()}", b"x")
    fs.pipe_file(f"{root}/step-000000000004/manifest.jso", b"x")
    assert [info.step for info in store.list()] == [1]
    store.sweep()
    left = sorted(Path(str(path)).name for path in fs.ls(root, detail=False))
    assert left == ["step-000000000001", "step-000000000003", "step-000000000004"]


def test_the_manifest_is_uploaded_last_and_removed_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever lists the store at any moment sees whole checkpoints only."""
    url = f"memory://{uuid.uuid4().hex}/x"
    store = open_store(url, clock=FakeClock())
    fs, _ = fsspec.core.url_to_fs(url)
    seen: list[str] = []
    for name in ("pipe_file", "rm_file", "open", "rm"):
        real = getattr(type(fs), name)

        def watched(
            self: object, path: str, *args: object, _real: object = real, _name: str = name, **kw: object
        ) -> object:
            seen.append(f"{_name} {path.rpartition('/')[2]}")
            return _real(self, path, *args, **kw)  # type: ignore[operator]

        monkeypatch.setattr(type(fs), name, watched)
    for step in (1, 2, 3):
        del seen[:]
        store.commit(small_snapshot(step), facts(step))
    written = [entry for entry in seen if entry.startswith(("open", "pipe"))]
    uploads = written[: written.index("pipe_file manifest.json")]
    assert {"open model.safetensors", "open optimizer.json", "open rng.safetensors"} <= set(uploads)
    assert seen.index("rm_file manifest.json") < seen.index("rm step-000000000001")


def test_errors_of_the_store_are_errors_of_the_save(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the library below raises, the save fails with a sentence and training can go on."""
    from backprop_core.errors import CheckpointWriteError

    url = f"memory://{uuid.uuid4().hex}/x"
    store = open_store(url, clock=FakeClock())
    fs, _ = fsspec.core.url_to_fs(url)

    class ThrottledError(Exception):
        pass

    def throttled(*args: object, **options: object) -> object:
        raise ThrottledError("slow down")

    monkeypatch.setattr(type(fs), "open", throttled)
    with pytest.raises(CheckpointWriteError, match="slow down"):
        store.commit(small_snapshot(), facts(1))
    monkeypatch.undo()
    assert store.list() == []


def test_an_unknown_kind_of_store_is_a_usage_error() -> None:
    """A typo in the address or a missing library says what to install."""
    with pytest.raises(UsageError, match="nosuch://x"):
        open_store("nosuch://x", clock=FakeClock())
