"""A strategy that is known to be saved and resumed as it is has a box; any other is refused before the first step."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from lightning.pytorch.strategies import DeepSpeedStrategy, FSDPStrategy
from safetensors.torch import load_file

from backprop_core.checkpoints.store import open_store
from backprop_core.clock import SYSTEM
from backprop_core.errors import UsageError
from backprop_core.export import export_checkpoint
from backprop_lightning.strategies import check_strategy
from tests.backprop_torch.cutting import environment

SCRIPT = Path(__file__).with_name("sharded_fit.py")


@pytest.mark.parametrize("kind", [FSDPStrategy, DeepSpeedStrategy])
def test_a_strategy_with_a_state_of_its_own_on_each_rank_is_refused_in_one_sentence(kind: type) -> None:
    """One of the script's own, made from it, is refused by the name that Lightning gives."""
    scripts_own = type("Mine", (kind,), {"__module__": "script"})
    trainer = SimpleNamespace(strategy=scripts_own.__new__(scripts_own))
    with pytest.raises(UsageError, match=rf"{kind.__name__} cannot be saved and resumed"):
        check_strategy(trainer)


@pytest.mark.timeout(300)
@pytest.mark.long
def test_a_fit_with_a_sharding_strategy_is_saved_and_exported(tmp_path: Path) -> None:
    """Each rank writes a part; put together, it is what the module's own state dict names."""
    trained = subprocess.run(
        [sys.executable, str(SCRIPT), "box"], env=environment(tmp_path), capture_output=True, text=True, check=False
    )  # fmt: skip
    assert trained.returncode == 0, trained.stderr[-3000:]
    assert "trained 20 steps" in trained.stdout
    store = open_store(tmp_path / "home" / "runs" / "one" / "checkpoints", clock=SYSTEM)
    (info,) = store.list()
    assert (info.path / "rank-00000" / "model.shards.safetensors").exists()
    assert store.verify(info) == []
    export_checkpoint(info, tmp_path / "exported")
    assert load_file(tmp_path / "exported" / "model.safetensors").keys() == {"layer.weight", "layer.bias"}
