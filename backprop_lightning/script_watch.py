"""What a Lightning script's own classes change while they train: attributes of the module, the DataModule and the callbacks.

Remembered before the first epoch begins, so that what `on_train_epoch_start` makes, which Lightning does not call for an
epoch that is resumed, comes back with the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from backprop_core.checkpoints.arrays import Translator
from backprop_core.script_state.arrays import copied
from backprop_core.script_state.state import Missing, Root, ScriptState, Unkept
from backprop_torch.framework import TorchFramework

_PACKAGES = ("lightning", "pytorch_lightning", "lightning_fabric", "lightning_utilities")


_INTERNAL = frozenset(
    {"_trainer", "_fabric", "_fabric_optimizers", "_current_fx_name", "_metric_attributes", "_compiler_ctx",
     "_device_mesh", "_dtype", "_device", "_param_requires_grad_state"}
)  # fmt: skip
"""What Lightning keeps on a module for itself, some of it by the addresses of objects in this process."""


class _LightningFramework(TorchFramework):
    """torch's, without what Lightning keeps on its modules for itself."""

    def script_parts(self, kind: type) -> frozenset[str] | None:
        parts = super().script_parts(kind)
        return None if parts is None else parts | _INTERNAL


class LightningScriptWatch:
    """The state of one fit's own classes."""

    def __init__(self, trainer: Any, translators: Sequence[Translator]) -> None:
        self._trainer = trainer
        self._framework = _LightningFramework()
        self._stored: Callable[[object], bool] = lambda value: False
        self.state = ScriptState(
            self._roots,
            tracked_elsewhere=self._is_stored,
            frameworks=[self._framework],
            translators=translators,
        )

    def begin(self) -> None:
        """Training is about to begin: remember how things are, once."""
        if not self.state.has_baseline:
            self._refresh()
            self.state.baseline()

    def capture(self) -> Any:
        """What has changed since, as a copy; None before the beginning."""
        if not self.state.has_baseline:
            return None
        self._refresh()
        return copied(self.state.changed())

    def restore(self, saved: Any) -> list[Missing]:
        """Put back what `capture` gave; what could not be. Earlier versions stored nothing of it."""
        if not isinstance(saved, Mapping):
            return []
        self.begin()
        self._refresh()
        return self.state.restore(saved).missing

    def unkept(self) -> list[Unkept]:
        """What had changed when it was last taken, and is not in it."""
        return self.state.unkept()

    def _roots(self) -> Sequence[Root]:
        trainer, roots, count = self._trainer, [], dict[str, int]()
        module = trainer.lightning_module
        roots.append((type(module).__name__, module))
        if trainer.datamodule is not None:
            roots.append((type(trainer.datamodule).__name__, trainer.datamodule))
        for callback in trainer.callbacks:
            name = type(callback).__name__
            count[name] = count.get(name, 0) + 1
            name = f"callback {name}" if count[name] == 1 else f"callback {name} {count[name]}"
            if not is_lightnings(callback):
                roots.append((name, callback))
        return roots

    def _refresh(self) -> None:
        trainer = self._trainer
        optimizers = {f"optimizer {n}": one for n, one in enumerate(trainer.optimizers)}
        schedulers = {f"scheduler {n}": one.scheduler for n, one in enumerate(trainer.lr_scheduler_configs)}
        self._stored = self._framework.stored_with(
            {"module": trainer.lightning_module, **optimizers, **schedulers}
        )

    def _is_stored(self, value: object) -> bool:
        """Whether Lightning's own checkpoint has it, or it is Lightning's: the Trainer, its loops, its loggers."""
        return self._stored(value) or is_lightnings(value)


def is_lightnings(value: object) -> bool:
    """Whether it is a part of Lightning."""
    module = type.__dict__["__module__"].__get__(type(value))
    return isinstance(module, str) and module.partition(".")[0] in _PACKAGES
