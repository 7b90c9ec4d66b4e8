"""Runs the trainings of an adapter's contract in one process: `python -m backprop_core.testing.adapter_driver MODULE`.

Orders come as JSON on standard input, what came of each goes as JSON onto the last line of standard output.
"""

from __future__ import annotations

import contextlib
import io
import json
import math
import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from dataclasses import field
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

from backprop_core import contract
from backprop_core.clock import SystemClock
from backprop_core.quick_dataclass import dataclass
from backprop_core.runs.control import Action, send_control
from backprop_core.session.boxed_training import BoxFacts
from backprop_core.session.session import Session

BUDGET_S = 36_000.0


class ScriptError(Exception):
    """An error of the script's own."""


class Driver(Protocol):
    """The module of an adapter's tests that trains.

    Attributes:
        PATCHED: classes and modules of the framework on which the adapter replaces something while it trains.
    """

    PATCHED: tuple[Any, ...]

    def train(self, box: DrivenTraining) -> str:
        """Train `STEPS` optimizer steps in two epochs from fixed seeds, in the box that `box.made` gives, or in none.

        Calls `box.step()` in the code of each step, before the optimizer steps. Returns a digest of all that was trained.
        """
        ...


STEPS = 12
"""How many steps a driver trains."""


@dataclass
class DrivenTraining:
    """One training, and what happens in it.

    Attributes:
        keywords: of the box; None: it trains without one.
        strike: what happens in step `at`: `sigterm`, `ctrl-c`, `control`, `deadline`, `error`, or `fault`, which is one of
            our own; empty for nothing.
        at: a step of this process, the first is 1.
        steps: steps that this process has begun.
        facts: what the box told before, in and after the training.
    """

    keywords: dict[str, Any] | None
    strike: str = ""
    at: int = 0
    steps: int = 0
    facts: dict[str, dict[str, Any]] = field(default_factory=dict)
    _box: BoxFacts | None = None
    _session: Any = None

    def made(self, kind: Callable[..., Any]) -> Any:
        """A box: `kind`, the callback's class or `backprop.timebox`, with the keywords of this order; None for no box."""
        if self.keywords is None:
            return None
        box: BoxFacts = kind(BUDGET_S, **self.keywords)
        self._box = box
        self._tell("before")
        return box

    def step(self) -> None:
        """A step of the script's begins."""
        self.steps += 1
        if self._box is not None and "in" not in self.facts:
            self._tell("in")
        if self.strike and self.steps == self.at:
            _STRIKES[self.strike](self)

    def ended(self) -> None:
        """The training is over, or was left by an error."""
        self._tell("after")

    def _tell(self, when: str) -> None:
        box = self._box
        if box is None:
            return
        checkpoint, resumed_from = box.checkpoint, box.resumed_from
        self.facts[when] = {
            "outcome": str(box.outcome),
            "checkpoint": None if checkpoint is None else str(checkpoint),
            "whole": checkpoint is not None and (checkpoint / "manifest.json").is_file(),
            "remaining": "never" if box.remaining == math.inf else box.remaining,
            "progress": box.progress,
            "run_id": box.run_id,
            "resumed_from": None if resumed_from is None else str(resumed_from),
        }

    def control(self) -> None:
        """Ask for a stop as `backprop stop` does."""
        teller = None if self._box is None else self._box._teller()
        assert isinstance(teller, Session)
        send_control(teller.enrolment.attempt.directory, Action.STOP)
        _leap(1.0)  # the file is read four times a second at most

    def fault(self) -> None:
        """The next boundary fails with an error that is nobody's but ours."""
        original = Session.boundary

        def boundary(session: Session, *args: Any, **kwargs: Any) -> bool:
            Session.boundary = original  # type: ignore[method-assign]
            raise RuntimeError("planted by the contract")

        Session.boundary = boundary  # type: ignore[method-assign,assignment]
        _leap(1.0)


def _raise(order: DrivenTraining) -> None:
    raise ScriptError(f"of the script, in step {order.steps}")


_STRIKES: Mapping[str, Callable[[DrivenTraining], None]] = {
    "sigterm": lambda order: os.kill(os.getpid(), signal.SIGTERM),
    "ctrl-c": lambda order: os.kill(os.getpid(), signal.SIGINT),
    "deadline": lambda order: _leap(BUDGET_S),
    "control": DrivenTraining.control,
    "fault": DrivenTraining.fault,
    "error": _raise,
}

_leapt_s = 0.0


def _leap(seconds: float) -> None:
    global _leapt_s
    _leapt_s += seconds


def _let_leap() -> None:
    """From here on the clock can be moved on; done before anything has asked it."""
    monotonic, wall = SystemClock.monotonic, SystemClock.wall
    SystemClock.monotonic = staticmethod(lambda: monotonic() + _leapt_s)
    SystemClock.wall = staticmethod(lambda: wall() + _leapt_s)


def obey(driver: Driver, order: DrivenTraining) -> dict[str, Any]:
    """Train once; what came of it."""
    digest, error = "", ""
    with _heard() as said:
        try:
            digest = driver.train(order)
        except BaseException as raised:
            error = f"{type(raised).__name__}: {raised}"
            if not isinstance(raised, ScriptError):
                traceback.print_exc(file=sys.__stderr__)
        order.ended()
    return {
        "digest": digest,
        "error": error,
        "steps": order.steps,
        "facts": order.facts,
        "said": [line for line in said.getvalue().splitlines() if line.startswith("backprop:")],
        "finished": _finished(order),
        "patched": _looks_of(driver.PATCHED),
        "handlers": [str(signal.getsignal(number)) for number in (signal.SIGTERM, signal.SIGINT)],
    }


@contextlib.contextmanager
def _heard() -> Iterator[io.StringIO]:
    with contextlib.redirect_stderr(io.StringIO()) as said:
        yield said
    sys.stderr.write(said.getvalue())


def _finished(order: DrivenTraining) -> list[str]:
    """The outcomes that the attempt's events tell; one, if it was closed once."""
    run = order.facts.get("after", {}).get("run_id")
    if not run:
        return []
    attempts = (Path(os.environ[contract.HOME]) / "runs" / run / "attempts").iterdir()
    newest = max(attempts, key=lambda one: int(one.name))
    events = [json.loads(line) for line in (newest / "events.jsonl").read_text().splitlines()]
    return [one["outcome"] for one in events if one["kind"] == "session_finished"]


def _looks_of(owners: tuple[Any, ...]) -> list[str]:
    """Every attribute of the owners, by name and identity."""
    return sorted(
        f"{owner.__name__}.{name} {id(value)}" for owner in owners for name, value in vars(owner).items()
    )


def main() -> None:
    """Child process of `AdapterContract`."""
    _let_leap()
    driver: Any = import_module(sys.argv[1])
    orders = json.loads(sys.stdin.read())
    made = {name: obey(driver, DrivenTraining(**order)) for name, order in orders.items()}
    print("\n" + json.dumps(made))


if (
    __name__ == "__main__"
):  # under its own name, so that what an order counts is not taken for the script's state
    import_module("backprop_core.testing.adapter_driver").main()
