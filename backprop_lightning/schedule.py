"""When Lightning validates and ends epochs, as far as it can be known ahead."""

from __future__ import annotations

from typing import Any


def quiet_until(trainer: Any) -> float:
    """The number of batches of this epoch, counted from its start, before which nothing but training happens.

    Behind that batch the loop itself has to be asked. 0 where nobody can tell ahead (a validation by the clock, a loader of
    unknown length): then it is asked behind each batch.
    """
    epoch_loop = trainer.fit_loop.epoch_loop
    batches = trainer.num_training_batches
    if batches == float("inf") or getattr(trainer, "_val_check_time_interval", None) is not None:
        return 0.0
    ready = epoch_loop.batch_progress.current.ready
    ends = float(batches)
    every = trainer.val_check_batch
    if not epoch_loop._should_check_val_epoch() or every in (None, float("inf")):
        return ends
    done = epoch_loop.batch_progress.total.ready if trainer.check_val_every_n_epoch is None else ready
    return min(ends, float(ready + every - done % every))


def batches_of(val_loop: Any) -> int:
    """How many batches a validation that has been set up has at least; 0 where a loader's length is not known."""
    counts = list(val_loop.max_batches)
    if not counts or float("inf") in counts:
        return 0
    mode = getattr(val_loop._combined_loader, "_mode", "sequential")
    return int(sum(counts) if mode == "sequential" else min(counts))
