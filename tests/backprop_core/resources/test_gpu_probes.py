"""GPU probes against their fakes: the contract, and what is special about each."""

from __future__ import annotations

import os
import sys
import threading
from pathlib import Path

import psutil
import pytest

from backprop_core.errors import UsageError
from backprop_core.resources.probes.choice import Auto, gpu_probe
from backprop_core.resources.probes.nvidia_smi import NvidiaSmi
from backprop_core.resources.probes.nvml import Nvml
from backprop_core.resources.probes.rocm import Rocm
from backprop_core.resources.probes.tool import ask
from backprop_core.resources.samples import MIB
from backprop_core.testing import nvml as fake
from backprop_core.testing.gpu_tools import FakeGpuTools, gpu
from backprop_core.testing.probe_contract import GpuProbeContract, Scene


class TestNvmlContract(GpuProbeContract):
    def scene(self) -> Scene:
        library = fake.FakeNvml(
            fake.FakeGpu(total_mib=24_576), fake.FakeGpu(uuid="GPU-22222222", total_mib=24_576)
        )

        def show(used_mib: int, temperature_c: int) -> None:
            library.gpus[1].used_mib, library.gpus[1].temperature_c = used_mib, temperature_c

        def break_down(trouble: str) -> bool:
            if trouble == "crash":
                library.trouble = RuntimeError("segfault in the driver, nearly")
            elif trouble == "hang":
                library.hang = threading.Event()
            elif trouble == "nonsense":
                library.gpus = [fake.FakeGpu(total_mib=-5, used_mib=10**12, temperature_c="warm", name=None)]
            elif trouble == "silent fields":
                silent = fake.NVMLError_NotSupported()
                for one in library.gpus:
                    one.total_mib = one.temperature_c = one.utilization_percent = one.power_w = silent
            return trouble != "torn"

        before = list(library.gpus)

        def heal() -> None:
            hang, library.hang, library.trouble = library.hang, None, None
            if hang is not None:
                hang.set()
            for one in before:
                one.total_mib, one.temperature_c, one.utilization_percent, one.power_w = 24_576, 40, 5, 100.0
            library.gpus = before

        return Scene(Nvml(library), show, break_down, heal)


