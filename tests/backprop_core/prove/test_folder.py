"""The folder of a proof, and those that were left behind."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest

from backprop_core.prove.folder import ProofFolder, remove_left_behind


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def test_a_folder_in_use_is_left_alone(temporary: Path) -> None:
    """Another proof on the same machine does not lose its folder, and its end leaves nothing."""
    folder = ProofFolder()
    assert remove_left_behind() == []
    assert folder.path.is_dir()
    assert folder.remove()
    assert not list(temporary.iterdir())


def test_a_folder_that_a_process_of_the_proof_still_has_is_left_alone() -> None:
    """The proof is gone and one of its processes is not: it may write into the folder."""
    folder = ProofFolder()
    inherited = os.dup(folder.lock)
    os.close(folder.lock)
    assert remove_left_behind() == []
    os.close(inherited)
    assert remove_left_behind() == [folder.path]
    assert not folder.path.exists()


def test_what_is_not_a_proofs_folder_is_left_alone(temporary: Path) -> None:
    """A name that begins alike is not enough, nor is a link to a folder with a lock."""
    (temporary / "backprop-prove-notes").mkdir()
    other = temporary / "other"
    other.mkdir()
    (other / "lock").touch()
    (temporary / "backprop-prove-link").symlink_to(other)
    assert remove_left_behind() == []
    assert (other / "lock").exists()
