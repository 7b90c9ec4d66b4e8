"""What a Lightning script changes while it trains: attributes of the module, the DataModule and the callbacks, its globals,
and the locals of its functions around `fit`.

`on_train_epoch_start` is not called for an epoch that is resumed: what it makes comes back with the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from backprop_core.checkpoints.arrays import Translator
from backprop_core.loop.trainer_frames import TrainerFrames
from backprop_core.ports.framework import groups_in
from backprop_core.script_state.object_watch import ObjectWatch, callbacks_by_name, package_of
from backprop_core.script_state.state import Root
from backprop_torch.framework import TorchFramework
from backprop_torch.script_parts import is_looked_into

_PACKAGES = ("lightning", "pytorch_lightning", "lightning_fabric", "lightning_utilities")
_CALLS_FUNCTIONS = "LambdaCallback"
_FIT = TrainerFrames(("lightning.pytorch.trainer.", "pytorch_lightning.trainer."), "fit")

_INTERNAL = frozenset(
    {"_trainer", "_fabric", "_fabric_optimizers", "_current_fx_name", "_metric_attributes", "_compiler_ctx",
     "_device_mesh", "_dtype", "_device", "_param_requires_grad_state"}
)  # fmt: skip
"""What Lightning keeps on a module for itself, some of it by the addresses of objects in this process."""


class _LightningFramework(TorchFramework):
    """torch's, without what Lightning keeps on its modules for itself."""

    def script_parts(self, kind: type) -> frozenset[str] | None:
        if kind.__name__ == _CALLS_FUNCTIONS and kind.__module__.partition(".")[0] in _PACKAGES:
            return frozenset()  # its `state_dict` knows nothing of the functions
        parts = super().script_parts(kind)
        return None if parts is None else parts | _INTERNAL


class LightningScriptWatch(ObjectWatch):
    """The state of the script around one fit."""

    def __init__(self, trainer: Any, translators: Sequence[Translator]) -> None:
        self._trainer = trainer
        self._framework = _LightningFramework()
        self._stored: Callable[[object], bool] = lambda value: False
        super().__init__(
            self._roots, self._is_stored, [self._framework], translators, self._look_again, self._loaders
        )

    def _roots(self) -> Sequence[Root]:
        trainer = self._trainer
        module, data = trainer.lightning_module, trainer.datamodule
        roots: list[Root] = [(type(module).__name__, module)]
        if data is not None:
            roots.append((type(data).__name__, data))
        roots += callbacks_by_name(trainer.callbacks, lambda one: not is_lightnings(one))
        optimizing = self._optimizing()
        roots += [(name, one) for name, one in optimizing.items() if is_looked_into(one)]
        return [*roots, *_FIT.namespaces(), *groups_in([self._framework], optimizing)]

    def _loaders(self) -> frozenset[int]:
        trainer = self._trainer
        given = (trainer.train_dataloader, trainer.val_dataloaders)
        return frozenset(
            id(one) for held in given for one in (held if isinstance(held, list | tuple) else [held])
        )

    def _look_again(self) -> None:
        self._stored = self._framework.stored_with(
            {"module": self._trainer.lightning_module, **self._optimizing()}
        )

    def _optimizing(self) -> dict[str, Any]:
        trainer = self._trainer
        optimizers = {f"optimizer {n}": one for n, one in enumerate(trainer.optimizers)}
        return optimizers | {
            f"scheduler {n}": one.scheduler for n, one in enumerate(trainer.lr_scheduler_configs)
        }

    def _is_stored(self, value: object) -> bool:
        """Whether Lightning's own checkpoint has it, or it is Lightning's: the Trainer, its loops, its loggers."""
        return value is self._trainer or self._stored(value) or is_lightnings(value)


def is_lightnings(value: object) -> bool:
    """Whether it is a part of Lightning, and not the one callback that calls functions of the script's."""
    return package_of(value) in _PACKAGES and type(value).__name__ != _CALLS_FUNCTIONS