class ToolContract(GpuProbeContract):
    """The contract for a probe that asks a command-line tool."""

    tools: tuple[str, ...] = ()
    hangs_s = 0.3

    @pytest.fixture(autouse=True)
    def _path(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self._fake = FakeGpuTools(tmp_path / "bin", self.tools)
        monkeypatch.setenv("PATH", str(tmp_path / "bin"))

    def probe(self) -> NvidiaSmi | Rocm:
        raise NotImplementedError

    def scene(self) -> Scene:
        def show(used_mib: int, temperature_c: int) -> None:
            self._fake.say(gpu(0), gpu(1, used_mib=used_mib, temperature_c=temperature_c))

        def break_down(trouble: str) -> bool:
            if trouble == "silent fields":
                silent = {"total_mib": None, "used_mib": None, "temperature_c": None, "power_w": None}
                self._fake.say(gpu(0, **silent), gpu(1, **silent))
            else:
                self._fake.say(gpu(0), gpu(1), mode=trouble)
            return True

        show(1_024, 45)
        return Scene(self.probe(), show, break_down, lambda: None)


class TestNvidiaSmiContract(ToolContract):
    tools = ("nvidia-smi",)

    def probe(self) -> NvidiaSmi:
        return NvidiaSmi(timeout_s=1.5)


class TestAmdSmiContract(ToolContract):
    tools = ("amd-smi",)

    def probe(self) -> Rocm:
        return Rocm(timeout_s=1.5)


class TestRocmSmiContract(ToolContract):
    tools = ("rocm-smi",)

    def probe(self) -> Rocm:
        return Rocm(timeout_s=1.5)


@pytest.fixture
def bin_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    return tmp_path / "bin"


def test_one_nvml_handle_is_kept_open() -> None:
    """Ten readings open the library once; after an error it is opened anew."""
    library = fake.FakeNvml(fake.FakeGpu())
    probe = Nvml(library)
    for _ in range(10):
        assert probe.read().gpus
    assert library.inits == 1
    library.trouble = fake.NVMLError("driver was reloaded")
    assert probe.read().gpus is None
    library.trouble = None
    assert probe.read().gpus
    assert (library.inits, library.shutdowns) == (2, 1)


def test_unified_memory_is_told_from_forbidden() -> None:
    """ "Not supported" means that the GPU shares the machine's memory; other refusals only that it is not
    known.
    """
    unified, forbidden = fake.FakeGpu(total_mib=fake.NVMLError_NotSupported()), fake.FakeGpu(uuid="GPU-2")
    forbidden.total_mib = fake.NVMLError_NoPermission()
    first, second = Nvml(fake.FakeNvml(unified, forbidden)).read().gpus or ()
    assert first.shares_host_memory
    assert not second.shares_host_memory
    assert first.memory_free_bytes is second.memory_free_bytes is None
    assert first.temperature_c == 40


def test_a_card_that_fell_off_the_bus_does_not_hide_the_others() -> None:
    """The lost one is noted, the other is read."""
    lost = fake.FakeGpu(uuid=fake.NVMLError_GpuIsLost())
    reading = Nvml(fake.FakeNvml(lost, fake.FakeGpu(uuid=b"GPU-good"))).read()
    assert [one.uuid for one in reading.gpus or ()] == ["GPU-good"]
    assert "GPU 0" in reading.notes[0]


def test_mig_instances_stand_for_their_gpu() -> None:
    """A GPU that is cut up is shown as its instances, by their UUIDs, with its temperature."""
    parts = [fake.FakeGpu(uuid=f"MIG-{n}", total_mib=10_240, used_mib=n) for n in range(2)]
    whole = fake.FakeGpu(uuid="GPU-whole", mig=parts, temperature_c=66)
    for part in parts:
        part.temperature_c = fake.NVMLError_NotSupported()
    gpus = Nvml(fake.FakeNvml(whole, fake.FakeGpu(uuid="GPU-plain"))).read().gpus or ()
    assert [one.uuid for one in gpus] == ["MIG-0", "MIG-1", "GPU-plain"]
    assert gpus[1].parent_uuid == "GPU-whole"
    assert gpus[1].temperature_c == 66
    assert gpus[1].memory_used_bytes == MIB


def test_nvml_tells_who_uses_memory() -> None:
    """Bytes by process and device; a device that does not tell is empty."""
    library = fake.FakeNvml(fake.FakeGpu(uuid="GPU-a", processes={7: 100}))
    library.gpus.append(fake.FakeGpu(uuid="GPU-b", processes=fake.NVMLError_NotSupported()))
    library.gpus.append(fake.FakeGpu(uuid="GPU-c", mig=[fake.FakeGpu(uuid="MIG-c", processes={8: 5})]))
    assert Nvml(library).memory_by_pid() == {"GPU-a": {7: 100 * MIB}, "GPU-b": {}, "MIG-c": {8: 5 * MIB}}


def test_nvidia_smi_speaks_with_old_drivers(bin_dir: Path) -> None:
    """A driver that does not know the MIG field is asked again without it."""
    tools = FakeGpuTools(bin_dir)
    tools.say(gpu(0, used_mib=5), mode="old")
    (one,) = NvidiaSmi().read().gpus or ()
    assert one.memory_used_bytes == 5 * MIB


def test_nvidia_smi_shows_mig_instances(bin_dir: Path) -> None:
    """Instances come with their UUIDs and the card's heat; their memory is not told."""
    FakeGpuTools(bin_dir).say(gpu(0, mig=["MIG-a", "MIG-b"], temperature_c=61), gpu(1))
    gpus = NvidiaSmi().read().gpus or ()
    assert [one.uuid for one in gpus] == ["MIG-a", "MIG-b", gpu(1)["uuid"]]
    assert gpus[0].temperature_c == 61
    assert gpus[0].memory_free_bytes is None


def test_nvidia_smi_reads_a_name_with_commas(bin_dir: Path) -> None:
    """The tool quotes nothing, so a name may look like several cells: what stands behind it is still right."""
    FakeGpuTools(bin_dir).say(gpu(0, name="Fake, 80GB, PCIe", total_mib=81_920, used_mib=1_920), gpu(1))
    first, second = NvidiaSmi().read().gpus or ()
    assert (first.name, first.memory_free_bytes) == ("Fake, 80GB, PCIe", 80_000 * MIB)
    assert (first.temperature_c, second.name) == (45, "Fake GPU")


def test_a_gpu_that_requires_a_reset_says_so(bin_dir: Path) -> None:
    """Both ways of asking NVIDIA tell it from a GPU whose memory is only not known."""
    FakeGpuTools(bin_dir).say(gpu(0, used_mib="[GPU requires reset]", total_mib=None), gpu(1, total_mib=None))
    first, second = NvidiaSmi().read().gpus or ()
    assert (first.trouble, second.trouble) == ("GPU requires reset", "")
    stuck = fake.FakeGpu(total_mib=fake.NVMLError_ResetRequired())
    first, second = Nvml(fake.FakeNvml(stuck, fake.FakeGpu(uuid="GPU-2"))).read().gpus or ()
    assert (first.trouble, second.trouble) == ("GPU requires reset", "")


def test_nvidia_smi_without_devices_is_no_gpu(bin_dir: Path) -> None:
    """ "No devices were found" is an answer, not a trouble."""
    FakeGpuTools(bin_dir).say(mode="no-devices")
    assert NvidiaSmi().read().gpus == ()


def test_nvidia_smi_tells_who_uses_memory(bin_dir: Path) -> None:
    """Bytes by process and device; with nobody there, nothing."""
    tools = FakeGpuTools(bin_dir)
    tools.say(gpu(0, processes={5: 300, 6: 1}))
    assert NvidiaSmi().memory_by_pid() == {gpu(0)["uuid"]: {5: 300 * MIB, 6: MIB}}
    tools.say(gpu(0))
    assert NvidiaSmi().memory_by_pid() == {}


def test_rocm_smi_steps_in_for_amd_smi(bin_dir: Path) -> None:
    """Both tools are tried, the newer first; the older form of the newer tool is read as well."""
    tools = FakeGpuTools(bin_dir, ("amd-smi", "rocm-smi"))
    tools.say(gpu(0))
    assert Rocm().read().gpus
    assert {call[0] for call in tools.calls()} == {"amd-smi"}
    tools.say(gpu(0), mode="old")
    assert Rocm().read().gpus
    (bin_dir / "amd-smi").unlink()
    (one,) = Rocm().read().gpus or ()
    assert one.uuid.startswith("GPU-")
    assert one.visible == "0"
    assert one.vendor == "amd"


def test_a_tool_that_hangs_is_killed_with_its_children(bin_dir: Path) -> None:
    """After the time-out neither the tool nor what it forked is left."""
    FakeGpuTools(bin_dir).say(mode="hang")
    answer = ask(["nvidia-smi"], timeout_s=0.5)
    assert "0.5 s" in answer.trouble
    left = [p for p in psutil.process_iter(["cmdline"]) if str(bin_dir) in " ".join(p.info["cmdline"] or [])]
    _, alive = psutil.wait_procs(left, timeout=5)
    assert not [p for p in alive if p.status() != psutil.STATUS_ZOMBIE]


@pytest.mark.parametrize("content", ["", "#!/no/such/interpreter\n", "\x7fELF junk"])
def test_a_tool_that_cannot_be_started_is_a_trouble(bin_dir: Path, content: str) -> None:
    """A broken executable is told, not raised."""
    bin_dir.mkdir()
    (bin_dir / "nvidia-smi").write_text(content)
    (bin_dir / "nvidia-smi").chmod(0o755)
    assert ask(["nvidia-smi"]).trouble
    assert NvidiaSmi().read().gpus is None


def test_a_flood_of_output_is_bounded(bin_dir: Path) -> None:
    """A tool that never stops printing is killed soon, and makes the value unknown."""
    bin_dir.mkdir()
    (bin_dir / "nvidia-smi").write_text("#!/bin/sh\nexec /bin/cat /dev/zero\n")
    (bin_dir / "nvidia-smi").chmod(0o755)
    reading = NvidiaSmi().read()
    assert reading.gpus is None
    assert "printed too much" in reading.notes[0]


def test_auto_finds_nothing_on_a_machine_without_gpus(bin_dir: Path) -> None:
    """Without a library and without tools there are no GPUs, no complaint, and no looking every second."""
    probe = Auto()
    reading = probe.read()
    assert (reading.gpus, reading.notes) == ((), ())
    FakeGpuTools(bin_dir).say(gpu(0))
    assert probe.read().gpus == ()
    assert probe.name == "none"


def test_auto_asks_the_library_where_a_driver_is(bin_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a driver's traces NVML comes first; one that is not installed after all is no trouble."""
    monkeypatch.setattr("backprop_core.resources.probes.choice._NVIDIA_SIGNS", ("/",))
    assert Auto().read().gpus == ()
    library = fake.FakeNvml(fake.FakeGpu())
    monkeypatch.setitem(sys.modules, "pynvml", library)
    assert Auto().read().probe == "nvml"
    library.trouble = fake.NVMLError("driver mismatch")
    reading = Auto().read()
    assert reading.gpus is None
    assert "driver mismatch" in reading.notes[0]
    library.trouble = fake.NVMLError_LibraryNotFound()
    assert Auto().read().gpus == ()


def test_auto_keeps_who_answers(bin_dir: Path) -> None:
    """The first that sees a GPU is asked from then on, also when it has trouble later; its name is told."""
    tools = FakeGpuTools(bin_dir, ("nvidia-smi", "rocm-smi"))
    tools.say(gpu(0))
    probe = Auto()
    assert probe.read().probe == "nvidia-smi"
    assert probe.name == "nvidia-smi"
    tools.say(mode="crash")
    assert probe.read().gpus is None
    assert {call[0] for call in tools.calls()} == {"nvidia-smi"}


def test_auto_does_not_claim_that_there_are_none_when_a_tool_fails(bin_dir: Path) -> None:
    """Somebody who should know did not answer: unknown, with the tool's own words."""
    FakeGpuTools(bin_dir).say(mode="crash")
    reading = Auto().read()
    assert reading.gpus is None
    assert "nvidia-smi" in reading.notes[0]


def test_probes_are_chosen_by_name(bin_dir: Path) -> None:
    """Every allowed word gives a probe of its own, none sees nothing, another word is refused."""
    os.makedirs(bin_dir, exist_ok=True)  # noqa: PTH103
    for name in ("nvml", "nvidia-smi", "rocm"):
        reading = gpu_probe(name).read()
        assert reading.gpus is None
        assert reading.notes
    assert gpu_probe("none").read().gpus == ()
    with pytest.raises(UsageError, match="nvml"):
        gpu_probe("voodoo")


def test_the_fake_library_has_the_names_of_the_real_one() -> None:
    """Every function, constant and error of the fake exists in nvidia-ml-py, which is installed for development."""
    import pynvml

    names = {name for name in dir(fake.FakeNvml) if name.startswith(("nvml", "NVML"))}
    assert len(names) > 10
    assert {name for name in names if not hasattr(pynvml, name)} == set()
    for error in ("NOT_SUPPORTED", "NO_PERMISSION", "GPU_IS_LOST", "LIBRARY_NOT_FOUND"):
        real = type(pynvml.NVMLError(getattr(pynvml, f"NVML_ERROR_{error}"))).__name__
        assert issubclass(getattr(fake, real), fake.NVMLError)
