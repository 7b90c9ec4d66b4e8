"""What an attempt was started from, if that is to be kept."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from backprop_cli.scripts import ScriptKind
from backprop_core.clock import Clock
from backprop_core.config.sources import Settings
from backprop_core.provenance.attempt_provenance import Provenance, gather, keep
from backprop_core.resources.samples import GpuSample
from backprop_core.runs.record import RunRecord


def started_from(
    settings: Settings, record: RunRecord, gpus: Sequence[GpuSample], clock: Clock
) -> Provenance | None:
    """Gathered before the budget is reckoned, because git may take a second of it. None: it is not wanted."""
    if not settings["provenance"]:
        return None
    program = record.options.get("kind") == ScriptKind.PROGRAM
    return gather(
        command=record.command,
        cwd=Path(record.cwd),
        interpreter=None if program else record.interpreter,
        gpus=[gpu.name or gpu.uuid for gpu in gpus],
        clock=clock,
    )


def keep_provenance(run_dir: Path, number: int, origin: Provenance | None) -> str:
    """Write it into the run; a sentence where that failed, or empty."""
    return "" if origin is None else keep(run_dir, number, origin)
