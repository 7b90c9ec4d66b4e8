"""One process life of a run, as a folder: the events it writes and the requests it reads."""

from __future__ import annotations

from pathlib import Path

from backprop_core.clock import SYSTEM, Clock
from backprop_core.errors import StoreError
from backprop_core.quick_dataclass import dataclass
from backprop_core.runs.control import CONTROL_FILE, ControlReader
from backprop_core.runs.events import EventLog

EVENTS_FILE = "events.jsonl"
GOVERNOR_FILE = "governor.jsonl"
OUTPUT_FILE = "output.log"


def attempt_dir(run_dir: Path, number: int) -> Path:
    """The folder of attempt `number` (1, 2, ...) of the run in `run_dir`."""
    if number < 1:
        raise ValueError(f"attempts are numbered from 1, not {number}")
    return run_dir / "attempts" / str(number)


@dataclass(frozen=True, slots=True)
class Attempt:
    """The folder of one attempt.

    Attributes:
        number: 1 for the first.
        directory: its folder; exists.
        events: what the training process writes. The file is made by the first append.
        clock: the clock of its events.
    """

    number: int
    directory: Path
    events: EventLog
    clock: Clock

    @staticmethod
    def join(run_dir: Path, number: int, clock: Clock = SYSTEM) -> Attempt:
        """The attempt that a governor has begun, as the training process under it sees it.

        Raises:
            StoreError: there is no such attempt.
        """
        directory = attempt_dir(run_dir, number)
        if not directory.is_dir():
            raise StoreError(
                f"There is no attempt {number} in {run_dir}.",
                "Its folder was removed; start the run again with 'backprop resume'.",
                path=directory,
            )
        return Attempt(number, directory, EventLog(directory / EVENTS_FILE, clock), clock)

    def control(self) -> ControlReader:
        """A new reader of the requests to this attempt; it begins with the first."""
        return ControlReader(self.directory / CONTROL_FILE, self.clock)

    @property
    def governor_log(self) -> Path:
        """Where the governor, and nobody else, writes its events."""
        return self.directory / GOVERNOR_FILE
