"""What a script changes while a Trainer trains: attributes of a Trainer of its own, callbacks and the model, its globals,
and the locals of its functions around `train`.

Beside these the step by which accelerate counts its accumulation windows, which no checkpoint of its own holds.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection, Sequence
from typing import Any

from accelerate.optimizer import AcceleratedOptimizer
from accelerate.scheduler import AcceleratedScheduler
from torch import nn

from backprop_core.checkpoints.arrays import Translator
from backprop_core.loop.trainer_frames import TrainerFrames
from backprop_core.ports.framework import groups_in
from backprop_core.script_state.attributes import attributes_of
from backprop_core.script_state.namespace import InstanceNamespace
from backprop_core.script_state.object_watch import ObjectWatch, callbacks_by_name, package_of
from backprop_core.script_state.state import Root
from backprop_torch.framework import TorchFramework
from backprop_torch.script_parts import is_looked_into

_PACKAGES = frozenset({"transformers", "accelerate", "tokenizers"})
_TRAIN = TrainerFrames(("transformers.trainer",), "train")
_STORED = frozenset(
    {"state", "control", "callback_handler", "model", "model_wrapped", "optimizer", "lr_scheduler", "accelerator", "args",
     "_tr_loss", "_total_loss_scalar", "_globalstep_last_logged", "_initial_global_step", "current_flos",
     "_created_lr_scheduler", "_memory_tracker", "is_in_train", "_train_batch_size", "data_collator", "processing_class",
     "train_dataset"}
)  # fmt: skip
"""Attributes of a Trainer that the checkpoint has in other places, or that a new attempt has of its own."""


class TrainerScriptWatch(ObjectWatch):
    """The state of the script around one training.

    Attributes:
        of_loader: tells what is kept with the loader, by identity: a pass begins with the state of its beginning, so this is
            not to be put back before.
    """

    def __init__(self, trainer: Any, framework: TorchFramework, translators: Sequence[Translator]) -> None:
        self._trainer = trainer
        self._framework = framework
        self._stored: Callable[[object], bool] = lambda value: False
        self.of_loader: Callable[[], Collection[int]] = tuple
        self._parts: Collection[int] = ()
        super().__init__(self._roots, self._is_stored, [framework], translators, self._look_again)

    def _roots(self) -> Sequence[Root]:
        trainer = self._trainer
        accelerator = trainer.accelerator
        others = frozenset(name for name, _ in attributes_of(accelerator)) - {"step"}
        gathers = frozenset({"gather_function"} if gathers_as_evaluated(trainer) is not None else ())
        evaluated = trainer.eval_dataset
        if any(package_of(one) == "datasets" for one in (evaluated, *_members(evaluated))):
            gathers |= {"eval_dataset"}  # tables, and streams that keep their own places
        return [
            InstanceNamespace(trainer, "trainer", skip=_STORED | gathers),
            ("model", trainer.model),
            *callbacks_by_name(trainer.callback_handler.callbacks, lambda one: not is_theirs(one)),
            *((name, one) for name, one in self._optimizing().items() if is_looked_into(one)),
            InstanceNamespace(accelerator, "accelerator", skip=others),
            *_TRAIN.namespaces(),
            *groups_in([self._framework], {"optimizer": plain(trainer.optimizer)}),
        ]

    def _look_again(self) -> None:
        trainer = self._trainer
        self._parts = frozenset(self.of_loader())
        self._stored = self._framework.stored_with({"model": trainer.model, **self._optimizing()})

    def _optimizing(self) -> dict[str, Any]:
        return {"optimizer": plain(self._trainer.optimizer), "scheduler": plain(self._trainer.lr_scheduler)}

    def _is_stored(self, value: object) -> bool:
        """Whether the checkpoint has it in other ways, or it is a part of transformers and no state of the script's."""
        trainer = self._trainer
        if value is trainer:  # a root, without what is Trainer's own
            return True
        if (
            value is trainer.data_collator or value is trainer.train_dataset
        ):  # kept with the loader, batch for batch
            return True
        if id(value) in self._parts:
            return True
        return self._stored(value) or (is_theirs(value) and not issubclass(type(value), nn.Module))


def _members(value: object) -> Collection[object]:
    return value.values() if isinstance(value, dict) else ()


def plain(value: Any) -> Any:
    """An optimizer or a schedule, out of accelerate's wrapper; the script's own may have such attributes, too."""
    if isinstance(value, AcceleratedOptimizer):
        return value.optimizer
    return value.scheduler if isinstance(value, AcceleratedScheduler) else value


def gathers_as_evaluated(trainer: Any) -> bool | None:
    """Whether its `gather_function` is what Trainer puts there behind its first evaluation, and not what it began with.

    None: it is neither, but the script's own.
    """
    function, after = getattr(trainer, "gather_function", None), trainer.accelerator.gather_for_metrics
    if function == after:
        return True
    return False if isinstance(function, functools.partial) and function.func == after else None


def is_theirs(value: object) -> bool:
    """Whether it is a part of transformers or accelerate."""
    return package_of(value) in _PACKAGES
