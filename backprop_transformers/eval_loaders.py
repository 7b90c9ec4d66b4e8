"""The loaders of evaluations that Trainer keeps (`dataloader_persistent_workers=True`): where their workers are.

Workers that stay draw no new seed when an evaluation begins: their random generators go on where the one before has left
them. A process that resumes makes them again, and has them go on there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch

from backprop_torch.pass_workers import STAYING_CAVEAT
from backprop_torch.staying_workers import has_workers_that_stay, make_workers_that_stay
from backprop_torch.worker_states import made_noting, workers_between_passes


class EvalLoaders:
    """Those of one Trainer.

    Attributes:
        say: tells the user, once, what of them does not come back.
    """

    def __init__(self, trainer: Any) -> None:
        self._trainer = trainer
        self._watched: list[Any] = []
        self._earlier: dict[str, Any] = {}
        self.say: Callable[[str], None] = lambda text: None

    def _kept(self) -> dict[str, Any]:
        """The loaders that Trainer keeps, by its own names for them."""
        kept = getattr(self._trainer, "_eval_dataloaders", {})
        loaders = {name: getattr(loader, "base_dataloader", loader) for name, loader in kept.items()}
        return {name: loader for name, loader in loaders.items() if has_workers_that_stay(loader)}

    def made(self) -> None:
        """Trainer may have made one: it is watched before an evaluation begins a pass over it."""
        for name, loader in self._kept().items():
            if loader._iterator is not None or any(loader is one for one in self._watched):
                continue
            self._watch(loader)
            if name in self._earlier and not _made_again(loader, self._earlier.pop(name)):
                self.say(STAYING_CAVEAT)

    def _watch(self, loader: Any) -> None:
        kind = type(loader)
        if not hasattr(kind, "_backprop_original"):
            loader.__class__ = _noting(kind)
            self._watched.append(loader)

    def uninstall(self) -> None:
        """They are what they were."""
        for loader in self._watched:
            loader.__class__ = getattr(type(loader), "_backprop_original", type(loader))
        self._watched.clear()

    def workers(self) -> dict[str, Any]:
        """Where the workers are that stay."""
        running = {name: one for name, one in self._kept().items() if one._iterator is not None}
        return {
            **self._earlier,
            **{name: workers_between_passes(one, left_early=True) for name, one in running.items()},
        }

    def put_workers(self, saved: Mapping[str, Any]) -> None:
        """What `workers` told: they are made when Trainer makes their loader."""
        self._earlier = dict(saved)


def _made_again(loader: Any, state: Any) -> bool:
    generator: torch.Generator | None = loader.generator
    before = None if generator is None else generator.get_state()
    made = make_workers_that_stay(loader, state)
    if generator is not None and before is not None:
        generator.set_state(before)
    return made


def _noting(kind: type) -> type:
    def begin(self: Any) -> Any:
        return made_noting(kind.__iter__, self)  # type: ignore[attr-defined]

    parts = {"__iter__": begin, "_backprop_original": kind, "__module__": kind.__module__}
    return type(kind.__name__, (kind,), parts)
