"""What a stop signal does to the errors of ended children, with real signals in this process."""

from __future__ import annotations

import os
import signal
import types
from collections.abc import Iterator
from typing import Any

import pytest

from backprop_core.clock import SYSTEM
from backprop_core.session.signal_watch import SignalWatch


@pytest.fixture
def watch() -> Iterator[SignalWatch]:
    """A watch over a process whose SIGCHLD handler raises, as torch's does where a loader's worker has died."""

    def raises(number: int, frame: Any) -> None:
        raise RuntimeError("DataLoader worker (pid 1) is killed by signal: Terminated.")

    before = signal.signal(signal.SIGCHLD, raises)
    watch = SignalWatch(SYSTEM.monotonic, lambda: None)
    watch.start()
    yield watch
    watch.stop()
    assert signal.getsignal(signal.SIGCHLD) is raises
    signal.signal(signal.SIGCHLD, before)


def hear(number: signal.Signals) -> None:
    os.kill(os.getpid(), number)


def test_a_dead_worker_is_an_error_while_nobody_asked_to_stop(watch: SignalWatch) -> None:
    """Without a stop signal a worker that dies is the user's to know of."""
    with pytest.raises(RuntimeError, match="DataLoader worker"):
        hear(signal.SIGCHLD)
    assert not watch.workers_died


def test_a_step_goes_on_when_the_stop_signal_ended_workers(watch: SignalWatch) -> None:
    """Behind a stop signal nothing is raised in the middle of a step; that the workers are gone is remembered."""
    hear(signal.SIGTERM)
    hear(signal.SIGCHLD)
    assert watch.received is signal.SIGTERM
    assert watch.workers_died


def test_who_waits_for_a_batch_is_told_at_once(watch: SignalWatch) -> None:
    """The loader would wait for seconds for a worker that does not live any more."""
    loader = types.ModuleType("torch.utils.data.dataloader")
    exec("def wait(then):\n    then()\n", vars(loader))
    hear(signal.SIGTERM)
    with pytest.raises(RuntimeError, match="DataLoader worker"):
        vars(loader)["wait"](lambda: hear(signal.SIGCHLD))
    assert not watch.workers_died


@pytest.mark.parametrize("users", [False, True])
def test_only_a_handler_of_the_users_own_is_told_of(*, users: bool) -> None:
    """Lightning sets one in every training, which calls those from before: of its own there is nothing to tell."""

    class Composed:
        __module__ = "pytorch_lightning.trainer.connectors.signal_connector"

        def __init__(self, *handlers: Any) -> None:
            self.signal_handlers = handlers

        def __call__(self, number: int, frame: Any) -> None:
            """Is not asked."""

    mine = [lambda number, frame: None] if users else []
    before = signal.signal(signal.SIGTERM, Composed(Composed(), *mine))
    watch = SignalWatch(SYSTEM.monotonic, lambda: None)
    try:
        watch.start()
        told = "Your own SIGTERM handler is inactive until the box ends." in watch.notes
        watch.stop()
    finally:
        signal.signal(signal.SIGTERM, before)
    assert told == users
