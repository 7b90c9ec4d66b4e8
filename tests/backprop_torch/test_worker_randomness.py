"""Where bits cannot be promised it is said once, and `replay=True` makes them exact."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader

from tests.backprop_torch.cutting import Cut, digest, seed
from tests.backprop_torch.kinds._parts import fit
from tests.backprop_torch.kinds.loaders import _Augmented


def _train(cut: Cut, *, replay: bool) -> dict[str, Any]:
    seed(cut.piece)
    loader = DataLoader(_Augmented(), batch_size=5, shuffle=True, num_workers=2)
    return fit(cut, loader, epochs=2, replay=replay)


@pytest.mark.parametrize("replay", [False, True])
def test_random_augmentation_in_workers(
    replay: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Without replay it says so, once, on the resume alone; with replay the bits are those of the uncut training."""
    monkeypatch.setenv("BACKPROP_HOME", str(tmp_path))
    torch.set_num_threads(1)
    whole = digest(_train(Cut("whole"), replay=replay))
    _train(Cut("cut", 5, "ctrl-c"), replay=replay)
    assert "(augmentation)" not in capfd.readouterr().err
    resumed = digest(_train(Cut("cut", piece=1), replay=replay))
    assert capfd.readouterr().err.count("(augmentation)") == (0 if replay else 1)
    assert (resumed == whole) is replay
