"""Asks the probes on a thread of its own, so that one that hangs costs its value and nothing else."""

from __future__ import annotations

import threading
from typing import Protocol

from backprop_core.clock import Clock
from backprop_core.resources.samples import GpuReading, HostSample, Sample

TIMEOUT_S = 6.0
PAUSE_PER_READING = 10.0


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
    """Host and GPU probes behind two questions: `now` for admission, `latest` for a loop that must not wait.

    The host is read by whoever asks, because that cannot hang and takes a millisecond. GPUs are read on a
    thread
    that ends with the answer (with a thread beside it the kernel would tell the script of a killed governor's death twice),
    and the dearer a probe is the seldomer: its readings take at most a tenth of the time.
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
        self._asked_at_s = 0.0
        self._answered_at_s = 0.0
        self._took_s = 0.0
        self._reading: GpuReading | None = None
        self._latest: Sample | None = None

    @property
    def gpu_probe(self) -> GpuProbe:
        return self._gpu

    def now(self) -> Sample:
        """A sample taken now; after `timeout_s` seconds of silence from the GPUs, the host and a note
        about that.
        """
        answered = self._ask()
        reading = self._reading if self._clock.wait(answered, self._timeout_s) else None
        return self._sample(reading or self._silence())

    def latest(self, *, every_s: float = 1.0) -> Sample | None:
        """The newest sample, at once, at most `every_s` seconds old; None until the GPUs have first answered.

        Its GPU values may be older, where the probe is dear. While the probe hangs they are unknown.
        """
        now_s = self._clock.monotonic()
        with self._lock:  # a reading that ends at this moment tells how dear it was
            pause_s = max(every_s, PAUSE_PER_READING * self._took_s)
            if self._reading is None or now_s - self._answered_at_s >= pause_s:
                self._begin_reading()
        hangs = self._asked.is_set() and now_s - self._asked_at_s > self._timeout_s
        if self._reading is None and not hangs:
            return None
        if hangs or self._latest is None or now_s - self._latest.monotonic_s >= every_s:
            return self._sample(self._silence() if hangs or self._reading is None else self._reading)
        return self._latest

    def close(self) -> None:
        """End the thread where it can be ended; one that hangs in a driver dies with the process."""
        with self._lock:
            self._closed = True
        thread = self._thread
        if thread is not None:
            thread.join(0.2)
        if thread is None or not thread.is_alive():
            self._gpu.close()

    def _ask(self) -> threading.Event:
        """Make sure that a reading is under way; the event that its end sets."""
        with self._lock:
            return self._begin_reading()

    def _begin_reading(self) -> threading.Event:
        """The same, for whoever holds the lock."""
        if not self._asked.is_set() and not self._closed:
            self._asked_at_s = self._clock.monotonic()
            self._answered = threading.Event()
            self._asked.set()
            self._thread = threading.Thread(target=self._work, name="backprop-sampler", daemon=True)
            self._thread.start()
        return self._answered

    def _work(self) -> None:
        reading = self._read_gpu()
        with self._lock:
            self._reading = reading
            self._answered_at_s = self._clock.monotonic()
            self._took_s = self._answered_at_s - self._asked_at_s
            self._asked.clear()
            self._answered.set()

    def _read_gpu(self) -> GpuReading:
        try:
            return self._gpu.read()
        except Exception as error:  # a plugin's probe that breaks its promise
            return GpuReading(
                None, self._gpu.name, (f"The GPU probe {self._gpu.name} failed: {error!r:.200}.",)
            )

    def _sample(self, gpu: GpuReading) -> Sample:
        self._latest = Sample(self._clock.monotonic(), self._host.read(), gpu)
        return self._latest

    def _silence(self) -> GpuReading:
        note = f"The GPU probe {self._gpu.name} has not answered for {self._timeout_s:g} s."
        return GpuReading(None, self._gpu.name, (note,))
