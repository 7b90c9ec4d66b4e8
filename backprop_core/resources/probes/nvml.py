"""NVIDIA's management library, by nvidia-ml-py (`import pynvml`): one handle kept open, every field
optional.
"""

from __future__ import annotations

import contextlib
import importlib
import threading
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

from backprop_core.resources.probes.numbers import consistent, percent, power, size, temperature
from backprop_core.resources.samples import GpuReading, GpuSample

_T = TypeVar("_T")


class Nvml:
    """Reads GPUs, and the instances of those that are cut up (MIG), by UUID.

    Args:
        library: the module to use instead of `pynvml`, for tests.
    """

    name = "nvml"

    def __init__(self, library: Any = None) -> None:
        self._library = library
        self._open = False
        self._lock = threading.Lock()
        self.absent = False
        """Neither the module nor the driver's library is installed: then there is nobody to know of a GPU."""

    def read(self) -> GpuReading:
        with self._lock:
            try:
                self._start()
                found: list[GpuSample] = []
                notes: list[str] = []
                for index in range(int(self._library.nvmlDeviceGetCount())):
                    found += self._device(index, notes)
                return GpuReading(tuple(found), self.name, tuple(dict.fromkeys(notes)))
            except Exception as error:  # whatever a driver answers, the run goes on
                self._shut()  # a driver that was reloaded needs a new handle
                self.absent = isinstance(error, ImportError) or "LibraryNotFound" in type(error).__name__
                return GpuReading(None, self.name, (f"NVML does not answer: {_words(error)}.",))

    def memory_by_pid(self) -> dict[str, dict[int, int]] | None:
        with self._lock:
            try:
                self._start()
                return {uuid: self._processes(handle) for handle, uuid in self._handles()}
            except Exception:
                return None

    def close(self) -> None:
        with self._lock:
            self._shut()

    def _start(self) -> None:
        if self._library is None:
            self._library = importlib.import_module("pynvml")
        if not self._open:
            self._library.nvmlInit()
            self._open = True

    def _shut(self) -> None:
        if self._open:
            self._open = False
            with contextlib.suppress(Exception):
                self._library.nvmlShutdown()

    def _device(self, index: int, notes: list[str]) -> list[GpuSample]:
        library = self._library
        try:
            handle = library.nvmlDeviceGetHandleByIndex(index)
            uuid = _text(library.nvmlDeviceGetUUID(handle))
        except Exception as error:  # one card that fell off the bus does not hide the others
            notes.append(f"GPU {index} does not answer: {_words(error)}.")
            return []
        whole = self._sample(handle, index, uuid)
        parts = self._instances(handle, whole)
        return parts if parts is not None else [whole]

    def _sample(self, handle: Any, index: int, uuid: str, parent: GpuSample | None = None) -> GpuSample:
        library = self._library
        total, used, free, shares, trouble = self._memory(handle)
        heat = self._maybe(lambda: library.nvmlDeviceGetTemperature(handle, library.NVML_TEMPERATURE_GPU))
        busy = self._maybe(lambda: library.nvmlDeviceGetUtilizationRates(handle).gpu)
        milliwatts = power(self._maybe(lambda: library.nvmlDeviceGetPowerUsage(handle) / 1000))
        return GpuSample(
            uuid=uuid,
            visible=uuid,
            vendor="nvidia",
            index=index,
            name=self._maybe(lambda: _text(library.nvmlDeviceGetName(handle))),
            memory_total_bytes=total,
            memory_used_bytes=used,
            memory_free_bytes=free,
            temperature_c=parent.temperature_c if parent else temperature(heat),
            utilization_percent=percent(busy),
            power_w=None if parent else milliwatts,
            shares_host_memory=shares,
            trouble=trouble,
            parent_uuid=parent.uuid if parent else None,
        )

    def _memory(self, handle: Any) -> tuple[int | None, int | None, int | None, bool, str]:
        """Total, used, free, whether the GPU has no memory of its own, and why it cannot be used."""
        try:
            info = self._library.nvmlDeviceGetMemoryInfo(handle)
            sizes = consistent(size(info.total, 1), size(info.used, 1), size(info.free, 1))
            return *sizes, False, ""
        except Exception as error:
            # A GPU in one chip with the processor (Grace-Blackwell desktops, Jetson) supports no such question.
            kind = type(error).__name__
            broken = any(word in kind for word in ("ResetRequired", "GpuIsLost"))
            return None, None, None, "NotSupported" in kind, _words(error) if broken else ""

    def _instances(self, handle: Any, parent: GpuSample) -> list[GpuSample] | None:
        """The MIG instances of a GPU that is cut up, else None: such a GPU cannot be used as a whole."""
        parts = self._parts(handle)
        if parts is None:
            return None
        return [self._sample(part, parent.index or 0, uuid, parent) for part, uuid in parts]

    def _parts(self, handle: Any) -> list[tuple[Any, str]] | None:
        """Handle and UUID of each MIG instance; None if the GPU is not cut up."""
        library = self._library
        if self._maybe(lambda: library.nvmlDeviceGetMigMode(handle)[0]) != 1:
            return None
        found = []
        for number in range(self._maybe(lambda: int(library.nvmlDeviceGetMaxMigDeviceCount(handle))) or 0):
            part = self._maybe(partial(library.nvmlDeviceGetMigDeviceHandleByIndex, handle, number))
            uuid = None if part is None else self._uuid(part)
            if uuid is not None:
                found.append((part, uuid))
        return found

    def _handles(self) -> list[tuple[Any, str]]:
        """Handle and UUID of every device that a process can use."""
        library = self._library
        found: list[tuple[Any, str]] = []
        for index in range(int(library.nvmlDeviceGetCount())):
            handle = self._maybe(partial(library.nvmlDeviceGetHandleByIndex, index))
            uuid = None if handle is None else self._uuid(handle)
            if uuid is not None:
                parts = self._parts(handle)
                found += [(handle, uuid)] if parts is None else parts
        return found

    def _uuid(self, handle: Any) -> str | None:
        return self._maybe(lambda: _text(self._library.nvmlDeviceGetUUID(handle)))

    def _processes(self, handle: Any) -> dict[int, int]:
        used: dict[int, int] = {}
        for process in self._maybe(lambda: self._library.nvmlDeviceGetComputeRunningProcesses(handle)) or []:
            taken = size(getattr(process, "usedGpuMemory", None), 1)
            if taken is not None:
                used[int(process.pid)] = used.get(int(process.pid), 0) + taken
        return used

    @staticmethod
    def _maybe(ask: Callable[[], _T]) -> _T | None:
        """The answer, or None: every question may be unsupported here, forbidden, or older than the
        driver.
        """
        try:
            return ask()
        except Exception:
            return None


def _text(value: object) -> str:
    text = value.decode("utf-8", "replace") if isinstance(value, bytes) else value
    if not isinstance(text, str) or not text:
        raise ValueError("no text")
    return text


def _words(error: Exception) -> str:
    return str(error)[:200].rstrip(".") or type(error).__name__
