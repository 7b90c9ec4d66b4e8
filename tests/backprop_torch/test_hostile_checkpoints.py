"""A checkpoint that was tampered with is refused loudly, the one before is used, and nothing in it is executed."""

from __future__ import annotations

import json
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import backprop
from tests.backprop_torch.cutting import Cut
from tests.backprop_torch.kinds.loaders import shuffled


class _Bomb:
    """Makes a file when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.marker),)


def _pickle_for_weights(folder: Path, marker: Path) -> None:
    (folder / "model.safetensors").write_bytes(pickle.dumps(_Bomb(marker)))


def _pickle_beside(folder: Path, marker: Path) -> None:
    torch.save(_Bomb(marker), folder / "optimizer.json")


def _manifest_outside(folder: Path, marker: Path) -> None:
    (folder.parent.parent / "evil.safetensors").write_bytes((folder / "model.safetensors").read_bytes())
    path = folder / "manifest.json"
    path.write_text(path.read_text(encoding="utf-8").replace("model.safetensors", "../../evil.safetensors"))


def _changed_byte(folder: Path, marker: Path) -> None:
    path = folder / "model.safetensors"
    data = bytearray(path.read_bytes())
    data[-3] ^= 1
    path.write_bytes(data)


def _changed_tree(folder: Path, marker: Path) -> None:
    path = folder / "losses.json"
    data = bytearray(path.read_bytes())
    last = max(position for position, byte in enumerate(data) if chr(byte).isdigit())
    data[last] ^= 1  # another digit: 0 and 1, 2 and 3, ... differ in this bit
    path.write_bytes(data)


@pytest.fixture
def two_checkpoints(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The checkpoints of a run that was stopped at step 4 and at step 9, the older first."""
    monkeypatch.setenv("BACKPROP_HOME", str(tmp_path / "home"))
    shuffled(Cut("hostile", 4, "ctrl-c"))
    shuffled(Cut("hostile", 8, "ctrl-c"))
    folders = sorted((tmp_path / "home" / "runs" / "hostile" / "checkpoints").glob("step-*"))
    assert len(folders) == 2
    return folders


@pytest.mark.parametrize(
    "tamper", [_pickle_for_weights, _pickle_beside, _manifest_outside, _changed_byte, _changed_tree]
)
def test_a_tampered_checkpoint_is_left_out_loudly_and_nothing_is_executed(
    two_checkpoints: list[Path],
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    tamper: Callable[[Path, Path], None],
) -> None:
    """The box says so, restores the older one, and ends with the bits of the uncut training."""
    older, newer = two_checkpoints
    marker = tmp_path / "executed"
    tamper(newer, marker)
    cut = Cut("hostile")
    capfd.readouterr()
    made = shuffled(cut)
    said = capfd.readouterr().err
    assert cut.opened is not None
    assert cut.opened.resumed_from == older
    assert newer.name in said
    assert "damaged" in said
    assert not marker.exists()
    assert len(made["losses"]) == 27


def test_asked_for_by_path_a_tampered_checkpoint_is_refused(
    two_checkpoints: list[Path], tmp_path: Path
) -> None:
    """`resume=<path>` of a damaged checkpoint is an error, not a silent choice of another."""
    _pickle_for_weights(two_checkpoints[1], tmp_path / "executed")
    with (
        pytest.raises(backprop.CheckpointDamagedError),
        backprop.timebox(resume=two_checkpoints[1], losses=[]),
    ):
        pytest.fail("the block was entered")
    assert not (tmp_path / "executed").exists()


def test_a_manifest_may_not_name_a_file_outside_even_with_the_right_digest(
    two_checkpoints: list[Path], tmp_path: Path
) -> None:
    """A path that leads out of the folder is refused before anything is read."""
    newer = two_checkpoints[1]
    manifest = json.loads((newer / "manifest.json").read_text(encoding="utf-8"))
    text = json.dumps(manifest).replace('"model.safetensors"', f'"{tmp_path / "model.safetensors"}"')
    (tmp_path / "model.safetensors").write_bytes((newer / "model.safetensors").read_bytes())
    (newer / "manifest.json").write_text(text, encoding="utf-8")
    with pytest.raises(backprop.CheckpointDamagedError), backprop.timebox(resume=newer, losses=[]):
        pytest.fail("the block was entered")
