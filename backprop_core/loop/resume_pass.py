"""Beginning a pass over data where the checkpoint says that it stood."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from backprop_core.errors import StateMismatchError
from backprop_core.loop.loop_position import Frame, PlaceMismatch, SavedFrame, place_in_batches
from backprop_core.loop.replay import looked_into, variables_and_randomness
from backprop_core.loop.resume_loop import LoopRestorer
from backprop_core.ports.loaders import LoaderReading

T = TypeVar("T")


class ResumedPasses:
    """Begins the passes of one box."""

    def __init__(self, restorer: LoopRestorer) -> None:
        self._restorer = restorer
        self._session, self._loop_state = restorer.session, restorer.loop_state

    def place(self, saved: SavedFrame, reading: LoaderReading) -> int:
        """Batches of the interrupted pass that are over, of the size that they have now.

        Raises:
            StateMismatchError: it was left inside of what is one batch now.
        """
        try:
            index, note = place_in_batches(saved, reading.batch_size, reading.length)
        except PlaceMismatch as error:
            raise StateMismatchError(
                f"{self._restorer.source} does not fit this script: {error}.",
                f"Give the loader {saved.batch_size} samples a batch, or start from scratch with resume=False (a new run).",
            ) from None
        if note:
            self._session.messages.say_once(f"{self._restorer.source}: {note}.", "warning")
        return index

    def begin(
        self, loader: Iterable[T], reading: LoaderReading, frame: Frame, saved: SavedFrame | None
    ) -> tuple[Iterator[T], bool]:
        """The batches that are to come, and whether the first of them was trained already and is only entered again."""
        if saved is None:
            return reading.begin(None, 0, lambda: None), False
        behind = self._randomness_behind(loader, saved)
        iterator = reading.begin(saved.opening, frame.index, behind)
        if frame.index and reading.caveat:
            self._session.messages.say_once(reading.caveat)
        if saved.again or saved.waiting or not frame.index:
            return iterator, saved.again
        iterator, is_over = looked_into(iterator)
        if not is_over:
            return iterator, False
        frame.index -= 1  # nobody knew that it was the last
        return reading.begin(saved.opening, frame.index, behind), True

    def _randomness_behind(self, loader: object, saved: SavedFrame | None) -> Callable[[], None]:
        """Sets every generator to where it was when the checkpoint was made, once the pass stands where it stood.

        A loader that waited above the boundary's own loop begins again in the middle of an iteration that already goes on:
        the global generators and the script's variables stay as they are then.
        """
        session, loop_state = self._session, self._loop_state
        if saved is None or session.restored is None:
            return lambda: None
        states = session.restored.states
        now = variables_and_randomness(loop_state) if saved.waiting else None

        def resume() -> None:
            if now is None:
                loop_state.restore_script(states)  # the batches that were made again have changed it
            else:
                loop_state.script.restore(now[0])
            loop_state.restore_loader(loader, states)
            if now is None:
                loop_state.restore_randomness(states)
            else:
                loop_state.set_randomness(now[1])

        return resume
