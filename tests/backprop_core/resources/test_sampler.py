"""The sampler: a probe that hangs or breaks its promise costs its value and nothing else."""

from __future__ import annotations

import threading
from collections.abc import Callable

from backprop_core.clock import SYSTEM
from backprop_core.resources.sampler import Sampler
from backprop_core.resources.samples import GpuReading, HostSample
from backprop_core.testing.clock import FakeClock


class Host:
    def read(self) -> HostSample:
        return HostSample(memory_free_bytes=5)


class Gpu:
    name = "odd"

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.gate.set()
        self.error: Exception | None = None
        self.reads = 0
        self.closed = False
        self.on_read: Callable[[], None] = lambda: None

    def read(self) -> GpuReading:
        self.gate.wait(30.0)
        self.reads += 1
        self.on_read()
        if self.error is not None:
            raise self.error
        return GpuReading((), self.name)

    def memory_by_pid(self) -> dict[str, dict[int, int]] | None:
        return None

    def close(self) -> None:
        self.closed = True


def wait_until(condition: object) -> None:
    end = SYSTEM.monotonic() + 30.0
    while not condition():  # type: ignore[operator]
        assert SYSTEM.monotonic() < end
        SYSTEM.sleep(0.002)


def test_now_is_fresh_each_time() -> None:
    """Every call is a reading of its own, and `latest` gives it without another."""
    gpu = Gpu()
    sampler = Sampler(Host(), gpu, SYSTEM)
    first, second = sampler.now(), sampler.now()
    assert second.monotonic_s > first.monotonic_s
    assert gpu.reads == 2
    assert sampler.latest(every_s=60.0) == second
    assert gpu.reads == 2
    sampler.close()
    assert gpu.closed


def test_a_dear_probe_is_asked_seldom_and_the_host_as_often_as_wanted() -> None:
    """A reading of 1.5 s is followed by a pause of 15 s, while host samples come every second."""
    clock = FakeClock()
    gpu = Gpu()
    sampler = Sampler(Host(), gpu, clock)
    gpu.on_read = lambda: clock.advance(1.5)
    assert sampler.latest() is None
    wait_until(lambda: sampler.latest(every_s=0.0) is not None)
    seen = set()
    for _ in range(14):
        clock.advance(1.0)
        sample = sampler.latest()
        assert sample is not None
        seen.add(sample.monotonic_s)
    assert len(seen) == 14
    assert gpu.reads == 1
    clock.advance(1.5)
    sampler.latest()
    wait_until(lambda: gpu.reads == 2)
    sampler.close()


def test_a_probe_that_raises_is_unknown() -> None:
    """A plugin's exception is a note."""
    gpu = Gpu()
    gpu.error = RuntimeError("boom")
    sampler = Sampler(Host(), gpu, SYSTEM)
    sample = sampler.now()
    assert sample.gpu.gpus is None
    assert "boom" in sample.gpu.notes[0]
    assert sample.host.memory_free_bytes == 5
    sampler.close()


def test_a_probe_that_hangs_leaves_the_host_known_and_comes_back() -> None:
    """While it hangs both questions answer in time, with the host's values; afterwards all is well, on one
    thread.
    """
    gpu = Gpu()
    sampler = Sampler(Host(), gpu, SYSTEM, timeout_s=0.1)
    assert sampler.now().gpu.gpus == ()
    gpu.gate.clear()
    for _ in range(3):
        silent = sampler.now()
        assert silent.gpu.gpus is None
        assert "0.1 s" in silent.gpu.notes[0]
        assert silent.host.memory_free_bytes == 5
    wait_until(lambda: (sample := sampler.latest(every_s=0.0)) is not None and sample.gpu.gpus is None)
    assert sum(thread.name == "backprop-sampler" for thread in threading.enumerate()) >= 1
    gpu.gate.set()
    wait_until(lambda: sampler.now().gpu.gpus == ())
    sampler.close()


def test_latest_never_waits() -> None:
    """Before the first reading there is None at once; later the newest."""
    gpu = Gpu()
    gpu.gate.clear()
    sampler = Sampler(Host(), gpu, SYSTEM)
    assert sampler.latest() is None
    gpu.gate.set()
    wait_until(lambda: sampler.latest() is not None)
    sampler.close()


def test_closing_while_a_probe_hangs_returns() -> None:
    """The thread is left to the process's end, and the handle is not closed under it."""
    gpu = Gpu()
    gpu.gate.clear()
    sampler = Sampler(Host(), gpu, SYSTEM, timeout_s=0.05)
    sampler.now()
    sampler.close()
    assert not gpu.closed
    gpu.gate.set()
