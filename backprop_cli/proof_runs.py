"""The runs of a proof: the real command, in processes, a home and a copy of the working directory of their own."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from backprop_cli.proof_command import run_command
from backprop_cli.proof_log import ProofLog
from backprop_core import contract
from backprop_core.clock import Clock
from backprop_core.errors import BackpropError, UsageError
from backprop_core.outcome import Outcome
from backprop_core.prove.cuts import Cut, CutKind
from backprop_core.prove.orders import Orders
from backprop_core.prove.scratch import Scratch
from backprop_core.prove.stream import Stream, read_streams
from backprop_core.quick_dataclass import dataclass
from backprop_core.resources.admission import NotAdmittedError
from backprop_core.runs.finder import RunFinder
from backprop_core.runs.record import AttemptRecord

_LAST_S = 2.0
"""A box of less is not begun: what it would train could not be compared."""
_MORE_TIME = "Give it more (-m), or fewer --steps."
_WAITS = "waiting since "
_NOT_RESUMED = "The training could not be resumed."
_NOT_ADMITTED = 75


class BoxOverError(BackpropError):
    """The proof's own time box is over."""


class ScriptFailedError(UsageError):
    """The script failed by itself, or could not be started, so nothing can be proven.

    Args:
        log: what it printed.
    """

    def __init__(self, what: str, log: ProofLog | None = None) -> None:
        super().__init__(what)
        self.log = log


