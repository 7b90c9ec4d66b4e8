"""The runs of a proof: the real command, in processes, a home and a copy of the working directory of their own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from backprop_core import contract
from backprop_core.clock import Clock
from backprop_core.errors import BackpropError, UsageError
from backprop_core.governor import kernel
from backprop_core.prove.cuts import Cut, CutKind
from backprop_core.prove.orders import Orders
from backprop_core.prove.scratch import Scratch
from backprop_core.prove.stream import Stream, read_streams
from backprop_core.quick_dataclass import dataclass

_LAST_S = 2.0
"""A box of less is not begun: what it would train could not be compared."""
_TAIL_LINES = 15
_POLL_S = 0.2
_END_S = 10.0
KILLED = 128 + 9
_REFUSALS = (
    "does not have a deterministic implementation",
    "this operation is not deterministic",
    "deterministic GPU implementation",
    "when determinism is enabled",
)
"""So PyTorch and TensorFlow name an operation that they were told to refuse."""
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""They end a proof."""


class BoxOverError(BackpropError):
    """The proof's own time box is over."""


class ScriptFailedError(UsageError):
    """The script failed by itself, so nothing can be proven."""


class ResumeFailedError(BackpropError):
    """A resumed attempt failed, or began afresh."""


@dataclass(frozen=True, slots=True)
class ProvenScript:
    """What is run.

    Attributes:
        words: what stands behind `backprop run`: the script, options that pass through, `--` and its arguments.
        options: those of them that `backprop resume` takes as well.
    """

    words: Sequence[str]
    options: Sequence[str] = ()


@dataclass(slots=True)
class Done:
    """One run.

    Attributes:
        streams: what each rank of each attempt has written.
        files: digests of the files that the script wrote, by name.
        seconds: what its attempts took, start-ups included.
        cuts: those that came about.
    """

    streams: list[Stream]
    files: Mapping[str, str]
    seconds: float
    cuts: Sequence[Cut] = ()

    @property
    def first_rank(self) -> Stream:
        """The first attempt as its first rank has seen it."""
        return next((one for one in self.streams if one.rank == 0), Stream())


