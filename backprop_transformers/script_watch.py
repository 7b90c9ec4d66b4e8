"""What a script's own classes change while a Trainer trains: a Trainer of its own, callbacks, the model.

Beside these the step by which accelerate counts its accumulation windows, which no checkpoint of its own holds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import nn

from backprop_core.checkpoints.arrays import Translator
from backprop_core.script_state.arrays import copied
from backprop_core.script_state.attributes import attributes_of
from backprop_core.script_state.namespace import InstanceNamespace
from backprop_core.script_state.state import Missing, Root, ScriptState, Unkept
from backprop_torch.framework import TorchFramework

_PACKAGES = frozenset({"transformers", "accelerate", "tokenizers"})
_STORED = frozenset(
    {"state", "control", "callback_handler", "model", "model_wrapped", "optimizer", "lr_scheduler", "accelerator", "args",
     "_tr_loss", "_total_loss_scalar", "_globalstep_last_logged", "_initial_global_step", "current_flos",
     "_created_lr_scheduler", "_memory_tracker", "is_in_train", "_train_batch_size", "data_collator", "processing_class",
     "train_dataset", "eval_dataset"}
)  # fmt: skip
"""Attributes of a Trainer that the checkpoint has in other places, or that a new attempt has of its own."""


class TrainerScriptWatch:
    """The state of one training's own classes."""

    def __init__(self, trainer: Any, framework: TorchFramework, translators: Sequence[Translator]) -> None:
        self._trainer = trainer
        self._framework = framework
        self._stored: Callable[[object], bool] = lambda value: False
        self.state = ScriptState(
            self._roots, tracked_elsewhere=self._is_stored, frameworks=[framework], translators=translators
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

    def _callbacks(self) -> list[tuple[str, Any]]:
        named, count = [], dict[str, int]()
        for callback in self._trainer.callback_handler.callbacks:
            name = type(callback).__name__
            count[name] = count.get(name, 0) + 1
            name = f"callback {name}" if count[name] == 1 else f"callback {name} {count[name]}"
            if not is_theirs(callback):
                named.append((name, callback))
        return named

    def _roots(self) -> Sequence[Root]:
        trainer = self._trainer
        accelerator = trainer.accelerator
        others = frozenset(name for name, _ in attributes_of(accelerator)) - {"step"}
        return [
            InstanceNamespace(trainer, "trainer", skip=_STORED),
            ("model", trainer.model),
            *self._callbacks(),
            InstanceNamespace(accelerator, "accelerator", skip=others),
        ]

    def _refresh(self) -> None:
        trainer = self._trainer
        self._stored = self._framework.stored_with(
            {"model": trainer.model, "optimizer": trainer.optimizer, "scheduler": trainer.lr_scheduler}
        )

    def _is_stored(self, value: object) -> bool:
        """Whether the checkpoint has it in other ways, or it is a part of transformers and no state of the script's."""
        trainer = self._trainer
        if (
            value is trainer.data_collator or value is trainer.train_dataset
        ):  # kept with the loader, batch for batch
            return True
        return self._stored(value) or (is_theirs(value) and not issubclass(type(value), nn.Module))


def is_theirs(value: object) -> bool:
    """Whether it is a part of transformers or accelerate."""
    module = type.__dict__["__module__"].__get__(type(value))
    return isinstance(module, str) and module.partition(".")[0] in _PACKAGES
