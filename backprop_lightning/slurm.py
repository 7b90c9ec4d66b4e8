"""Lightning's SLURM plugin saves and requeues the job on a signal of its own: which of the two saves when."""

from __future__ import annotations

import signal
from typing import Any


def requeue_signal(trainer: Any) -> signal.Signals | None:
    """The signal that Lightning's plugin answers; None without the plugin, or where it does not requeue."""
    environment = trainer._accelerator_connector.cluster_environment
    if not any(kind.__name__ == "SLURMEnvironment" for kind in type(environment).__mro__):
        return None
    if not environment.auto_requeue:
        return None
    return signal.Signals(environment.requeue_signal or signal.SIGUSR1)


def who_saves(number: signal.Signals) -> str:
    """The sentence for people."""
    if number is signal.SIGTERM:
        return (
            "SIGTERM is handled by backprop, not by Lightning's SLURM plugin: a checkpoint is saved, and the job is "
            "not requeued. Give the plugin another requeue_signal to have both."
        )
    return (
        f"{number.name} is handled by Lightning's SLURM plugin, which saves and requeues the job; SIGTERM and the deadline "
        "by backprop. The next attempt continues from the newer of the two checkpoints."
    )