class ProofRuns:
    """Runs whole trainings and cut ones.

    Args:
        root: a temporary folder that is the proof's alone.
        ends_at: the instant (monotonic) at which the proof's own box is over.
        steps: how far each run trains.
        progress: told the step that a run has reached.
        environ: of the command and the script.
        inherited: file descriptors that the command's processes get.
    """

    def __init__(
        self,
        root: Path,
        scratch: Scratch,
        script: ProvenScript,
        steps: int,
        clock: Clock,
        ends_at: float,
        progress: Callable[[int], None] = lambda step: None,
        environ: Mapping[str, str] = os.environ,
        inherited: Sequence[int] = (),
    ) -> None:
        self._root = root
        # Below the home of its runs, where no file is taken for one of the script's and rewound.
        self._streams = root / "home" / "streams"
        self._inherited = inherited
        self._scratch = scratch
        self._script = script
        self._steps = steps
        self._clock = clock
        self._ends_at = ends_at
        self._progress = progress
        self._environ = environ

    def whole(self, name: str, *, deterministic: bool = False) -> Done:
        """Train the first steps in one attempt.

        Raises:
            ScriptFailedError: the script failed, or nothing that trains was recognised in it.
            BoxOverError: no time is left.
        """
        self._scratch.make()
        orders = Orders(self._streams / name, stop_at=self._steps, deterministic=deterministic)
        began = self._clock.monotonic()
        status = self._attempt(name, orders, resume=False)
        streams = _read(orders.stream)
        if status not in (0, 124):
            raise ScriptFailedError(f"The script failed with exit status {status}. {self._tail(name)}")
        if not any(one.step > 0 for stream in streams for one in stream.steps):
            self._out_of_time()
            raise ScriptFailedError(
                f"No training was recognised in this script. {self._tail(name)}",
                "See docs/unmodified.md for what is recognised, or open a time box in the script.",
            )
        self._whole_enough(streams)
        return Done(streams, self._scratch.written(), self._clock.monotonic() - began)

    def cut(self, name: str, cuts: Sequence[Cut]) -> Done:
        """Train the same steps, cut at these places and resumed each time.

        Raises:
            ResumeFailedError: an attempt that was resumed failed, or did not resume from a checkpoint.
            BoxOverError: no time is left.
        """
        self._scratch.make()
        stream = self._streams / name
        began = self._clock.monotonic()
        came: list[Cut] = []
        for number, cut in enumerate([*cuts, None], start=1):
            status = self._attempt(name, self._orders(stream, cut), resume=number > 1)
            killed = cut is not None and cut.kind is CutKind.KILL and status == KILLED
            self._check(name, stream, number, status, killed=killed)
            reached = max((one.step for one in _read(stream)[-1].steps), default=0)
            if cut is None or reached >= self._steps:
                break
            came.append(cut)
        return Done(_read(stream), self._scratch.written(), self._clock.monotonic() - began, came)

    def _orders(self, stream: Path, cut: Cut | None) -> Orders:
        orders = Orders(stream, stop_at=self._steps)
        if cut is None:
            return orders
        match cut.kind:
            case CutKind.KILL:
                return replace(orders, save_at=cut.save_at, kill_at=cut.step)
            case CutKind.EVALUATION:
                return replace(orders, evaluation=(cut.step, cut.place))
            case _:
                return replace(orders, stop_at=cut.step)

    def _check(self, name: str, stream: Path, number: int, status: int, *, killed: bool) -> None:
        mine = [one for one in _read(stream) if one.attempt == number]
        if status not in (0, 124) and not killed:
            self._out_of_time()
            began = next(
                (f", resumed at step {one.began_at}," for one in mine if one.began_at is not None), ""
            )
            raise ResumeFailedError(
                f"Attempt {number}{began} failed with exit status {status}. {self._tail(name)}",
            )
        if number > 1 and any(one.began_at is None for one in mine):
            raise ResumeFailedError(f"Attempt {number} did not resume from a checkpoint. {self._tail(name)}")
        if not mine:
            self._out_of_time()
            raise ResumeFailedError(f"In attempt {number} no training was recognised. {self._tail(name)}")

    def _whole_enough(self, streams: Sequence[Stream]) -> None:
        """Raise where time ended the run, and not the last step or the script."""
        last = max(one.step for stream in streams for one in stream.steps)
        if last < self._steps:
            self._out_of_time()

    def _out_of_time(self) -> None:
        if self._clock.monotonic() >= self._ends_at - _LAST_S:
            raise BoxOverError(
                "The time box ended before the proof did.", "Give it more (-m), or fewer --steps."
            )

    # -- one attempt -------------------------------------------------------------------------------------------

    def _attempt(self, name: str, orders: Orders, *, resume: bool) -> int:
        left_s = self._ends_at - self._clock.monotonic()
        if left_s < _LAST_S:
            self._out_of_time()
        told = self._root / f"{name}.orders"
        orders.write(told)
        box = ["-m", f"{left_s:.3f}s"]
        run = (
            ["resume", name, *self._script.options]
            if resume
            else ["run", "--run-id", name, *self._script.words]
        )
        words = [sys.executable, "-m", "backprop_cli", run[0], *box, *run[1:]]
        env = {
            **self._environ,
            contract.HOME: str(self._root / "home"),
            "PWD": str(self._scratch.work),
            "PYTHONDONTWRITEBYTECODE": "1",
            contract.PROVE: str(told),
        }
        with (self._root / f"{name}.log").open("ab") as log:
            # No signal comes between the start of the process and the place from which it is ended.
            before = signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
            try:
                child = subprocess.Popen(
                    words,
                    cwd=self._scratch.work,
                    env=env,
                    pass_fds=self._inherited,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    preexec_fn=_begin_of_child(before),  # noqa: PLW1509 - this process has one thread
                )
                try:
                    signal.pthread_sigmask(signal.SIG_SETMASK, before)
                    return self._wait(child, orders.stream)
                except BaseException:
                    self._end(child)
                    raise
            finally:
                signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def _wait(self, child: subprocess.Popen[bytes], stream: Path) -> int:
        while True:
            with suppress(subprocess.TimeoutExpired):
                return child.wait(_POLL_S)
            self._progress(_step_of(stream))
            if self._clock.monotonic() > self._ends_at + _LAST_S:
                self._end(child)
                raise BoxOverError(
                    "The time box ended before the proof did.",
                    "Give it more (-m), or fewer --steps.",
                )

    @staticmethod
    def _end(child: subprocess.Popen[bytes]) -> None:
        """What it would save is not wanted: the command ends its script at once when it is interrupted twice."""
        asks = [(signal.SIGTERM, _POLL_S), (signal.SIGINT, _POLL_S), (signal.SIGINT, _END_S)]
        for number, wait_s in [*asks, (signal.SIGKILL, _END_S)]:
            child.send_signal(number)
            with suppress(subprocess.TimeoutExpired):
                child.wait(wait_s)
                return

    def _tail(self, name: str) -> str:
        lines = (self._root / f"{name}.log").read_text(encoding="utf-8", errors="replace").splitlines()
        shown = "\n".join(f"  {line}" for line in lines[-_TAIL_LINES:])
        return f"Its last lines:\n{shown}"

    def nondeterministic_operation(self, name: str) -> str:
        """What the frameworks named when they were told to refuse it; empty where they named nothing."""
        log = (self._root / f"{name}.log").read_text(encoding="utf-8", errors="replace")
        for line in log.splitlines():
            if any(words in line for words in _REFUSALS):
                return line.strip().split(". ")[0].rstrip(".").rpartition("Error: ")[2]
        return ""


def _read(folder: Path) -> list[Stream]:
    """All streams.

    Raises:
        BackpropError: one could not be written.
    """
    streams = read_streams(folder)
    for one in streams:
        if one.fault:
            raise BackpropError(
                f"The proof itself failed, please report it: {one.fault}.",
                "This says nothing about the script.",
            )
    return streams


def _step_of(stream: Path) -> int:
    """The last step that a stream tells of, read from its end."""
    last = 0
    for path in stream.glob("attempt-*-rank-000.jsonl"):
        with suppress(OSError, ValueError), path.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - (1 << 20)))
            for line in file.read().split(b"\n"):
                if line.startswith(b'{"step": '):
                    last = max(last, int(line[9 : line.index(b",")]))
    return last


def _begin_of_child(mask: Iterable[int]) -> Callable[[], None]:
    """What a process of the command does first: it ends when the proof is killed, and hears signals as the proof did."""
    dies_with_us = kernel.death_signal_setter()

    def begin() -> None:
        dies_with_us()
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)

    return begin
