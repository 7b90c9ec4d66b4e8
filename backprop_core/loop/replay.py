"""Passes over any iterable that can be found again: what it has given is made once more and thrown away."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import chain, islice
from typing import Any, Final

from backprop_core.checkpoints.copied import copied
from backprop_core.loop.index_position import pass_over
from backprop_core.loop.loop_state import LoopState

_VARIABLES: Final = "backprop.variables"
_MAKES_NOTHING: Final = (list, tuple, range, str, bytes, dict, set, frozenset)


class ReplayedReading:
    """Any iterable: the items that were trained are made again and thrown away.

    The random generators are set to where they were when the pass began, so that an iterable that shuffles with them
    gives the same items again, and to where they were at the boundary afterwards. So are the script's variables: an iterable
    may have made items ahead of the one that it gives, with a generator in a global, say.
    """

    caveat = ""
    batch_size: int | None = None

    def __init__(self, items: Iterable[Any], loop_state: LoopState) -> None:
        self._items = items
        self._loop_state = loop_state
        self._before: Any = None
        self.length = _length(items)

    def begin(
        self, saved: Any | None, skip: int, resume_randomness: Callable[[], None] | None
    ) -> Iterator[Any]:
        if saved is not None:
            self._as_it_began(saved)
        self.note_start()
        iterator = self._behind(saved, skip)
        if saved is not None and resume_randomness is not None:
            iterator = iterator if skip else begun(iterator)
            resume_randomness()
        return iterator

    def _as_it_began(self, saved: Any) -> None:
        """Older checkpoints hold the random generators alone."""
        whole = isinstance(saved, Mapping) and _VARIABLES in saved
        if whole and saved[_VARIABLES] is not None:
            self._loop_state.script.restore_earlier(saved[_VARIABLES])
        self._loop_state.set_randomness(saved["random"] if whole else saved)

    def _behind(self, saved: Any | None, skip: int) -> Iterator[Any]:
        iterator = iter(self._items)
        pass_over(iterator, skip)
        return iterator

    def note_start(self) -> None:
        """A pass begins now, whoever begins it."""
        variables, randomness = None, self._loop_state.randomness()
        if not isinstance(self._items, _MAKES_NOTHING):
            variables, randomness = variables_and_randomness(self._loop_state)
        self._before = {_VARIABLES: variables, "random": randomness}

    def position(self, *, midway: bool) -> Any:
        return self._before


def variables_and_randomness(loop_state: LoopState) -> tuple[Any, dict[str, object]]:
    """A copy of what the script has changed, and the state of every global random generator, now."""
    return copied(loop_state.script.capture(), loop_state.translators), loop_state.randomness()


def begun(iterator: Iterator[Any]) -> Iterator[Any]:
    """The same items, the first of them fetched already: what an iterator draws when it begins is drawn now."""
    return looked_into(iterator)[0]


def looked_into(iterator: Iterator[Any]) -> tuple[Iterator[Any], bool]:
    """The same items, and whether there are none."""
    first = list(islice(iterator, 1))
    return chain(_given_away(first), iterator), not first


def _given_away(items: list[Any]) -> Iterator[Any]:
    """Each of `items`, which are not kept."""
    while items:
        yield items.pop(0)


def _length(items: Any) -> int | None:
    try:
        return len(items)
    except (TypeError, NotImplementedError):
        return None
