"""Torch's iterators that are alive, and the passes over loaders that they are of."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from typing import Any
from weakref import WeakKeyDictionary, ref

from torch.utils.data.dataloader import _BaseDataLoaderIter

from backprop_core.weak_identity import WeakIdentityMap
from backprop_torch.loader_facts import cycle_of, pass_length
from backprop_torch.passes import Pass

_KEYS = count()


class KnownIterators:
    """Keeps none of them alive.

    Attributes:
        passes: by torch's iterator.
        born: iterators that torch has made since the last pass began.
    """

    def __init__(self) -> None:
        self.passes: WeakKeyDictionary[Any, Pass] = WeakKeyDictionary()
        self.born: list[Any] = []
        self._torchs: WeakIdentityMap[Callable[[], Any]] = WeakIdentityMap()
        self._keys: WeakIdentityMap[int] = WeakIdentityMap()

    def clear(self) -> None:
        """Forget all."""
        for known in (self.passes, self._torchs, self._keys, self.born):
            known.clear()

    def note(self, loader: Any, iterator: Any, make: Callable[[Any], Any], **facts: Any) -> Pass:
        """A pass over `loader` by `iterator`, which is torch's own."""
        key = self._keys.get(loader)
        if key is None:
            key = self._keys[loader] = next(_KEYS)
        length = pass_length(loader, iterator)
        made = Pass(lambda: loader, key, length=length, iterator=lambda: None, make=make, **facts)
        if (
            getattr(loader, "_iterator", None) is iterator
        ):  # whoever holds this one's loader keeps the iterator alive
            made.loader = ref(loader)
        made.cycle = cycle_of(loader, iterator)
        made.iterator = ref(iterator, made.dropped)
        self.passes[iterator] = made
        return made

    def torchs_own(self, made: Any) -> Any:
        """Torch's iterator inside of what a loader's `__iter__` has returned, or None."""
        if isinstance(made, _BaseDataLoaderIter):
            return made
        known = self._torchs.get(made)
        if known is None and self.born:
            known = self._torchs[made] = ref(self.born[-1])
        return None if known is None else known()
