"""The port for whoever receives the events of a run: TensorBoard, Weights & Biases, MLflow, a command, yours.

A package announces a sink by an entry point in the group `backprop.sinks`, named as users write it behind `--sink`.
It refers to a function that takes a `SinkRun` and returns a `Sink`. Each sink has a process of its own beside the
governor, which makes it, hands it the events of one attempt after the other as they appear in the run's files, and
closes it. So whatever a sink does, it costs the training nothing, and it may use any library; what it prints goes to
a file in its folder.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any, Protocol, TypeAlias

from backprop_core.announced import Announcement, announced
from backprop_core.errors import UsageError
from backprop_core.events.kinds import Event
from backprop_core.quick_dataclass import dataclass

GROUP = "backprop.sinks"


@dataclass(frozen=True, slots=True)
class SinkRun:
    """What a sink is told of the run.

    Attributes:
        run_id: id of the run.
        name: the label that the user gave it, or None.
        command: the script and its arguments.
        cwd: the folder that it runs in.
        folder: a folder of this sink's own in the run's, which exists and stays from attempt to attempt.
        argument: what stands behind the colon in `--sink NAME:ARGUMENT`, or empty.
    """

    run_id: str
    name: str | None
    command: tuple[str, ...]
    cwd: str
    folder: Path
    argument: str = ""


@dataclass(frozen=True, slots=True)
class Told:
    """One event as a sink is told of it.

    Attributes:
        event: what happened.
        line: the same as it stands in the file, with what a newer version may have added.
        attempt: the attempt that it happened in, from 1.
        wall: seconds since 1970.
    """

    event: Event
    line: Mapping[str, Any]
    attempt: int
    wall: float


class Sink(Protocol):
    """Receives the events of one run. All calls come from one thread. An error is said once, and the next event follows."""

    def take(self, told: Told) -> None:
        """One event, in the order in which its file has them."""
        ...

    def flush(self) -> None:
        """Nothing more is there at the moment, once or twice a second: write out what is held back."""
        ...

    def close(self) -> None:
        """No more events come from this command; a later resume of the run makes a new sink."""
        ...


SinkMaker: TypeAlias = Callable[[SinkRun], Sink]


@cache
def entry_points() -> Mapping[str, Announcement]:
    """The sinks that are installed, by name."""
    return {point.name: point for point in announced(GROUP)}


def split(written: str) -> tuple[str, str]:
    """`NAME:ARGUMENT` in its two parts; the second may be empty."""
    name, _, argument = written.partition(":")
    return name.strip(), argument


def check(names: Iterable[str]) -> None:
    """Raise UsageError for a name that no installed package announces, or whose library is missing."""
    from importlib.util import find_spec

    for written in names:
        name, _ = split(written)
        point = entry_points().get(name)
        if point is None:
            known = ", ".join(sorted(entry_points())) or "none"
            raise UsageError(f"There is no sink {name!r}.", f"Installed sinks: {known}.")
        needs = getattr(point.load(), "needs", None)
        if isinstance(needs, str) and find_spec(needs) is None:
            raise UsageError(
                f"The sink {name} needs the package {needs}, which is not installed in backprop's environment.",
                f"Install it: pip install 'backprop-timebox[{name}]'.",
            )
