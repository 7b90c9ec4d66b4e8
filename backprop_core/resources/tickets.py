"""The notes that waiting and running processes leave for each other, one small file each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from backprop_core.runs.jsontext import JSON, finite
from backprop_core.runs.process import ProcessIdentity


@dataclass(frozen=True, slots=True)
class Ticket:
    """One process in the queue, or in a slot.

    Attributes:
        number: rises; who has the lower one came first.
        run_id: what it is for.
        process: who waits, or watches the run.
        script: the training process once there is one: while it lives the slot is taken, also without its
        governor.
        since_wall: when it came, seconds since 1970.
        running: it has a slot.
        seen_s: when a waiting process last asked, monotonic: one that is stopped is not waited for.
        ram_bytes, vram_bytes, gpu_uuids: what it was promised, until `warm_until_s` (monotonic).
    """

    number: int
    run_id: str
    process: ProcessIdentity
    since_wall: float
    seen_s: float
    running: bool = False
    script: ProcessIdentity | None = None
    ram_bytes: int = 0
    vram_bytes: int = 0
    gpu_uuids: tuple[str, ...] = ()
    warm_until_s: float = 0.0

    def to_json(self) -> JSON:
        return {
            "number": self.number,
            "run_id": self.run_id,
            "process": self.process.to_json(),
            "script": self.script.to_json() if self.script else None,
            "since_wall": self.since_wall,
            "seen_s": self.seen_s,
            "running": self.running,
            "ram_bytes": self.ram_bytes,
            "vram_bytes": self.vram_bytes,
            "gpu_uuids": list(self.gpu_uuids),
            "warm_until_s": self.warm_until_s,
        }

    @staticmethod
    def from_json(value: object) -> Ticket | None:
        """The ticket in `value`, or None if it makes no sense."""
        if not isinstance(value, Mapping):
            return None
        process = ProcessIdentity.from_json(value.get("process"))
        number = value.get("number")
        if process is None or isinstance(number, bool) or not isinstance(number, int):
            return None
        uuids = value.get("gpu_uuids")
        return Ticket(
            number=number,
            run_id=str(value.get("run_id", "")),
            process=process,
            since_wall=finite(value.get("since_wall")) or 0.0,
            seen_s=finite(value.get("seen_s")) or 0.0,
            running=value.get("running") is True,
            script=ProcessIdentity.from_json(value.get("script")),
            ram_bytes=_bytes(value.get("ram_bytes")),
            vram_bytes=_bytes(value.get("vram_bytes")),
            gpu_uuids=tuple(str(uuid) for uuid in uuids) if isinstance(uuids, list) else (),
            warm_until_s=finite(value.get("warm_until_s")) or 0.0,
        )

    def asked_at(self, now_s: float) -> Ticket:
        """The ticket of a process that has just asked again."""
        return replace(self, seen_s=now_s)


def _bytes(value: object) -> int:
    number = finite(value)
    return max(0, int(number)) if number is not None else 0
