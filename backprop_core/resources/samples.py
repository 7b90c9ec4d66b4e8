"""What probes see, as frozen values with units in their names. What is not known is None, never a guess."""

from __future__ import annotations

from dataclasses import field

from backprop_core.quick_dataclass import dataclass

MIB = 1024**2
GIB = 1024**3


@dataclass(frozen=True, slots=True)
class HostSample:
    """The machine, as far as this process may use it.

    Attributes:
        memory_total_bytes: of the machine, or of the container where that is less.
        memory_free_bytes: what can still be allocated: the least of MemAvailable and every cgroup's headroom.
        memory_bound: which of them that was, such as "the machine" or "cgroup /job".
        load_1m: load average over a minute.
        cpus: CPUs that this process may use, fractions where a quota says so.
        cpu_energy_j: joules that all processors of the machine have taken since the first reading.
    """

    memory_total_bytes: int | None = None
    memory_free_bytes: int | None = None
    memory_bound: str = ""
    load_1m: float | None = None
    cpus: float | None = None
    cpu_energy_j: float | None = None

    @property
    def load_per_cpu(self) -> float | None:
        if self.load_1m is None or not self.cpus:
            return None
        return self.load_1m / self.cpus


@dataclass(frozen=True, slots=True)
class GpuSample:
    """One device that a process can be given: a GPU, or an instance of one that is cut up (MIG).

    Attributes:
        uuid: names the device for good; for AMD without a unique id a made-up one with its index.
        visible: what the mask variable takes for it.
        vendor: "nvidia" or "amd".
        index: in PCI order.
        shares_host_memory: it has no memory of its own (or does not tell): the machine's counts.
        parent_uuid: the GPU that a MIG instance is part of.
        trouble: why it cannot be used at all, in its driver's words; empty for a GPU that works.
    """

    uuid: str
    visible: str
    vendor: str
    index: int | None = None
    name: str | None = None
    memory_total_bytes: int | None = None
    memory_used_bytes: int | None = None
    memory_free_bytes: int | None = None
    temperature_c: float | None = None
    utilization_percent: float | None = None
    power_w: float | None = None
    shares_host_memory: bool = False
    parent_uuid: str | None = None
    trouble: str = ""


@dataclass(frozen=True, slots=True)
class GpuReading:
    """What one probe says about all GPUs.

    Attributes:
        gpus: the devices; () if there are none; None if that could not be found out.
        probe: the name of the probe.
        notes: sentences about what could not be read, and why.
    """

    gpus: tuple[GpuSample, ...] | None
    probe: str
    notes: tuple[str, ...] = ()


NO_READING = GpuReading(None, "none")


@dataclass(frozen=True, slots=True)
class Sample:
    """Host and GPUs at one moment. `monotonic_s` is when it was taken."""

    monotonic_s: float
    host: HostSample = field(default_factory=HostSample)
    gpu: GpuReading = NO_READING
    notes: tuple[str, ...] = ()

    @property
    def gpus(self) -> tuple[GpuSample, ...]:
        return self.gpu.gpus or ()
