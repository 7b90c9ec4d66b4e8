"""One command of a proof, in a process that ends with it."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from backprop_core.governor import kernel

_POLL_S = 0.2
_END_S = 10.0
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""They end a proof."""


def run_command(
    words: Sequence[str],
    cwd: Path,
    env: Mapping[str, str],
    log: Path,
    inherited: Sequence[int],
    watch: Callable[[], None],
) -> int:
    """Run it to its end; its exit status.

    Args:
        log: what it prints is added to this file.
        inherited: file descriptors that it gets.
        watch: called several times a second meanwhile. Where it raises, the command is ended.
    """
    with log.open("ab") as output:
        # No signal comes between the start of the process and the place from which it is ended.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
        try:
            child = subprocess.Popen(
                words,
                cwd=cwd,
                env=env,
                pass_fds=inherited,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                preexec_fn=_begin_of_child(before),  # noqa: PLW1509 - this process has one thread
            )
            try:
                signal.pthread_sigmask(signal.SIG_SETMASK, before)
                return _wait(child, watch)
            except BaseException:
                _end(child)
                raise
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _wait(child: subprocess.Popen[bytes], watch: Callable[[], None]) -> int:
    while True:
        with suppress(subprocess.TimeoutExpired):
            return child.wait(_POLL_S)
        watch()


def _end(child: subprocess.Popen[bytes]) -> None:
    """What it would save is not wanted: the command ends its script at once when it is interrupted twice."""
    asks = [(signal.SIGTERM, _POLL_S), (signal.SIGINT, _POLL_S), (signal.SIGINT, _END_S)]
    for number, wait_s in [*asks, (signal.SIGKILL, _END_S)]:
        child.send_signal(number)
        with suppress(subprocess.TimeoutExpired):
            child.wait(wait_s)
            return


def _begin_of_child(mask: Iterable[int]) -> Callable[[], None]:
    """What a process of the command does first: it ends when the proof is killed, and hears signals as the proof did."""
    dies_with_us = kernel.death_signal_setter()

    def begin() -> None:
        dies_with_us()
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)

    return begin
