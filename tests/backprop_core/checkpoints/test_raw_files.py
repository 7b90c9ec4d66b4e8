"""States that are files of another program's format."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from backprop_core.checkpoints import Dense, RawFile, StagingBuffers, capture
from backprop_core.checkpoints.files import FileFacts, verify_file
from backprop_core.errors import CheckpointDamagedError, CheckpointWriteError

from .states import NUMPY, facts, store_at


def raw(content: bytes) -> RawFile:
    def copy_into(buffer: memoryview) -> None:
        buffer[:] = content

    return RawFile(Dense("U8", (len(content),), len(content), lambda: memoryview(content), copy_into))


def test_a_raw_file_lies_in_the_folder_byte_for_byte(tmp_path: Path) -> None:
    """Its name is the object's, its bytes are what was given, and they come back beside ordinary states."""
    store = store_at(tmp_path)
    snapshot = capture({"other.ckpt": raw(b"PK\x03\x04 anything"), "other": {"a": np.ones(3)}}, NUMPY)
    info = store.commit(snapshot, facts(1))
    assert (info.path / "other.ckpt").read_bytes() == b"PK\x03\x04 anything"
    assert bytes(store.load(info, NUMPY).states["other.ckpt"]) == b"PK\x03\x04 anything"  # type: ignore[call-overload]
    assert store.verify(info) == []


def test_a_raw_file_is_verified_before_anybody_sees_it(tmp_path: Path) -> None:
    """One flipped bit is found on loading, before the bytes reach whoever would parse them."""
    store = store_at(tmp_path)
    info = store.commit(capture({"other.ckpt": raw(b"0123456789")}, NUMPY), facts(1))
    (info.path / "other.ckpt").write_bytes(b"0123456788")
    with pytest.raises(CheckpointDamagedError, match=r"other\.ckpt is damaged"):
        store.load(info, NUMPY)


def test_a_raw_file_is_staged_in_reused_memory() -> None:
    """A staged snapshot holds a copy, and the next one of the same size uses the same memory."""
    buffers = StagingBuffers(NUMPY)
    first = capture({"other.ckpt": raw(b"first")}, NUMPY).staged(buffers)
    assert bytes(first.objects["other.ckpt"].arrays["raw"].view()) == b"first"
    size = buffers.nbytes
    second = capture({"other.ckpt": raw(b"again")}, NUMPY).staged(buffers)
    assert bytes(second.objects["other.ckpt"].arrays["raw"].view()) == b"again"
    assert buffers.nbytes == size


@pytest.mark.parametrize(
    "name", ["../x.ckpt", "manifest.json", ".hidden.ckpt", "model.safetensors", "noextension"]
)
def test_names_that_could_not_be_a_file_of_their_own_are_refused(tmp_path: Path, name: str) -> None:
    """A raw file never leaves the folder and never takes the place of one of ours."""
    with pytest.raises(CheckpointWriteError, match="not a valid file name"):
        store_at(tmp_path).commit(capture({name: raw(b"x")}, NUMPY), facts(1))
    assert not list(tmp_path.glob("step-*"))


def test_a_file_that_is_hardly_there_is_not_read_to_its_end(tmp_path: Path) -> None:
    """A forged terabyte of holes is refused at once: larger than all memory, and no save leaves holes."""
    path = tmp_path / "model.safetensors"
    with path.open("wb") as file:
        file.truncate(1 << 42)
    with pytest.raises(ValueError, match="only 0 are on the disk"):
        verify_file(path, FileFacts(1 << 42, "0" * 32))
