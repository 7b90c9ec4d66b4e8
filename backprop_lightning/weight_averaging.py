"""StochasticWeightAveraging arranges itself at the start of an epoch, which for a resumed epoch does not come again."""

from __future__ import annotations

import copy
from typing import Any


def arrange_again(trainer: Any) -> None:
    """Let it arrange itself (its scheduler, the pass for batch norm), and undo what that does to weights and rates.

    To be called in the middle of the resumed epoch, after everything else was put back.
    """
    for callback in trainer.callbacks:
        if any(kind.__name__ == "StochasticWeightAveraging" for kind in type(callback).__mro__):
            _arrange(trainer, callback)


def _arrange(trainer: Any, callback: Any) -> None:
    module = trainer.lightning_module
    if callback._initialized or callback._scheduler_state is None:
        return
    weights = copy.deepcopy(module.state_dict())
    groups = [
        [{k: copy.deepcopy(v) for k, v in group.items() if k != "params"} for group in optimizer.param_groups]
        for optimizer in trainer.optimizers
    ]
    epoch = trainer.current_epoch
    if epoch > callback.swa_end:  # the first part of its hook is for the epochs before
        epoch_progress = trainer.fit_loop.epoch_progress.current
        epoch_progress.completed = callback.swa_end
        callback.on_train_epoch_start(trainer, module)
        epoch_progress.completed = epoch
    callback.on_train_epoch_start(trainer, module)
    module.load_state_dict(weights)
    for optimizer, saved in zip(trainer.optimizers, groups, strict=True):
        for group, values in zip(optimizer.param_groups, saved, strict=True):
            group.update(values)
