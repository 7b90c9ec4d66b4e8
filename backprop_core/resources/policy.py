"""Whether a run may start: facts in, a verdict with its reasons out. Reads no clock, no disk, no GPU."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from backprop_core.quick_dataclass import dataclass
from backprop_core.resources.mask import Allowed, allowed, mask_for
from backprop_core.resources.samples import GIB, MIB, GpuSample, Sample

DEFAULT_LOAD_PER_CPU = 8.0


@dataclass(frozen=True, slots=True)
class Limits:
    """What must hold for a run to start and go on. None means that the user set no such limit.

    Attributes:
        max_parallel: runs at once on this machine.
        min_free_ram_bytes, min_free_vram_bytes: free memory below which nothing starts.
        max_gpu_temp_c: above it nothing starts, and a run is paused.
        max_load_per_cpu: load average per CPU above which nothing starts.
        gpu_memory: what a run may use of a GPU, as it was given: "80%" or "8" (GB).
        gpu_name: the kind of GPU that is chosen before all others that will do.
        use_gpu: False for a run that is known not to need one.
    """

    max_parallel: int = 2
    min_free_ram_bytes: int = 4 * GIB
    min_free_vram_bytes: int = 2500 * MIB
    max_gpu_temp_c: float = 85.0
    max_load_per_cpu: float | None = DEFAULT_LOAD_PER_CPU
    gpu_memory: str | None = None
    gpu_name: str | None = None
    use_gpu: bool = True

    @staticmethod
    def of(settings: Mapping[str, object], *, gpu_name: str | None = None, use_gpu: bool = True) -> Limits:
        """The limits in checked options (see `backprop_core.config.options`), by the options' names."""
        memory = settings["gpu-memory-limit"]
        return Limits(
            max_parallel=int(str(settings["max-parallel"])),
            min_free_ram_bytes=round(float(str(settings["min-free-ram"])) * GIB),
            min_free_vram_bytes=round(float(str(settings["gpu-min-vram"])) * MIB),
            max_gpu_temp_c=float(str(settings["gpu-max-temp"])),
            max_load_per_cpu=float(str(settings["max-load"])),
            gpu_memory=None if memory is None else str(memory),
            gpu_name=gpu_name,
            use_gpu=use_gpu,
        )


@dataclass(frozen=True, slots=True)
class Reservation:
    """Memory that another run has been promised and has not taken yet, because it is still warming up."""

    ram_bytes: int = 0
    vram_bytes: int = 0
    gpu_uuids: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Check:
    """One limit beside its value. `ok` is None where the value is not known. `trouble` is set where no value would do."""

    name: str
    value: float | None
    need: float
    unit: str
    ok: bool | None
    detail: str = ""
    trouble: str = ""

    @property
    def sentence(self) -> str:
        """Such as `free memory is 1.2 GB, at least 4 GB needed (3 GB of it promised to runs that are
        starting)`.
        """
        if self.trouble:
            return f"{self.detail} {_CANNOT} ({self.trouble})"
        if self.name == SLOTS and self.value is not None:  # counted with the run that asks
            active = round(self.value) - 1
            runs = "1 run is" if active == 1 else f"{active} runs are"
            return f"{runs} active (limit {quantity(self.need, '')}, --max-parallel)"
        value = "unknown" if self.value is None else quantity(self.value, self.unit)
        need = quantity(self.need, self.unit)
        bound = f"at most {need} allowed" if self.name in _UPPER else f"at least {need} needed"
        return f"{self.name} is {value}, {bound}{f' ({self.detail})' if self.detail else ''}"


def quantity(value: float, unit: str) -> str:
    """A value for people: four digits, and every digit of what has more in front of the point (81920 MB)."""
    text = f"{value:.0f}" if abs(value) >= 1000 else f"{value:.4g}"
    return f"{text} {unit}".strip()


_CANNOT = "cannot be used"
TEMPERATURE, LOAD, SLOTS = "GPU temperature", "load per CPU", "number of runs at once"
MEMORY, GPU_MEMORY, GPU_MASK = "free memory", "free GPU memory", "GPUs"
_UPPER = frozenset({TEMPERATURE, LOAD, SLOTS})


@dataclass(frozen=True, slots=True)
class StartVerdict:
    """Whether a run may start now.

    Attributes:
        admitted: every check that could be made holds.
        checks: all of them.
        gpus: the devices the run is meant for; () for none.
        environ: variables to give it, so that it sees those devices and no others; empty when the user's own
            mask stays.
        notes: sentences about what could not be found out.
    """

    admitted: bool
    checks: tuple[Check, ...]
    gpus: tuple[GpuSample, ...] = ()
    environ: Mapping[str, str] | None = None
    notes: tuple[str, ...] = ()

    @property
    def failed(self) -> tuple[Check, ...]:
        return tuple(check for check in self.checks if check.ok is False)

    @property
    def unchecked(self) -> tuple[Check, ...]:
        return tuple(check for check in self.checks if check.ok is None)

    @property
    def sentence(self) -> str:
        """Every failed limit with value and need, in one sentence."""
        return "; ".join(check.sentence for check in self.failed) or "all limits are met"


