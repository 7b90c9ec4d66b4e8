"""Sessions of other processes in the same attempt: a script may train in processes that it starts.

One after another they count on: the second training of an attempt is its second box, whichever process it runs in. At once,
and not as the ranks of one training, only the first has the session. What is saved then cannot be told from what another of
them would have saved, so a resume restores nothing.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping

from backprop_core.events.kinds import Ended, SessionStarted
from backprop_core.launched_rank import is_first
from backprop_core.outcome import Outcome
from backprop_core.quick_dataclass import dataclass
from backprop_core.runs.attempt import EVENTS_FILE, Attempt
from backprop_core.runs.events import Line, read_kinds
from backprop_core.session import attach_rules
from backprop_core.session.child_process import parent_pid
from backprop_core.strict_json import as_whole

SEVERAL_FILE = "several-trainings"
"""In an attempt's folder where two processes wanted to train at once."""
_OVER = frozenset(str(outcome) for outcome in Outcome) - {Outcome.RUNNING, Outcome.FAILED, Outcome.LOST}
RESTORES_NOTHING = (
    "Several processes of this script trained at once before, each by itself, and the checkpoint is from one of them. It is "
    "not known from which, so nothing is restored."
)


@dataclass(frozen=True, slots=True)
class Others:
    """What other processes have done in an attempt.

    Attributes:
        boxes: how many boxes they have had that are over; one that failed or died is begun again.
        last_pid: the process of the newest session, or None.
    """

    boxes: int = 0
    last_pid: int | None = None


def others_in(attempt: Attempt) -> Others:
    """The sessions that processes other than this one have had in the attempt, as its events tell."""
    boxes, last_pid = 0, None
    running: Line | None = None
    for event in read_kinds(attempt.directory / EVENTS_FILE, (SessionStarted.kind, Ended.kind)):
        kind = event["kind"]
        if kind == SessionStarted.kind:
            running, last_pid = event, as_whole(event.get("pid"))
        elif kind == Ended.kind and running is not None and event.get("outcome") in _OVER:
            if last_pid != os.getpid():
                boxes = max(boxes, as_whole(running.get("box")) or 1)
            running = None
    return Others(boxes, last_pid)


def note_taken(attempt: Attempt, environ: Mapping[str, str]) -> None:
    """The attempt has a session. Where it is another process's, this one trains unsaved: that is said, and noted down."""
    pid = others_in(attempt).last_pid
    if pid is None or pid == os.getpid() or not is_first(environ):
        return
    if pid == parent_pid():  # in every attempt the one that starts this one trains first, and has the session
        attach_rules.trains_beside(pid)
        return
    with contextlib.suppress(OSError):
        (attempt.directory / SEVERAL_FILE).touch()
    attach_rules.trains_beside(
        pid,
        " They are not ranks of one training, so a resume could not tell them apart: it starts from scratch.",
    )


def trained_at_once(attempt: Attempt) -> bool:
    """Whether two processes wanted to train at once in an earlier attempt of this run."""
    folder = attempt.directory.parent
    return any((folder / str(number) / SEVERAL_FILE).exists() for number in range(1, attempt.number))
