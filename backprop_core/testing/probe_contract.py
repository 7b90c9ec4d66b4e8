"""What every GPU probe must do, as a test class: derive from it, tell it how to make the probe and its
troubles.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable

from backprop_core.clock import SYSTEM
from backprop_core.quick_dataclass import dataclass
from backprop_core.resources.sampler import GpuProbe, Sampler
from backprop_core.resources.samples import MIB, GpuReading, HostSample

TROUBLES = ("crash", "hang", "nonsense", "torn", "silent fields")
_PATIENCE_S = 20.0


@dataclass
class Scene:
    """A probe and the means to change what it sees.

    Attributes:
        probe: under test.
        show: two GPUs, the second with these used MiB and °C; both of 24,576 MiB.
        break_down: makes the trouble of that name from now on; False if it cannot happen to this probe.
        heal: ends every trouble.
    """

    probe: GpuProbe
    show: Callable[[int, int], None]
    break_down: Callable[[str], bool]
    heal: Callable[[], None]


class NoHost:
    """A host probe that knows nothing."""

    def read(self) -> HostSample:
        return HostSample()


class GpuProbeContract(ABC):
    """Derive, implement `scene`, and run with pytest."""

    @abstractmethod
    def scene(self) -> Scene:
        """A fresh scene, with no trouble and two GPUs shown."""

    def test_it_sees_memory_and_heat_of_each_gpu(self) -> None:
        """Sizes are in bytes, temperatures in °C, devices in order and with different names."""
        scene = self.scene()
        scene.show(4_096, 77)
        reading = scene.probe.read()
        assert reading.gpus is not None
        first, second = reading.gpus
        assert second.memory_total_bytes == 24_576 * MIB
        assert second.memory_used_bytes == 4_096 * MIB
        assert second.memory_free_bytes == 20_480 * MIB
        assert second.temperature_c == 77
        assert (first.index, second.index) == (0, 1)
        assert first.uuid != second.uuid
        assert first.visible != second.visible
        assert not second.shares_host_memory
        assert reading.notes == ()
        scene.probe.close()

    def test_it_sees_what_changes(self) -> None:
        """A second reading shows the second truth."""
        scene = self.scene()
        scene.show(1, 50)
        scene.probe.read()
        scene.show(2, 60)
        reading = scene.probe.read()
        assert reading.gpus is not None
        assert reading.gpus[1].temperature_c == 60
        assert reading.gpus[1].memory_used_bytes == 2 * MIB
        scene.probe.close()

    def test_trouble_makes_values_unknown_and_passes(self) -> None:
        """A crash, a hang, nonsense, a torn answer, silent fields: unknown with a note, never an
        exception; then well.
        """
        for trouble in TROUBLES:
            scene = self.scene()
            if not scene.break_down(trouble):
                continue
            sampler = Sampler(NoHost(), scene.probe, SYSTEM, timeout_s=5.0)
            reading = sampler.now().gpu
            self._check_unknown(trouble, reading)
            scene.heal()
            scene.show(3, 70)
            end = SYSTEM.monotonic() + _PATIENCE_S
            while (after := sampler.now().gpu).gpus is None:
                assert SYSTEM.monotonic() < end, f"not well after {trouble}: {after.notes}"
            assert after.gpus[1].temperature_c == 70
            sampler.close()

    def test_processes_never_raise(self) -> None:
        """Who uses which memory is told, or unknown, in trouble too."""
        for trouble in ("", *TROUBLES):
            scene = self.scene()
            if trouble == "hang" or (trouble and not scene.break_down(trouble)):
                continue
            used = scene.probe.memory_by_pid()
            assert used is None or all(isinstance(pid, int) for of_gpu in used.values() for pid in of_gpu)
            scene.probe.close()

    def test_closing_twice_does_no_harm(self) -> None:
        """And a closed probe may be asked again."""
        scene = self.scene()
        scene.probe.close()
        scene.probe.close()
        scene.probe.read()
        scene.probe.close()

    @staticmethod
    def _check_unknown(trouble: str, reading: GpuReading) -> None:
        if reading.gpus is None:
            assert reading.notes, f"{trouble}: unknown without a word"
            assert all(len(note) < 400 for note in reading.notes)
            return
        for gpu in reading.gpus:  # some probes still see the device: then what is silent is None
            if trouble == "silent fields":
                assert gpu.temperature_c is None
                assert gpu.memory_free_bytes is None
            for size in (gpu.memory_total_bytes, gpu.memory_used_bytes, gpu.memory_free_bytes):
                assert size is None or 0 <= size <= 24_576 * MIB
            assert gpu.temperature_c is None or 0 < gpu.temperature_c < 200
