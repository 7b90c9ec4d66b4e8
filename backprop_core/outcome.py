"""How an attempt ends, and why a checkpoint is made."""

from __future__ import annotations

from enum import StrEnum


class Outcome(StrEnum):
    """How an attempt (one process life of a run) ended, and so the status of its run. `RUNNING` until it has."""

    RUNNING = "running"
    COMPLETED = "completed"
    TIMEBOXED = "timeboxed"
    PREEMPTED = "preempted"
    STOPPED = "stopped"
    FAILED = "failed"
    LOST = "lost"


class SaveReason(StrEnum):
    """Why a checkpoint was made."""

    DEADLINE = "deadline"
    PERIODIC = "periodic"
    REQUESTED = "requested"
    PREEMPTED = "preempted"
    FINAL = "final"
    SURVIVOR = "survivor"
    """Committed by the governor when the training process had died without a word."""
