"""A framework's data loaders: passes over them whose place can be saved and found again."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol


class LoaderReading(Protocol):
    """One pass over a data loader whose position can be saved and found again."""

    length: int | None
    """Batches in the pass, where the loader knows."""

    batch_size: int | None
    """Samples in each batch, the last perhaps fewer, where the loader knows."""

    @property
    def caveat(self) -> str:
        """One sentence on what of this loader cannot come back bit for bit, or empty."""
        ...

    def begin(
        self, saved: Any | None, skip: int, resume_randomness: Callable[[], None] | None
    ) -> Iterator[Any]:
        """An iterator that stands behind `skip` batches.

        Args:
            saved: what `position` returned in the earlier process, or None for a new pass.
            skip: batches already trained.
            resume_randomness: sets every random generator to where it was at the boundary, where the first of the batches
                to come had been asked for; to be called last. None: it had not been, so what asking for it draws is still
                to be drawn, and the caller sets the generators.
        """
        ...

    def note_start(self) -> None:
        """A pass begins now, by somebody else's hand: remember what `position` has to tell of it."""
        ...

    def position(self, *, midway: bool) -> Any:
        """What `begin` needs to find back to this pass, as values that a checkpoint can hold.

        Args:
            midway: the boundary lies in a loop inside the batch given last, so that batch is to be given again.
        """
        ...


class ReadsAhead(Protocol):
    """Threads of the script's that read loaders ahead of training."""

    def still(self) -> AbstractContextManager[None]:
        """Inside, they make nothing, as far as they can be stopped."""
        ...

    def capture(self) -> list[dict[str, Any]]:
        """Where each stands, and the batches that it has made and nobody has trained, for a checkpoint."""
        ...

    def unkept(self) -> Sequence[Any]:
        """What of that is not in the last capture, as `Unkept`."""
        ...

    def holds(self, value: object) -> bool:
        """Whether what `value` holds is kept with them."""
        ...

    def expect(self) -> None:
        """Everything is going to be put back: what they make until then is thrown away."""
        ...

    def restore(self, saved: Sequence[Mapping[str, Any]], randomness: RandomnessKeeper) -> list[str]:
        """Have them go on where they stood, as soon as they are released; what could not be put back, and why.

        Random generators are to be set behind it.
        """
        ...

    def release(self) -> None:
        """Everything is in its place, or will not be: they go on."""
        ...


class LoaderPasses(Protocol):
    """The passes over loaders that a script begins by itself."""

    @property
    def threads(self) -> ReadsAhead | None:
        """The script's threads that read such loaders; None where nothing is known of them."""
        ...

    def watch(self, randomness: RandomnessKeeper) -> AbstractContextManager[None]:
        """Inside, every pass that begins is remembered."""
        ...

    def made_by(self, iterator: object) -> tuple[Any, LoaderReading] | None:
        """The loader that made `iterator`, and the reading that knows how its pass began."""
        ...

    def waits(self, iterator: object) -> Any | None:
        """The loader over which `iterator` will begin a pass when it is first asked; None where that has begun."""
        ...

    def given_by(self, iterator: object) -> int | None:
        """Items that `iterator` has given; None where nobody counts them, or where it is over."""
        ...

    def remember(self, iterator: object, loader: object, reading: LoaderReading) -> None:
        """`iterator` was made of `loader` by somebody who knows how its pass began."""
        ...

    def is_loader(self, source: object) -> bool:
        """Whether it is a loader whose passes are remembered."""
        ...


class RandomnessKeeper(Protocol):
    """Takes and sets all global random generators of all frameworks together."""

    def randomness(self) -> dict[str, object]: ...

    def set_randomness(self, states: Any) -> None: ...