class ResumeFailedError(BackpropError):
    """The run that is interrupted, or an attempt that was resumed, failed or began from scratch."""


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
        over: the training came to its end by itself.
    """

    streams: list[Stream]
    files: Mapping[str, str]
    seconds: float
    cuts: Sequence[Cut] = ()
    over: bool = True

    @property
    def first_rank(self) -> Stream:
        """The first attempt as its first rank has seen it."""
        return next((one for one in self.streams if one.rank == 0), Stream())


@dataclass(frozen=True, slots=True)
class _Ended:
    """How an attempt ended.

    Attributes:
        status: of the command.
        reason: what the run's record says.
        over: the training came to its end.
        log: what it printed.
    """

    status: int
    reason: str
    over: bool
    log: ProofLog

    @property
    def failed(self) -> bool:
        """Whether it neither came to its end nor was cut as it should be."""
        return self.status not in (0, 124)


class ProofRuns:
    """Runs whole trainings and cut ones.

    Args:
        root: a temporary folder that is the proof's alone.
        ends_at: the instant (monotonic) at which the proof's own box is over.
        steps: how far each run trains.
        progress: told the step that a run has reached.
        say: told what a run waits for before it may start.
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
        say: Callable[[str], None] = lambda text: None,
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
        self._say = say
        self._environ = environ

    def whole(self, name: str, *, deterministic: bool = False) -> Done:
        """Train the first steps in one attempt.

        Raises:
            ScriptFailedError: the script failed, or nothing that trains was recognised in it.
            NotAdmittedError: resources did not come free.
            BoxOverError: no time is left.
        """
        self._scratch.make()
        orders = Orders(self._streams / name, stop_at=self._steps, deterministic=deterministic)
        began = self._clock.monotonic()
        ended = self._attempt(name, orders, 1)
        streams = read_streams(orders.stream)
        if ended.failed:
            raise ScriptFailedError(f"{ended.reason} {ended.log.tail()}", ended.log)
        _check_own_faults(streams)
        if not any(one.step > 0 for stream in streams for one in stream.steps):
            self._out_of_time()
            raise ScriptFailedError(
                "No training was recognised in this script. 'backprop docs unmodified' tells what is recognised. "
                f"You can also open a time box in the script. {ended.log.tail()}"
            )
        self._whole_enough(streams)
        seconds = self._clock.monotonic() - began
        return Done(streams, self._scratch.written(), seconds, over=ended.over)

    def cut(self, name: str, cuts: Sequence[Cut]) -> Done:
        """Train the same steps, cut at these places and resumed each time.

        Raises:
            ResumeFailedError: an attempt that was resumed failed, or did not resume from a checkpoint.
            NotAdmittedError: resources did not come free.
            BoxOverError: no time is left.
        """
        self._scratch.make()
        stream = self._streams / name
        began = self._clock.monotonic()
        came: list[Cut] = []
        for number, cut in enumerate([*cuts, None], start=1):
            ended = self._attempt(name, self._orders(stream, cut), number)
            self._check(stream, number, ended)
            reached = max((one.step for one in read_streams(stream)[-1].steps), default=0)
            if cut is None or ended.over or reached >= self._steps:
                break
            came.append(cut)
        return Done(read_streams(stream), self._scratch.written(), self._clock.monotonic() - began, came)

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

    def _check(self, stream: Path, number: int, ended: _Ended) -> None:
        mine = [one for one in read_streams(stream) if one.attempt == number]
        tail = ended.log.tail()
        # A launcher of several processes ends with a status of its own when one of them is killed.
        if ended.failed and not any(one.killed for one in mine):
            self._out_of_time()
            if number == 1:
                raise ResumeFailedError(f"The training could not be interrupted. {ended.reason} {tail}")
            began = next(
                (f", resumed at step {one.began_at}," for one in mine if one.began_at is not None), ""
            )
            raise ResumeFailedError(f"{_NOT_RESUMED} Attempt {number}{began} failed. {ended.reason} {tail}")
        _check_own_faults(mine)
        if number > 1 and any(one.began_at is None for one in mine):
            raise ResumeFailedError(f"{_NOT_RESUMED} Attempt {number} began from scratch. {tail}")
        if not mine:
            self._out_of_time()
            raise ResumeFailedError(f"{_NOT_RESUMED} In attempt {number} no training was recognised. {tail}")

    def _whole_enough(self, streams: Sequence[Stream]) -> None:
        """Raise where time ended the run, and not the last step or the script."""
        last = max(one.step for stream in streams for one in stream.steps)
        if last < self._steps:
            self._out_of_time()

    def _out_of_time(self) -> None:
        if self._clock.monotonic() >= self._ends_at - _LAST_S:
            raise BoxOverError("The time box ended before the proof did.", _MORE_TIME)

    # -- one attempt -------------------------------------------------------------------------------------------

    def _attempt(self, name: str, orders: Orders, number: int) -> _Ended:
        left_s = self._ends_at - self._clock.monotonic()
        if left_s < _LAST_S:
            self._out_of_time()
        told = self._root / f"{name}.orders"
        orders.write(told)
        box = ["-m", f"{left_s:.3f}s"]
        run = (
            ["resume", name, *self._script.options]
            if number > 1
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
        path = self._root / f"{name}.log"
        log = ProofLog(path, name, self._scratch.work, self._scratch.source)
        status = run_command(
            words, self._scratch.work, env, path, self._inherited, lambda: self._watch(log, orders.stream)
        )
        attempts = self._attempts_of(name)
        if len(attempts) < number:  # the command itself refused
            self._out_of_time()
            what = log.outside(log.last_of_ours()) or f"'backprop {run[0]}' ended with exit status {status}."
            if status == _NOT_ADMITTED:
                raise NotAdmittedError(what, "", None)
            raise ScriptFailedError(what)
        reason = attempts[-1].reason or f"The script ended with exit status {status}."
        return _Ended(status, log.outside(reason), attempts[-1].outcome is Outcome.COMPLETED, log)

    def _attempts_of(self, name: str) -> Sequence[AttemptRecord]:
        try:
            return RunFinder(self._root / "home").load(name).attempts
        except BackpropError:
            return ()

    def _watch(self, log: ProofLog, stream: Path) -> None:
        """Called while an attempt goes on."""
        for line in log.new_lines_of_ours():
            if line.startswith(_WAITS):
                self._say(line)
        self._progress(_step_of(stream))
        if self._clock.monotonic() > self._ends_at + _LAST_S:
            raise BoxOverError("The time box ended before the proof did.", _MORE_TIME)


def _check_own_faults(streams: Sequence[Stream]) -> None:
    """Raise BackpropError where a stream is not whole, and it is backprop's own doing.

    What ranks run into whose first rank was killed for a cut is none.
    """
    cut = {one.attempt for one in streams if one.killed}
    for one in streams:
        if one.fault and (one.killed or one.attempt not in cut):
            raise BackpropError(
                f"The proof itself failed (report it): {one.fault.rstrip('.')}.",
                "This says nothing about the script.",
            )


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
