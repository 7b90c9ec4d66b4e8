"""Workers that stay from one pass over a loader to the next: a process that resumes has them as they were."""

from __future__ import annotations

from typing import Any

import torch
from torch.utils.data import DataLoader

from backprop_core.ports.pass_position import PassPosition
from backprop_torch.loader_skip import skipping
from backprop_torch.worker_states import (
    saved_workers,
    set_before_pass,
    workers_between_passes,
    workers_noted,
)

_WORKERS_STARTED = "_workers_started"
"""An attribute of ours on a loader, with the seed of its workers: it comes back with the script's variables."""

_WORKERS_REST = "_workers_rest"
"""The same, with the workers behind a pass that was read to its end."""


def has_workers_that_stay(loader: Any) -> bool:
    """Whether it is a loader whose workers stay from pass to pass, and that does not keep its place itself."""
    stock = isinstance(loader, DataLoader) and not callable(getattr(loader, "load_state_dict", None))
    return stock and loader.persistent_workers


def note_workers(loader: Any) -> None:
    """A pass has begun. If its workers stay, the passes after it draw no seed for them, in a resumed process either."""
    if getattr(loader, "persistent_workers", False) and loader.num_workers:
        vars(loader)[_WORKERS_STARTED] = getattr(loader._iterator, "_base_seed", True)
        vars(loader).pop(_WORKERS_REST, None)


def note_end_of_pass(loader: Any) -> None:
    """A pass has been read to its end: remember where its workers are, if they stay."""
    rest = workers_between_passes(loader)
    if rest is not None:
        vars(loader)[_WORKERS_REST] = rest


def start_noted_workers(loader: Any) -> None:
    """A pass is about to begin: start the workers that earlier ones had left running in another process."""
    seed = vars(loader).get(_WORKERS_STARTED)
    if seed and loader._iterator is None:
        _start_workers_that_stay(loader, None if seed is True else seed)
        set_before_pass(loader, saved_workers(vars(loader).get(_WORKERS_REST), loader.num_workers))


def make_workers_that_stay(loader: Any, state: Any) -> bool:
    """Start the workers without a pass, where they were between two. Whether they are there.

    Args:
        state: what `workers_between_passes` told of them; None: it is not known.
    """
    saved = saved_workers(state, loader.num_workers)
    _start_workers_that_stay(loader, None if saved is None else saved.seed)
    return set_before_pass(loader, saved)


def _start_workers_that_stay(loader: Any, seed: int | None = None) -> None:
    """Start the workers without a pass. They draw a seed, which a pass that finds them running does not draw.

    Args:
        seed: what they drew in the process that first started them; those that run with another one are not the same.
    """
    if not loader.persistent_workers:
        return
    staying = loader._iterator
    if staying is not None:
        if seed is None or (staying._base_seed == seed and not staying._send_idx):
            return
        _end_workers(loader)
    state = torch.get_rng_state()
    begin = type(loader).__iter__
    with workers_noted(loader, seed), skipping(loader, None):
        getattr(begin, "__wrapped__", begin)(
            loader
        )  # this is no pass of the script's, whoever watches for them
    torch.set_rng_state(state)
    if seed is not None and loader._iterator is not None:
        loader._iterator._base_seed = seed


def _end_workers(loader: Any) -> None:
    if loader.num_workers:  # torchdata's loader holds an iterator without workers, too
        loader._iterator._shutdown_workers()
    loader._iterator = None


def restore_workers(loader: Any, start: PassPosition) -> None:
    """Make the next iterator of `loader` find the workers running that the pass found whose position this is, or none."""
    if start.workers_kept:
        make_workers_that_stay(loader, start.workers)
        return
    vars(loader).pop(_WORKERS_STARTED, None)
    if getattr(loader, "_iterator", None) is not None:  # that pass began with new workers
        _end_workers(loader)
