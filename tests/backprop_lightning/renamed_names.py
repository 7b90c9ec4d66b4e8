"""An unmodified training where one name of Lightning is another, or one method of ours fails: `python -m … PACKAGE`."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import sys
import tempfile
import warnings
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import torch

from tests.governed import governed
from tests.renaming import hidden, renamed

PACKAGE = sys.argv[1]
FAMILY = (
    ("lightning.pytorch", "lightning.fabric")
    if PACKAGE.startswith("lightning.")
    else (PACKAGE, "lightning_fabric")
)
SHARED = {"_iterator", "teardown"}
"""Names that torch's loaders, and hooks of users, have as well."""
pl = import_module(PACKAGE)


class Net(pl.LightningModule):  # type: ignore[misc,name-defined]
    """The smallest training with a validation."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(2, 1)

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        loss = self.layer(batch).square().sum()
        self.log("loss", loss, on_epoch=True)
        return loss

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.log("val", self.layer(batch).sum())

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.01)


def trained() -> tuple[list[float], str]:
    """The final weights, and what was said."""
    torch.manual_seed(0)
    module, said = Net(), io.StringIO()
    data = torch.utils.data.DataLoader(torch.arange(16.0).reshape(8, 2), batch_size=2, shuffle=True)
    with contextlib.redirect_stderr(said):
        made = pl.Trainer(
            max_epochs=2, logger=False, enable_checkpointing=False, enable_progress_bar=False,
            enable_model_summary=False, num_sanity_val_steps=0,
        )  # fmt: skip
        made.fit(module, data, data)
    return module.layer.weight.flatten().tolist(), said.getvalue()


def declared() -> list[str]:
    from backprop_lightning import needs

    groups = (needs.OF_A_TRAINER, needs.OF_THE_PACKAGE, needs.OF_A_COMBINED_LOADER)
    return sorted({name for group in groups for need in group for name in need.names})


def failures() -> dict[str, Any]:
    """One method of our own that fails in the middle of the training, from its second call on."""
    from backprop_core.session.session import Session
    from backprop_lightning.boundaries import TrainingLoop
    from backprop_lightning.patches import Doors
    from backprop_lightning.training import BoxedFit
    from backprop_lightning.training_state import LightningTrainee

    broken = [
        (TrainingLoop, "_before_batch", 2), (TrainingLoop, "_behind_batch", 2), (TrainingLoop, "_watch_loaders", 1),
        (TrainingLoop, "within_validation", 1), (TrainingLoop, "install", 1), (Doors, "open_doors", 1),
        (BoxedFit, "listen", 1), (BoxedFit, "completed", 1), (LightningTrainee, "states", 1), (Session, "boundary", 3),
    ]  # fmt: skip
    return {f"{kind.__name__}.{name}": failing(kind, name, call) for kind, name, call in broken}


@contextlib.contextmanager
def failing(kind: type, name: str, call: int) -> Iterator[int]:
    original, calls = vars(kind)[name], []

    def method(*args: Any, **kwargs: Any) -> Any:
        calls.append(name)
        if len(calls) == call:
            raise ZeroDivisionError("a fault of ours")
        return original(*args, **kwargs)

    setattr(kind, name, method)
    try:
        yield 1
    finally:
        setattr(kind, name, original)


def main() -> None:
    warnings.simplefilter("ignore")
    for name in ("pytorch_lightning", "lightning"):
        logging.getLogger(name).setLevel(logging.ERROR)
    whole = trained()[0]
    told: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        changes = {
            name: hidden(name) if name in SHARED else renamed(FAMILY, name) for name in declared()
        } | failures()
        for number, (name, change) in enumerate(changes.items()):
            with governed(Path(folder), f"run-{number}", framework="lightning"), change as places:
                try:
                    weights, said = trained()
                except Exception as error:
                    told[name] = {"error": f"{type(error).__name__}: {error}"}
                    continue
            lines = [line for line in said.splitlines() if line.startswith("backprop:")]
            told[name] = {"places": places, "same": weights == whole, "said": lines}
    print(json.dumps(told))


if __name__ == "__main__":
    main()
