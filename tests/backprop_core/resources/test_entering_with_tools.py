"""From a vendor's tool on PATH to the right to start: the answer changes while a process waits."""

from __future__ import annotations

from pathlib import Path

import pytest

from backprop_core.clock import SYSTEM
from backprop_core.resources.admission import NotAdmittedError, Waiting, enter
from backprop_core.resources.policy import Limits
from backprop_core.resources.probes import make_sampler
from backprop_core.resources.slots import Slots
from backprop_core.testing.gpu_tools import FakeGpuTools, gpu

LIMITS = Limits(min_free_ram_bytes=0, max_load_per_cpu=None)


@pytest.fixture
def slots(tmp_path: Path) -> Slots:
    return Slots(SYSTEM, environ={"BACKPROP_RUNTIME_DIR": str(tmp_path / "runtime")})


def fakes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *tools: str) -> FakeGpuTools:
    made = FakeGpuTools(tmp_path / "bin", tools)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    return made


@pytest.mark.parametrize(
    ("probe", "tool"), [("nvidia-smi", "nvidia-smi"), ("rocm", "rocm-smi"), ("auto", "amd-smi")]
)
def test_a_run_starts_when_the_gpu_has_cooled_down(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, slots: Slots, probe: str, tool: str
) -> None:
    """Hot at first: it waits and says so; cool later: it starts on the GPU with most free memory."""
    tools = fakes(tmp_path, monkeypatch, tool)
    tools.say(gpu(0, temperature_c=95), gpu(1, temperature_c=96, used_mib=5))
    told: list[Waiting] = []

    def tell(waiting: Waiting) -> None:
        told.append(waiting)
        tools.say(gpu(0, used_mib=9), gpu(1, used_mib=5))

    sampler = make_sampler(probe, SYSTEM)
    admission = enter(slots, sampler, LIMITS, run_id="r", clock=SYSTEM, wait_s=60, environ={}, tell=tell)
    assert "GPU temperature is 9" in told[0].sentence
    (chosen,) = admission.verdict.gpus
    assert chosen.index == 1
    variable = "CUDA_VISIBLE_DEVICES" if tool == "nvidia-smi" else "HIP_VISIBLE_DEVICES"
    assert (admission.verdict.environ or {})[variable] == chosen.visible
    admission.place.release()
    sampler.close()


@pytest.mark.parametrize("mode", ["crash", "nonsense", "empty"])
def test_a_broken_tool_never_stops_a_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, slots: Slots, mode: str
) -> None:
    """The run starts at once, and the verdict says what could not be checked and why."""
    fakes(tmp_path, monkeypatch, "nvidia-smi").say(gpu(0), mode=mode)
    sampler = make_sampler("auto", SYSTEM)
    admission = enter(slots, sampler, LIMITS, run_id="r", clock=SYSTEM, wait_s=0, environ={})
    assert {check.name for check in admission.verdict.unchecked} == {"free GPU memory", "GPU temperature"}
    assert "nvidia-smi" in admission.verdict.notes[0]
    admission.place.release()
    sampler.close()


def test_too_little_gpu_memory_is_refused_with_numbers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, slots: Slots
) -> None:
    """Without waiting: the GPU by name, its free memory and the need."""
    fakes(tmp_path, monkeypatch, "nvidia-smi").say(gpu(0, name="Fake A", used_mib=23_000))
    sampler = make_sampler("auto", SYSTEM)
    with pytest.raises(NotAdmittedError, match=r"1576 MB, at least 2500 MB needed \(GPU 0, Fake A\)"):
        enter(slots, sampler, LIMITS, run_id="r", clock=SYSTEM, wait_s=0, environ={})
    sampler.close()
