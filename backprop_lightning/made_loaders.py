"""Loaders that Lightning makes at another time than at the start of its training loop.

`reload_dataloaders_every_n_epochs` calls `train_dataloader` again when the script's variables and the random generators have
gone on. A process that resumes makes those loaders at its start, so for that moment both are as they were then.

`trainer.estimated_stepping_batches` in `configure_optimizers` has the loaders made, and their iterators, before that start:
these are trained on, and in a process that resumes, too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import Any

from backprop_core.ports.loaders import RandomnessKeeper
from backprop_core.ports.patches import Patches
from backprop_core.script_state.object_watch import ObjectWatch
from backprop_lightning.dataloader_state import CombinedLoaderWatch

TRAIN, VALIDATION = "train", "validation"


class LoadersMade:
    """Notes what the script held when its loaders were made, and makes them of that again.

    Args:
        script: what the script changes.
        randomness: the random generators of the process.

    Attributes:
        notes: by TRAIN and VALIDATION, to be stored; of the script nothing where training had not begun.
    """

    def __init__(self, script: ObjectWatch, randomness: RandomnessKeeper) -> None:
        self._script = script
        self._randomness = randomness
        self._again = False
        self.notes: dict[str, Any] = {}

    def put_back(self, notes: Any) -> None:
        """What an earlier process has noted; earlier versions noted nothing."""
        if isinstance(notes, Mapping):
            self.notes = dict(notes)

    def are_made(self, which: str, *, first: bool = False) -> None:
        """Loaders are about to be made.

        Args:
            first: none were made before, in the attempt that begins the run.
        """
        if self._again:
            return
        script, random = self._script.capture(), self._randomness.randomness()
        self.notes[which] = {"script": script, "random": random, "first": first}

    def follow_others(self, which: str) -> bool:
        """Whether other loaders were made before those that are noted."""
        return not self.notes[which].get("first", False)

    @contextmanager
    def as_then(self, which: str) -> Iterator[None]:
        """Inside, variables and random generators are as they were when the loaders were made; outside as they are."""
        note = self.notes.get(which)
        self._again = True
        try:
            if note is None:
                yield
                return
            random, script = self._randomness.randomness(), note["script"]
            with nullcontext() if script is None else self._script.as_it_was(script):
                self._randomness.set_randomness(note["random"])
                yield
            self._randomness.set_randomness(random)
        finally:
            self._again = False


class EarlyLoaders:
    """Watches the training loaders that are made before the training loop runs.

    Args:
        mends, say: see `CombinedLoaderWatch`.
    """

    def __init__(
        self,
        trainer: Any,
        randomness: RandomnessKeeper,
        mends: Callable[[Exception], bool],
        say: Callable[[str], None],
    ) -> None:
        self._trainer = trainer
        self._randomness = randomness
        self._mends = mends
        self._say = say
        self._patches = Patches()
        self._watch: CombinedLoaderWatch | None = None

    def expect(self, ours: Callable[[Callable[[], None]], Any]) -> None:
        """Watch those that are made from now on; `ours` runs what is ours."""
        fit_loop = self._trainer.fit_loop

        def made() -> None:
            ours(self._made)
            original()

        original = self._patches.replace(fit_loop, "_load_combined_loader_states", made)

    def _made(self) -> None:
        self._watch = CombinedLoaderWatch(
            self._trainer.fit_loop._combined_loader, self._randomness, self._mends, self._say
        )
        self._watch.install()

    def taken(self) -> CombinedLoaderWatch | None:
        """Those that are there now, if nobody has read them, as a finder does; none is watched any more."""
        self._patches.give_all_back()
        watch, self._watch = self._watch, None
        if watch is None:
            return None
        if watch.combined is self._trainer.fit_loop._combined_loader and not watch.is_read():
            return watch
        watch.uninstall()
        return None
