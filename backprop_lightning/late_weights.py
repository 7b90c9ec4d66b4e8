"""Weights and optimizers that do not fit where Lightning loads them: a hook that prunes, adds a layer or a group of
parameters may not have run yet, or will not run again.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from backprop_core.errors import StateMismatchError
from backprop_core.script_state.state import has_parts
from backprop_lightning.script_watch import LightningScriptWatch
from backprop_torch.objects import OptimizerTracked
from backprop_torch.same_groups import groups_stay


class LateWeights:
    """What of Lightning's checkpoint is put back once more when every hook of the start has run.

    Args:
        ours: Lightning's part of the checkpoint.
        part: our own, of this rank.
    """

    def __init__(self, trainer: Any, ours: Mapping[str, Any], part: Mapping[str, Any]) -> None:
        self._trainer = trainer
        self._ours = ours
        self._pruned: Mapping[str, Mapping[str, Any]] = part.get("pruned", {})
        self._script: Any = part.get("script")
        self._weights: tuple[dict[str, Any], bool] | None = None
        self._optimizers: list[Any] | None = None

    def load_weights(self, strict: bool) -> None:
        """In Lightning's place: where they do not fit, as much of them as there is a place for."""
        strategy, unfit = self._trainer.strategy, False
        try:
            type(strategy).load_model_state_dict(strategy, self._ours, strict=strict)
        except RuntimeError:
            unfit = True
        if unfit or has_parts(self._script):
            self._weights = self._as_they_were_trained(), strict

    def load_optimizers(self) -> None:
        """In Lightning's place."""
        strategy, unfit = self._trainer.strategy, self._mismatch() is not None
        if not unfit:
            with groups_stay(self._trainer.optimizers):
                type(strategy).load_optimizer_state_dict(strategy, self._ours)
        if unfit or self._weights is not None:
            self._optimizers = list(self._ours["optimizer_states"])

    @property
    def is_needed(self) -> bool:
        """Whether something is to be loaded once more."""
        return self._weights is not None or self._optimizers is not None

    def load(self, script: LightningScriptWatch) -> None:
        """All that is late, behind what the script's own state tells of layers and groups.

        Raises:
            StateMismatchError: it does not fit now either.
        """
        script.restore(self._script)
        strategy = self._trainer.strategy
        if self._weights is not None:
            weights, strict = self._weights
            try:
                type(strategy).load_model_state_dict(strategy, {"state_dict": weights}, strict=strict)
            except RuntimeError as error:
                raise _does_not_fit(" ".join(str(error).split())) from None
        if self._optimizers is not None:
            if (why := self._mismatch()) is not None:
                raise _does_not_fit(f"what was saved as the optimizer {why}.")
            with groups_stay(self._trainer.optimizers):
                type(strategy).load_optimizer_state_dict(strategy, {"optimizer_states": self._optimizers})

    def _mismatch(self) -> str | None:
        """Why an optimizer cannot take its state."""
        saved = self._ours.get("optimizer_states", ()) if self._optimizers is None else self._optimizers
        for optimizer, state in zip(self._trainer.optimizers, saved, strict=False):
            if hasattr(optimizer, "param_groups") and isinstance(state, Mapping):
                why = OptimizerTracked(optimizer).mismatch(state)
                if why is not None:
                    return why
        return None

    def _as_they_were_trained(self) -> dict[str, Any]:
        """Lightning's `ModelPruning` saves pruned weights as if that were for good."""
        weights = dict(self._ours["state_dict"])
        for path, tensors in self._pruned.items():
            if weights.pop(path, None) is not None:
                weights |= {f"{path}_{name}": tensor for name, tensor in tensors.items()}
        return weights


def _does_not_fit(why: str) -> StateMismatchError:
    return StateMismatchError(
        f"The checkpoint does not fit this script: {why}",
        "Run the script as it was, or start from scratch with resume=False (a new run).",
    )
