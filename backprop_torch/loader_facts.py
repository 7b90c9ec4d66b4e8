"""What a DataLoader tells of itself: how long its passes are, how large its batches."""

from __future__ import annotations

import gc
from typing import Any

from torch.utils.data import DataLoader, IterableDataset


def loader_length(loader: Any) -> int | None:
    """Batches in one pass, or None where nobody knows before."""
    if isinstance(loader.dataset, IterableDataset):
        return None  # its length is a promise of the user's that torch itself only warns about
    try:
        return len(loader)
    except (TypeError, NotImplementedError):
        return None


def pass_length(loader: Any, iterator: Any) -> int | None:
    """Batches that `iterator` gives, or None where nobody knows before: an endless one is longer than its loader says."""
    if isinstance(loader.dataset, IterableDataset):
        return None
    try:
        return len(iterator)
    except (TypeError, NotImplementedError):
        return None


def cycle_of(loader: Any, iterator: Any) -> int:
    """Batches after which the sampler of an endless pass begins anew; 0: the pass ends, or workers read ahead in it."""
    if loader.num_workers or isinstance(loader.dataset, IterableDataset):
        return 0
    return 0 if pass_length(loader, iterator) is not None else loader_length(loader) or 0


def loader_of(iterator: Any) -> Any | None:
    """The loader that torch's `iterator` was made of, if it exists."""
    for value in gc.get_objects():
        if (
            issubclass(type(value), DataLoader)
            and getattr(value, "dataset", None) is iterator._dataset
            and getattr(value, "_index_sampler", None) is iterator._index_sampler
        ):
            return value
    return None


def loader_batch_size(loader: Any) -> int | None:
    """Samples in one batch, or None where nobody knows before."""
    size = getattr(loader, "batch_size", None)
    if size is None:
        size = getattr(getattr(loader, "batch_sampler", None), "batch_size", None)
    return size if isinstance(size, int) and size > 0 else None
