"""The notes that waiting and running processes leave for each other, one small file each."""

from __future__ import annotations

from dataclasses import replace

from backprop_core.quick_dataclass import dataclass
from backprop_core.runs.process import ProcessIdentity
from backprop_core.strict_json import JSON, as_number, as_object, as_text, as_texts, as_whole


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
        content = as_object(value)
        process = ProcessIdentity.from_json(content.get("process"))
        number = as_whole(content.get("number"), least=1)
        if process is None or number is None:
            return None
        return Ticket(
            number=number,
            run_id=as_text(content.get("run_id")) or "",
            process=process,
            since_wall=as_number(content.get("since_wall")) or 0.0,
            seen_s=as_number(content.get("seen_s")) or 0.0,
            running=content.get("running") is True,
            script=ProcessIdentity.from_json(content.get("script")),
            ram_bytes=_bytes(content.get("ram_bytes")),
            vram_bytes=_bytes(content.get("vram_bytes")),
            gpu_uuids=as_texts(content.get("gpu_uuids")) or (),
            warm_until_s=as_number(content.get("warm_until_s")) or 0.0,
        )

    def asked_at(self, now_s: float) -> Ticket:
        """The ticket of a process that has just asked again."""
        return replace(self, seen_s=now_s)


def _bytes(value: object) -> int:
    number = as_number(value)
    return max(0, int(number)) if number is not None else 0
