"""The machine as a table: what a run would need, what there is, and what it would be refused for."""

from __future__ import annotations

import os
from typing import Any

from backprop_cli.admission import limits_of
from backprop_core.clock import SYSTEM
from backprop_core.config.sources import Settings
from backprop_core.resources.policy import StartVerdict, admit, quantity
from backprop_core.resources.probes import make_sampler
from backprop_core.resources.samples import GIB, Sample
from backprop_core.resources.slots import Slots
from backprop_core.resources.tickets import Ticket


class Resources:
    """Looks at the machine again and again with the same probes; close it."""

    def __init__(self, settings: Settings) -> None:
        self._limits = limits_of(settings)
        self._sampler = make_sampler(settings["gpu-probe"], SYSTEM)
        self._slots = Slots(SYSTEM)

    def look(self) -> tuple[Sample, StartVerdict, list[Ticket]]:
        """What there is now, whether a run may start, and who runs."""
        sample = self._sampler.now()
        with self._slots.locked():
            queue = self._slots.look()
        reservations = queue.reservations(SYSTEM.monotonic())
        verdict = admit(self._limits, sample, reservations, running=len(queue.holders), environ=os.environ)
        return sample, verdict, list(queue.holders)

    def close(self) -> None:
        self._sampler.close()


def resource_rows(sample: Sample, verdict: StartVerdict) -> list[tuple[str, ...]]:
    """Rows of resource, value, need, verdict, detail."""
    rows: list[tuple[str, ...]] = []
    for check in verdict.checks:
        value = check.trouble or ("unknown" if check.value is None else quantity(check.value, check.unit))
        word = {True: "ok", False: "refused", None: "not checked"}[check.ok]
        rows.append((check.name, value, quantity(check.need, check.unit), word, check.detail))
    for gpu in sample.gpus:
        facts = [
            _known("{:.1f} GB used", gpu.memory_used_bytes, GIB),
            _known("of {:.1f} GB", gpu.memory_total_bytes, GIB),
            _known("{:g} °C", gpu.temperature_c),
            _known("{:g} % busy", gpu.utilization_percent),
            _known("{:g} W", gpu.power_w),
        ]
        number = gpu.uuid if gpu.index is None else str(gpu.index)
        rows.append(
            (
                f"GPU {number}",
                gpu.trouble or " ".join(filter(None, facts)) or "unknown",
                "",
                "",
                gpu.name or "",
            )
        )
    return rows


def as_json(sample: Sample, verdict: StartVerdict, holders: list[Ticket]) -> dict[str, Any]:
    """The same for programs."""
    from dataclasses import asdict

    return {
        "may_start": verdict.admitted,
        "checks": [asdict(check) for check in verdict.checks],
        "notes": list(verdict.notes),
        "running": [holder.run_id for holder in holders],
        "sample": asdict(sample),
    }


def _known(form: str, value: float | None, unit: float = 1.0) -> str:
    return "" if value is None else form.format(value / unit)