def admit(
    limits: Limits,
    sample: Sample,
    reservations: Sequence[Reservation] = (),
    *,
    running: int = 0,
    environ: Mapping[str, str] | None = None,
) -> StartVerdict:
    """Whether a run may start on what `sample` shows.

    Args:
        reservations: of other runs that are still warming up; what they will take does not count as free.
        running: runs that hold a slot now.
        environ: where the user's GPU mask is looked up.
    """
    checks = [_slots(limits, running), _memory(limits, sample, reservations), *_load(limits, sample)]
    notes = [*sample.notes, *sample.gpu.notes]
    if not limits.use_gpu:
        return _verdict(checks, (), None, notes)
    if sample.gpu.gpus is None:
        unknown = (Check(GPU_MEMORY, None, limits.min_free_vram_bytes / MIB, "MB", None),)
        return _verdict([*checks, *unknown, _heat(limits, None)], (), None, notes)
    may = allowed(sample.gpus, environ or {})
    notes += [may.note] if may.note else []
    if not may.gpus:
        return _verdict(checks, (), None, notes)
    return _with_gpus(limits, sample, reservations, may, checks, notes)


def _with_gpus(
    limits: Limits,
    sample: Sample,
    reservations: Sequence[Reservation],
    may: Allowed,
    checks: list[Check],
    notes: list[str],
) -> StartVerdict:
    ranked = [(gpu, _gpu_checks(limits, sample, reservations, gpu)) for gpu in may.gpus]
    if may.note:  # nobody can say which of them the run will see: only what all of them share is checked
        return _verdict([*checks, *_of_best(ranked, limits.gpu_name)[1]], (), None, notes)
    if may.fixed:
        every = [check for _, own in ranked for check in own]
        return _verdict([*checks, *every], may.gpus, None, notes)
    gpu, own = _of_best(ranked, limits.gpu_name)
    return _verdict([*checks, *own], (gpu,), mask_for(gpu), notes)


def _of_best(
    ranked: Sequence[tuple[GpuSample, list[Check]]], name: str | None
) -> tuple[GpuSample, list[Check]]:
    """The GPU with the fewest failures, then of the kind `name`, then with the fewest unknowns, then most free memory."""

    def rank(item: tuple[GpuSample, list[Check]]) -> tuple[int, bool, int, float, int]:
        gpu, own = item
        failed = sum(check.ok is False for check in own) + len(own) * bool(gpu.trouble)
        unknown = sum(check.ok is None for check in own)
        return failed, name is not None and gpu.name != name, unknown, -(own[0].value or 0.0), gpu.index or 0

    return min(ranked, key=rank)


def _gpu_checks(
    limits: Limits, sample: Sample, reservations: Sequence[Reservation], gpu: GpuSample
) -> list[Check]:
    if gpu.trouble:
        need_mb = limits.min_free_vram_bytes / MIB
        return [Check(GPU_MEMORY, None, need_mb, "MB", False, _label(gpu), trouble=gpu.trouble)]
    free, promised = gpu.memory_free_bytes, 0
    if gpu.shares_host_memory and free is None:
        free = sample.host.memory_free_bytes
        promised = sum(other.ram_bytes for other in reservations)
    promised += sum(other.vram_bytes for other in reservations if gpu.uuid in other.gpu_uuids)
    left = None if free is None else max(0, free - promised)
    label = _label(gpu)
    detail = f"{label}; {promised / MIB:.0f} MB reserved for runs that are starting" if promised else label
    need = limits.min_free_vram_bytes
    memory = Check(
        GPU_MEMORY, _in(left, MIB), need / MIB, "MB", None if left is None else left >= need, detail
    )
    return [memory, _heat(limits, gpu)]


def _heat(limits: Limits, gpu: GpuSample | None) -> Check:
    heat = None if gpu is None else gpu.temperature_c
    ok = None if heat is None else heat <= limits.max_gpu_temp_c
    return Check(TEMPERATURE, heat, limits.max_gpu_temp_c, "°C", ok, "" if gpu is None else _label(gpu))


def _slots(limits: Limits, running: int) -> Check:
    # Counted with the run that asks: "3 running at once, at most 2".
    return Check(SLOTS, running + 1, limits.max_parallel, "", running < limits.max_parallel)


def _memory(limits: Limits, sample: Sample, reservations: Sequence[Reservation]) -> Check:
    free, need = sample.host.memory_free_bytes, limits.min_free_ram_bytes
    promised = sum(other.ram_bytes for other in reservations)
    left = None if free is None else max(0, free - promised)
    parts = [sample.host.memory_bound] if sample.host.memory_bound else []
    parts += [f"{promised / GIB:.3g} GB reserved for runs that are starting"] if promised else []
    ok = None if left is None else left >= need
    return Check(MEMORY, _in(left, GIB), need / GIB, "GB", ok, "; ".join(parts))


def _load(limits: Limits, sample: Sample) -> list[Check]:
    most, load = limits.max_load_per_cpu, sample.host.load_per_cpu
    if most is None:
        return []
    return [Check(LOAD, load, most, "", None if load is None else load <= most)]


def _verdict(
    checks: Sequence[Check],
    gpus: tuple[GpuSample, ...],
    environ: Mapping[str, str] | None,
    notes: Sequence[str],
) -> StartVerdict:
    admitted = all(check.ok is not False for check in checks)
    return StartVerdict(admitted, tuple(checks), gpus, environ or {}, tuple(dict.fromkeys(notes)))


def _in(value: int | None, unit: int) -> float | None:
    return None if value is None else value / unit


def _label(gpu: GpuSample) -> str:
    number = "" if gpu.index is None else f" {gpu.index}"
    return f"GPU{number}{f', {gpu.name}' if gpu.name else ''}"
