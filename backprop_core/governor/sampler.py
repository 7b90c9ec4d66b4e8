"""Asks the probes on a thread of its own, so that one that hangs costs its value and nothing else."""

from __future__ import annotations

import threading
from typing import Protocol

from backprop_core.clock import Clock
from backprop_core.governor.samples import GpuReading, HostSample, Sample

TIMEOUT_S = 6.0


class HostProbe(Protocol):
    """Reads memory and load. Never raises; what cannot be read is None."""

    def read(self) -> HostSample: ...


class GpuProbe(Protocol):
    """Reads all GPUs. Never raises: a crash, a time-out or nonsense is an unknown value with a note."""

    @property
    def name(self) -> str: ...

    def read(self) -> GpuReading: ...

    def memory_by_pid(self) -> dict[str, dict[int, int]] | None:
        """Bytes by process, by device UUID; None if that cannot be told."""
        ...

    def close(self) -> None: ...


class Sampler:
    """Host and GPU probes behind two questions: `now` for admission, `latest` for a loop that must not
    wait.
    """

    def __init__(self, host: HostProbe, gpu: GpuProbe, clock: Clock, *, timeout_s: float = TIMEOUT_S) -> None:
        self._host = host
        self._gpu = gpu
        self._clock = clock
        self._timeout_s = timeout_s
        self._lock = threading.Lock()
        self._asked = threading.Event()
        self._answered = threading.Event()
        self._closed = False
        self._thread: threading.Thread | None = None
        self._since_s = 0.0
        self._latest: Sample | None = None

    @property
    def gpu_probe(self) -> GpuProbe:
        return self._gpu

    def now(self) -> Sample:
        """A sample taken now, or what can be said after `timeout_s` seconds: the host, and that the GPUs
        are silent.
        """
        answered = self._ask()
        if self._clock.wait(answered, self._timeout_s) and self._latest is not None:
            return self._latest
        return self._silent()

    def latest(self, *, every_s: float = 1.0) -> Sample | None:
        """The newest sample there is, at once; asks for another if it is older than `every_s` seconds.

        None until there is a first one. While the probe hangs: a sample of the host alone.
        """
        now_s, latest = self._clock.monotonic(), self._latest
        if latest is None or now_s - latest.monotonic_s >= every_s:
            self._ask()
            if now_s - self._since_s > self._timeout_s:
                return self._silent()
        return latest

    def close(self) -> None:
        """End the thread where it can be ended; one that hangs in a driver dies with the process."""
        with self._lock:
            self._closed = True
            self._asked.set()
        thread = self._thread
        if thread is not None:
            thread.join(0.2)
        if thread is None or not thread.is_alive():
            self._gpu.close()

    def _ask(self) -> threading.Event:
        """Make sure that a reading is under way; the event that its end sets."""
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="backprop-sampler", daemon=True)
                self._thread.start()
            if not self._asked.is_set():
                self._since_s = self._clock.monotonic()
                self._answered = threading.Event()
                self._asked.set()
            return self._answered

    def _work(self) -> None:
        while True:
            self._asked.wait()
            if self._closed:
                return
            host, gpu = self._host.read(), self._read_gpu()
            with self._lock:
                self._latest = Sample(self._clock.monotonic(), host, gpu)
                self._asked.clear()
                self._answered.set()

    def _read_gpu(self) -> GpuReading:
        try:
            return self._gpu.read()
        except Exception as error:  # a plugin's probe that breaks its promise
            return GpuReading(
                None, self._gpu.name, (f"The GPU probe {self._gpu.name} failed: {error!r:.200}.",)
            )

    def _silent(self) -> Sample:
        note = f"The GPU probe {self._gpu.name} has not answered for {self._timeout_s:g} s."
        gpu = GpuReading(None, self._gpu.name, (note,))
        return Sample(self._clock.monotonic(), self._host.read(), gpu)
