"""The loaders of a validation: what changes in their parts, and workers that stay from one validation to the next.

A validation that was cut is begun anew, so its place in the data is not kept. Workers that stay draw no new seed when it
begins: their random generators go on where the validation before has left them, and a process that resumes puts them there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from backprop_core.script_state.unkept import Unkept
from backprop_lightning.dataloader_state import CombinedLoaderChange, handing_out
from backprop_lightning.watched_loader import keeps_workers
from backprop_torch.dataloader_state import generators_of
from backprop_torch.loader_state import LoaderState
from backprop_torch.pass_workers import STAYING_CAVEAT
from backprop_torch.staying_workers import has_workers_that_stay, make_workers_that_stay
from backprop_torch.worker_states import made_noting, workers_between_passes


class ValidationLoaders:
    """Those of one Trainer's fit.

    Attributes:
        say: tells the user, once, what of them does not come back.
    """

    def __init__(self, trainer: Any) -> None:
        self._trainer = trainer
        self._parts: list[LoaderState] = []
        self._noted: _WorkersNoted | None = None
        self.say: Callable[[str], None] = lambda text: None

    def _loaders(self) -> list[Any]:
        combined = self._trainer.fit_loop.epoch_loop.val_loop._combined_loader
        return [] if combined is None else list(combined.flattened)

    def watch(self) -> None:
        """They are there. Where they are made again in the middle, each begins with what it is made of."""
        again, loaders = self._trainer.reload_dataloaders_every_n_epochs, self._loaders()
        self._parts = [] if again else [generators_of(one) for one in loaders]
        if any(has_workers_that_stay(one) for one in loaders):
            self._note_workers(self._trainer.fit_loop.epoch_loop.val_loop._combined_loader)

    def _note_workers(self, combined: Any) -> None:
        if self._noted is None or self._noted.combined is not combined:
            self.uninstall()
            self._noted = _WorkersNoted(combined)
            self._noted.install()

    def uninstall(self) -> None:
        """They are what they were."""
        if self._noted is not None:
            self._noted.uninstall()
            self._noted = None

    def unkept(self) -> list[Unkept]:
        """What of their parts had changed when it was last told, and cannot be kept."""
        return [kept for one in self._parts for kept in one.unkept()]

    def parts(self) -> list[object]:
        """What has changed in their parts."""
        return [one.capture() for one in self._parts]

    def put_parts(self, saved: Sequence[Any]) -> None:
        """What `parts` told."""
        for loader, part in zip(self._parts, saved, strict=False):
            if loader.mismatch(part) is None:
                loader.restore(part)

    def workers(self) -> dict[str, list[Any]]:
        """Which of them have workers that stay, and where these are."""
        loaders = self._loaders()
        return {
            "val_kept_workers": [keeps_workers(one) for one in loaders],
            "val_workers": [
                workers_between_passes(one, left_early=True) if keeps_workers(one) else None
                for one in loaders
            ],
        }

    def put_workers(self, saved: Mapping[str, Any]) -> None:
        """What `workers` told; earlier versions told only that they are there.

        Making workers draws from the generators, and then it had been done already.
        """
        had = saved["val_kept_workers"]
        states = saved.get("val_workers", [None] * len(had))
        for loader, stayed, state in zip(self._loaders(), had, states, strict=False):
            if stayed and not keeps_workers(loader) and not _made_again(loader, state):
                self.say(STAYING_CAVEAT)


class _WorkersNoted(CombinedLoaderChange):
    """Has the workers of a CombinedLoader's loaders note their generators, where they stay."""

    def __init__(self, combined: Any) -> None:
        self.combined = combined

    def begin(self, make_iterator: Callable[[], object]) -> None:
        """Called as the CombinedLoader's `__iter__`."""
        loaders = [_Noting(one) if has_workers_that_stay(one) else one for one in self.combined.flattened]
        with handing_out(self.combined, loaders):
            make_iterator()

    def before_fetch(self) -> None: ...

    def fetched(self, item: Any) -> Any:
        return item


class _Noting:
    """A loader as the CombinedLoader's iterator sees it."""

    def __init__(self, loader: Any) -> None:
        self._loader = loader

    def __len__(self) -> int:
        return len(self._loader)

    def __iter__(self) -> Iterator[Any]:
        return made_noting(iter, self._loader)  # type: ignore[no-any-return]


def _made_again(loader: Any, state: Any) -> bool:
    if has_workers_that_stay(loader):
        return make_workers_that_stay(loader, state)
    iter(loader)
    return False
