"""How an attempt ends, and why a checkpoint is made."""

from __future__ import annotations

from enum import StrEnum


class Outcome(StrEnum):
    """How an attempt (one process of a run) ended, which is also the status of its run.

    Each is a string: "running", "completed", "timeboxed" (its time was used up), "preempted" (stopped by a scheduler or the
    machine), "stopped" (by a person), "failed" (an error) and "lost" (ended without recording why).
    """

    RUNNING = "running"
    COMPLETED = "completed"
    TIMEBOXED = "timeboxed"
    PREEMPTED = "preempted"
    STOPPED = "stopped"
    FAILED = "failed"
    LOST = "lost"


class SaveReason(StrEnum):
    """Why a checkpoint was saved.

    Each is a string: "deadline", "periodic", "requested", "preempted", "final" and "survivor" (saved by the governor after
    the training process died).
    """

    DEADLINE = "deadline"
    PERIODIC = "periodic"
    REQUESTED = "requested"
    PREEMPTED = "preempted"
    FINAL = "final"
    SURVIVOR = "survivor"
    """Saved by the governor after the training process died."""
