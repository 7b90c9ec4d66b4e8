"""The state of a fit whose strategy spreads model and optimizers over ranks: `ModelParallelStrategy`, with FSDP2 or tensor
parallelism.

Lightning would put all of it into a distributed checkpoint of torch's, whose metadata is a pickle. Here each rank writes
what it holds, as for a plain loop: weights and optimizers become objects of the checkpoint, `lightning.ckpt` has the rest.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch.optim import Optimizer

from backprop_core.checkpoints.shards import SHARDS, SavedShards, Shards
from backprop_core.ports.patches import Patches
from backprop_lightning import checkpoint_file
from backprop_torch.framework import TorchFramework
from backprop_torch.objects import OptimizerTracked
from backprop_torch.sharded import is_spread

MODEL = "model"
_OPTIMIZER = "optimizer"
_MODULE_REST = "module"
"""Where a rank's own part keeps what the `state_dict` of its module lacks: gradients, for one."""


class ShardedState:
    """Takes the state of one Trainer whose strategy shards it, and puts it back.

    Attributes:
        shards: what this rank held of the state that was divided last.
    """

    def __init__(self, trainer: Any, framework: TorchFramework) -> None:
        self._trainer = trainer
        self._framework = framework
        self.shards: Shards = {}

    # -- taking ------------------------------------------------------------------------------------------------

    def dumped(self) -> dict[str, Any]:
        """Lightning's checkpoint over the live shards: nothing is gathered, and no optimizer steps for its state."""
        patches, strategy = Patches(), self._trainer.strategy
        patches.replace(strategy, "lightning_module_state_dict", self.weights)
        patches.replace(strategy, "optimizer_state", _optimizer_state)
        try:
            checkpoint: dict[str, Any] = self._trainer._checkpoint_connector.dump_checkpoint(False)
        finally:
            patches.give_all_back()
        return checkpoint

    def weights(self) -> dict[str, Any]:
        """The module's `state_dict`, by the names that Lightning gives them."""
        from torch.distributed.checkpoint.state_dict import get_model_state_dict

        return dict(get_model_state_dict(self._trainer.strategy.model))

    def divided(self, checkpoint: Mapping[str, Any], own_name: str, own: object) -> dict[str, Any]:
        """The objects of a checkpoint, with marks for what is spread; this rank's blocks are in `shards`.

        Args:
            own_name: of what each rank has of its own.

        Raises:
            UnsavableStateError: a tensor whose parts are yet to be summed up.
        """
        rest, self.shards = self._framework.divided({**_apart(checkpoint), own_name: own})
        return dict(rest)

    def tensors(self) -> list[Any]:
        """This rank's blocks of the parameters; between two forwards, on all ranks."""
        held: dict[str, Any] = self._trainer.lightning_module.state_dict()
        return [_local(value) for value in held.values() if isinstance(value, torch.Tensor)]

    # -- putting back ------------------------------------------------------------------------------------------

    def load(self, weights: Mapping[str, Any], optimizers: list[Any], strict: bool) -> None:
        """In place of a strategy's loading.

        Args:
            strict: as `LightningModule.strict_loading`.
        """
        from torch.distributed.checkpoint.state_dict import StateDictOptions, set_model_state_dict

        model = self._trainer.strategy.model
        set_model_state_dict(model, dict(weights), options=StateDictOptions(strict=strict))
        for optimizer, state in zip(self._trainer.optimizers, optimizers, strict=False):
            OptimizerTracked(optimizer).restore(state)

    def as_here(self, own_name: str) -> tuple[dict[str, Any], dict[str, Any]]:
        """The states as they lie on this rank, and the optimizers they belong to."""
        module, optimizers = self._trainer.lightning_module, self._trainer.optimizers
        states: dict[str, Any] = {MODEL: self.weights()}
        states[own_name] = {
            _MODULE_REST: {
                "gradients": dict(module.named_parameters()),
                "buffers": dict(module.named_buffers()),
            }
        }
        objects = {_optimizer_name(number): one for number, one in enumerate(optimizers)}
        return {**states, **{name: one.state_dict() for name, one in objects.items()}}, dict(objects)


def is_sharded(states: Mapping[str, Any]) -> bool:
    """Whether a loaded checkpoint was made by a strategy that shards."""
    return MODEL in states


def joined(
    checkpoint: dict[str, Any],
    own: Mapping[str, Any],
    states: Mapping[str, Any],
    framework: TorchFramework,
    here: ShardedState | None,
    own_name: str,
) -> tuple[dict[str, Any], Mapping[str, Any]]:
    """Lightning's checkpoint, and what a rank has of its own, with tensors as this rank holds them, whoever saved them.

    Args:
        checkpoint: `lightning.ckpt`, which has all of it where no strategy sharded it.
        own: what this rank takes over of its own.
        states: the loaded checkpoint.
        here: this fit's, if it shards.

    Raises:
        StateMismatchError: a part of a tensor is missing.
    """
    saved = {name: states[name] for name in states if name == MODEL or name.startswith(_OPTIMIZER)}
    objects: dict[str, Any] = {**_apart(checkpoint), **saved, own_name: own}
    shards = states.get(SHARDS)
    likes, owners = ({}, {}) if here is None else here.as_here(own_name)
    found = framework.united(objects, shards if isinstance(shards, SavedShards) else None, likes, owners)
    rest = dict(found[checkpoint_file.NAME])
    rest["state_dict"] = found[MODEL]
    rest["optimizer_states"] = [
        found[name] for name in sorted(found, key=_number) if name.startswith(_OPTIMIZER)
    ]
    return rest, found[own_name]


def _apart(checkpoint: Mapping[str, Any]) -> dict[str, Any]:
    """Weights and optimizers as objects of their own, beside the rest."""
    rest = dict(checkpoint)
    objects: dict[str, Any] = {MODEL: rest.pop("state_dict", {})}
    for number, state in enumerate(rest.pop("optimizer_states", [])):
        objects[_optimizer_name(number)] = state
    return {**objects, checkpoint_file.NAME: rest}


def _local(tensor: Any) -> Any:
    return tensor.to_local() if is_spread(tensor) else tensor


def _optimizer_name(number: int) -> str:
    return f"{_OPTIMIZER}-{number}" if number else _OPTIMIZER


def _number(name: str) -> int:
    """Of an optimizer, by its name."""
    return int(name.rpartition("-")[2]) if name.startswith(f"{_OPTIMIZER}-") else 0


def _optimizer_state(optimizer: Any) -> Any:
    inner = getattr(optimizer, "_optimizer", optimizer)
    assert isinstance(inner, Optimizer)
    return inner.state_dict()
