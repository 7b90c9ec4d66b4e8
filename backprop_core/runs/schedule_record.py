"""What a schedule that depends on time had at each step, in a file of the run: eight bytes a step, NaN for an unknown.

It is written step by step and past every buffer of the process, so a kill loses none of it.
"""

from __future__ import annotations

import math
import os
import struct
from pathlib import Path

from backprop_core.errors import StoreError
from backprop_core.runs.atomic import write_error

FOLDER = "schedules"
_VALUE = struct.Struct("<d")


def schedule_file(run_dir: Path, name: str, box: int = 1) -> Path:
    """Where the schedule `name` of a run is recorded; each training of a script has its own.

    Args:
        box: 1 for the first training of the script, 2 for the next.
    """
    return run_dir / FOLDER / (f"{name}.f64" if box == 1 else f"{name}.box-{box}.f64")


class ScheduleRecord:
    """The values of one schedule by step.

    Args:
        path: its file; made at the first `put`.
        anew: what an earlier training wrote there is thrown away.
    """

    def __init__(self, path: Path, *, anew: bool = False) -> None:
        self.path = path
        self._file = -1
        self._values = [] if anew else read_schedule(path)
        self._anew = anew

    def get(self, step: int) -> float | None:
        """What step `step` had, or None where it is not recorded."""
        if not 0 <= step < len(self._values) or math.isnan(self._values[step]):
            return None
        return self._values[step]

    def put(self, step: int, value: float) -> None:
        """Record what step `step` has.

        Raises:
            StoreError: the file cannot be written.
        """
        try:
            if self._file < 0:
                self._open()
            hole = max(0, step - len(self._values))
            self._values += [math.nan] * hole + [value] * (step == len(self._values) + hole)
            self._values[step] = value
            data = _VALUE.pack(math.nan) * hole + _VALUE.pack(value)
            os.pwrite(self._file, data, (step - hole) * _VALUE.size)
        except OSError as error:
            raise write_error(self.path, error) from error

    def _open(self) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        flags = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | (os.O_TRUNC if self._anew else 0)
        self._file = os.open(self.path, flags, 0o600)

    def close(self) -> None:
        """Write no more."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1


def read_schedule(path: Path) -> list[float]:
    """The values in a file; none where there is no such file. A torn last value is left out.

    Raises:
        StoreError: it cannot be read.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return []
    except OSError as error:
        raise StoreError(
            f"{path} cannot be read: {error.strerror}.", "Check its owner and mode.", path=path
        ) from error
    whole = len(data) // _VALUE.size * _VALUE.size
    return [value for (value,) in _VALUE.iter_unpack(data[:whole])]
