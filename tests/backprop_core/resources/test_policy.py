"""Admission and the course of a running run: pure, so every case is a line."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backprop_core.resources.mask import allowed, mask_for
from backprop_core.resources.policy import Limits, Reservation, StartVerdict, admit
from backprop_core.resources.running import (
    MIN_PAUSE_S,
    Course,
    RunningState,
    judge,
    memory_floor_bytes,
    over_gpu_limit,
)
from backprop_core.resources.samples import GIB, MIB, GpuReading, GpuSample, HostSample, Sample


def gpu(
    index: int = 0, free_mib: float | None = 20_000, heat: float | None = 40, **facts: object
) -> GpuSample:
    free = None if free_mib is None else round(free_mib * MIB)
    base = GpuSample(
        f"GPU-{index:08d}",
        f"GPU-{index:08d}",
        "nvidia",
        index=index,
        name="Fake",
        memory_total_bytes=24_576 * MIB,
        memory_free_bytes=free,
        temperature_c=heat,
    )
    return replace(base, **facts)  # type: ignore[arg-type]


def sample(
    *gpus: GpuSample, free_gib: float | None = 16, load: float | None = 1.0, at: float = 100.0
) -> Sample:
    free = None if free_gib is None else round(free_gib * GIB)
    return Sample(at, HostSample(32 * GIB, free, "the machine", load, 2), GpuReading(gpus, "nvml"))


def failed(verdict: StartVerdict) -> set[str]:
    return {check.name for check in verdict.failed}


def test_a_gpu_that_cannot_be_used_is_not_chosen() -> None:
    """One that says why goes behind every other, also behind one below the limits, and alone it is refused by name."""
    broken = gpu(0, None, None, trouble="GPU requires reset")
    assert admit(Limits(), sample(broken, gpu(1, None, None))).gpus[0].index == 1
    assert admit(Limits(), sample(broken, gpu(1, 10, 99))).gpus[0].index == 1
    alone = admit(Limits(), sample(broken))
    assert not alone.admitted
    assert "GPU 0, Fake cannot be used (GPU requires reset)" in alone.sentence


def test_large_quantities_show_every_digit() -> None:
    """No `8e+04 MB`."""
    assert (
        "is 80000 MB, at least 90000 MB"
        in admit(Limits(min_free_vram_bytes=90_000 * MIB), sample(gpu(0, 80_000))).sentence
    )


def test_a_quiet_machine_admits() -> None:
    """Everything known and within the limits: admitted, on the GPU, with its mask."""
    verdict = admit(Limits(), sample(gpu()))
    assert verdict.admitted
    assert verdict.unchecked == ()
    assert verdict.environ == {"CUDA_VISIBLE_DEVICES": "GPU-00000000", "CUDA_DEVICE_ORDER": "PCI_BUS_ID"}


@pytest.mark.parametrize(
    ("seen", "running", "name", "words"),
    [
        (sample(gpu(), free_gib=3.9), 0, "free memory", "3.9 GB, at least 4 GB needed"),
        (sample(gpu(), load=40.0), 0, "load per CPU", "20, at most 8 allowed"),
        (sample(gpu(free_mib=2499)), 0, "free GPU memory", "2499 MB, at least 2500 MB needed (GPU 0, Fake)"),
        (sample(gpu(heat=85.5)), 0, "GPU temperature", "85.5 °C, at most 85 °C allowed"),
        (sample(gpu()), 2, "number of runs at once", "2 runs are active (limit 2, --max-parallel)"),
    ],
)
def test_each_limit_refuses_with_value_and_need(seen: Sample, running: int, name: str, words: str) -> None:
    """One limit at a time fails, alone, and its sentence tells both numbers."""
    verdict = admit(Limits(), seen, running=running)
    assert not verdict.admitted
    assert failed(verdict) == {name}
    assert words in verdict.sentence


def test_every_failed_limit_is_told() -> None:
    """All that fails is named at once, not the first of it."""
    verdict = admit(Limits(), sample(gpu(free_mib=1, heat=99), free_gib=1, load=99), running=5)
    assert len(verdict.failed) == 5


def test_at_the_limit_is_within_it() -> None:
    """Exactly what is needed is enough."""
    limits = Limits(max_parallel=3)
    assert admit(limits, sample(gpu(free_mib=2500, heat=85), free_gib=4, load=16), running=2).admitted


def test_without_a_limit_the_load_is_no_matter() -> None:
    """Limits(max_load_per_cpu=None) admits on a machine of any load, and does not speak of it."""
    verdict = admit(Limits(max_load_per_cpu=None), sample(gpu(), load=99))
    assert verdict.admitted
    assert "load per CPU" not in {check.name for check in verdict.checks}


def test_unknown_values_stop_nothing_and_are_told() -> None:
    """What is not known is listed as not checked, and the run starts."""
    nothing = Sample(1.0, HostSample(), GpuReading(None, "nvml", ("NVML does not answer.",)))
    verdict = admit(Limits(), nothing)
    assert verdict.admitted
    names = {check.name for check in verdict.unchecked}
    assert names == {"free memory", "load per CPU", "free GPU memory", "GPU temperature"}
    assert verdict.notes == ("NVML does not answer.",)
    assert "unknown" in verdict.unchecked[0].sentence


def test_promised_memory_is_not_free() -> None:
    """What runs that are warming up will take is not given twice, on the host and on the GPU it was
    promised on.
    """
    promised = Reservation(13 * GIB, 19_000 * MIB, ("GPU-00000000",))
    verdict = admit(Limits(), sample(gpu()), [promised])
    assert failed(verdict) == {"free memory", "free GPU memory"}
    assert "13 GB reserved" in verdict.sentence
    assert "19000 MB reserved" in verdict.sentence
    assert admit(Limits(), sample(gpu(1), free_gib=20), [promised]).admitted


def test_a_named_kind_of_gpu_goes_before_memory_but_not_before_the_limits() -> None:
    """With a kind asked for, a GPU of it is taken though another is emptier; one that is too hot is not."""
    limits = Limits(gpu_name="A")
    other, small = gpu(0, name="B"), gpu(1, 9_000, name="A")
    assert admit(limits, sample(other, small)).gpus == (small,)
    assert admit(limits, sample(other, replace(small, temperature_c=99.0))).gpus == (other,)
    assert admit(limits, sample(other)).gpus == (other,)


def test_the_gpu_with_most_free_memory_is_chosen() -> None:
    """Among those that satisfy the limits, after what is promised; a hot one or an unknown one comes last."""
    hot, small, big = gpu(0, 24_000, 90), gpu(1, 9_000), gpu(2, 10_000)
    assert admit(Limits(), sample(hot, small, big)).gpus == (big,)
    promised = Reservation(0, 2_000 * MIB, (big.uuid,))
    assert admit(Limits(), sample(hot, small, big), [promised]).gpus == (small,)
    unknown = gpu(3, None, None)
    assert admit(Limits(), sample(unknown, small)).gpus == (small,)
    assert admit(Limits(), sample(hot, unknown)).gpus == (unknown,)
    refused = admit(Limits(), sample(hot, gpu(1, 10, 95)))
    assert "GPU 0" in refused.sentence


def test_a_gpu_without_memory_of_its_own_uses_the_machines() -> None:
    """Unified memory: the host's free memory, less what is promised, is the GPU's."""
    unified = gpu(0, None, shares_host_memory=True)
    limits = Limits(min_free_vram_bytes=10 * GIB, min_free_ram_bytes=GIB)
    assert admit(limits, sample(unified, free_gib=16)).admitted
    assert failed(admit(limits, sample(unified, free_gib=16), [Reservation(8 * GIB)])) == {"free GPU memory"}


def test_no_gpu_and_no_need_of_one() -> None:
    """Without GPUs, with a mask that allows none, or for a run that needs none, nothing about GPUs is
    checked.
    """
    terrible = gpu(0, 1, 150)
    for verdict in (
        admit(Limits(), sample()),
        admit(Limits(use_gpu=False), sample(terrible)),
        admit(Limits(), sample(terrible), environ={"CUDA_VISIBLE_DEVICES": ""}),
        admit(Limits(), sample(terrible), environ={"CUDA_VISIBLE_DEVICES": "-1"}),
    ):
        assert verdict.admitted
        assert verdict.gpus == ()
        assert verdict.environ == {}


def test_a_users_mask_stays_and_all_of_it_must_do() -> None:
    """Every GPU in the mask is checked, none outside of it, and no variable is set."""
    cool, hot = gpu(0), gpu(1, heat=95)
    both = admit(Limits(), sample(cool, hot), environ={"CUDA_VISIBLE_DEVICES": "0,1"})
    assert failed(both) == {"GPU temperature"}
    one = admit(Limits(), sample(cool, hot), environ={"CUDA_VISIBLE_DEVICES": "GPU-00000000"})
    assert one.admitted
    assert one.gpus == (cool,)
    assert one.environ == {}


@pytest.mark.parametrize(
    ("mask", "indices"),
    [
        ("0", [0]), ("2,0", [2, 0]), ("1,-1,0", [1]), ("1,9,0", [1]), ("NoDevFiles", []), ("GPU-0", []),
        ("GPU-00000002,GPU-00000001", [2, 1]), (" 1 , 2 ", [1, 2]), ("1,1", [1]), ("GPU-0000000", []),
    ],
)  # fmt: skip
def test_the_mask_is_read_as_cuda_reads_it(mask: str, indices: list[int]) -> None:
    """Indices, UUIDs and their unique beginnings; everything from the first bad word on is ignored."""
    may = allowed([gpu(0), gpu(1), gpu(2)], {"CUDA_VISIBLE_DEVICES": mask})
    assert [one.index for one in may.gpus] == indices
    assert may.fixed


def test_indices_of_different_gpus_are_not_guessed() -> None:
    """CUDA counts the fastest first unless told otherwise: then it is said, and nothing is pinned."""
    gpus = [gpu(0, heat=99), gpu(1, name="Other")]
    may = allowed(gpus, {"CUDA_VISIBLE_DEVICES": "0"})
    assert "PCI_BUS_ID" in may.note
    verdict = admit(Limits(), sample(*gpus), environ={"CUDA_VISIBLE_DEVICES": "0"})
    assert verdict.admitted
    assert verdict.environ == {}
    assert verdict.notes
    told = {"CUDA_VISIBLE_DEVICES": "0", "CUDA_DEVICE_ORDER": "PCI_BUS_ID"}
    assert [one.index for one in allowed(gpus, told).gpus] == [0]


def test_amd_has_variables_of_its_own() -> None:
    """An AMD GPU is masked by index, with HIP's variable."""
    amd = [gpu(n, vendor="amd", visible=str(n)) for n in range(2)]
    assert mask_for(amd[1]) == {"HIP_VISIBLE_DEVICES": "1"}
    assert [one.index for one in allowed(amd, {"HIP_VISIBLE_DEVICES": "1"}).gpus] == [1]


@given(
    free=st.one_of(st.none(), st.floats(0, 64)),
    vram=st.one_of(st.none(), st.floats(0, 24_000)),
    heat=st.one_of(st.none(), st.floats(1, 120)),
    load=st.one_of(st.none(), st.floats(0, 100)),
    running=st.integers(0, 5),
    less=st.floats(0, 1),
)
def test_less_of_anything_never_admits_more(
    free: float | None, vram: float | None, heat: float | None, load: float | None, running: int, less: float
) -> None:
    """A machine that is worse in every known respect is never admitted where the better one was refused."""
    better = admit(Limits(), sample(gpu(0, vram, heat), free_gib=free, load=load), running=running)
    worse_gpu = gpu(0, None if vram is None else vram * less, None if heat is None else heat + 1)
    worse = sample(
        worse_gpu, free_gib=None if free is None else free * less, load=None if load is None else load + 1
    )
    assert better.admitted or not admit(Limits(), worse, running=running + 1).admitted


def test_limits_come_from_the_options() -> None:
    """GB are 1024^3, MB 1024^2, as the npm tool has it."""
    settings = {
        "gpu-memory-limit": "80%",
        "max-parallel": 3,
        "min-free-ram": 0.5,
        "max-load": 2.0,
        "gpu-min-vram": 1.0,
        "gpu-max-temp": 70.0,
    }
    assert Limits.of(settings) == Limits(3, GIB // 2, MIB, 70.0, 2.0, gpu_memory="80%")


# -- while it runs ---------------------------------------------------------------------------------------------


def drive(*seen: Sample, limits: Limits | None = None, save_s: float = 10.0) -> list[Course]:
    """The courses for a row of samples."""
    state, courses = RunningState(), []
    for one in seen:
        judgement = judge(state, limits or Limits(), one, save_s=save_s)
        state = judgement.state
        courses.append(judgement.course)
        assert bool(judgement.reason) == (judgement.course is not Course.GO_ON)
    return courses


def heats(*row: tuple[float, float | None]) -> list[Sample]:
    return [sample(gpu(heat=heat), at=at) for at, heat in row]


def test_heat_pauses_until_five_degrees_under_the_limit() -> None:
    """Hysteresis: not at the limit, not a little under it, but 5 °C under it."""
    row = heats((1, 85), (2, 86), (13, 84), (14, 81), (15, 80), (16, 84), (17, 86))
    assert drive(*row) == [
        Course.GO_ON, Course.PAUSE, Course.GO_ON, Course.GO_ON, Course.CONTINUE, Course.GO_ON, Course.PAUSE,
    ]  # fmt: skip


def test_a_pause_lasts_ten_seconds_at_least() -> None:
    """A sensor that cools at once does not make the run flutter."""
    row = heats((1, 90), (2, 40), (10.9, 40), (11, 40))
    assert drive(*row) == [Course.PAUSE, Course.GO_ON, Course.GO_ON, Course.CONTINUE]
    assert MIN_PAUSE_S == 10.0


def test_a_run_is_not_paused_for_ever_by_a_sensor_that_died() -> None:
    """If the temperature stays unknown for a minute, the run goes on; if it comes back hot, it does not."""
    blind = heats((1, 90), (30, None), (60.9, None), (61, None))
    assert drive(*blind) == [Course.PAUSE, Course.GO_ON, Course.GO_ON, Course.CONTINUE]
    back = heats((1, 90), (50, None), (55, 90), (100, None), (114, 90))
    assert drive(*back) == [Course.PAUSE] + [Course.GO_ON] * 4


def test_only_the_runs_own_gpus_count() -> None:
    """A neighbour's heat is not ours; without names every GPU counts."""
    hot_neighbour = sample(gpu(0), gpu(1, heat=99))
    assert judge(RunningState(), Limits(), hot_neighbour, gpu_uuids=["GPU-00000000"]).course is Course.GO_ON
    assert judge(RunningState(), Limits(), hot_neighbour).course is Course.PAUSE


def test_memory_that_runs_out_stops_the_run_in_time() -> None:
    """Twice below the floor, once below half of it, or vanishing too fast for a save."""
    floor = memory_floor_bytes(32 * GIB) / GIB
    assert floor == pytest.approx(0.96)
    assert memory_floor_bytes(512 * MIB) == 64 * MIB  # a small container is not stopped for being small
    quiet = [sample(free_gib=8, at=1), sample(free_gib=7.9, at=2)]
    assert drive(*quiet) == [Course.GO_ON] * 2
    twice = [sample(free_gib=floor * 0.9, at=1), sample(free_gib=floor * 0.9, at=2)]
    assert drive(*twice) == [Course.GO_ON, Course.STOP]
    assert drive(sample(free_gib=floor * 0.4)) == [Course.STOP]
    falling = [sample(free_gib=3.5, at=1), sample(free_gib=3.0, at=2)]
    assert drive(*falling) == [Course.GO_ON, Course.STOP]
    assert drive(*falling, save_s=1.0) == [Course.GO_ON] * 2


def test_memory_stops_a_run_that_is_paused_for_heat() -> None:
    """The kernel's killer does not ask whether a process is paused."""
    row = [sample(gpu(heat=90), at=1), sample(gpu(heat=90), free_gib=0.1, at=2)]
    assert drive(*row) == [Course.PAUSE, Course.STOP]


def test_unknown_and_repeated_samples_change_nothing() -> None:
    """No value, no action; the same sample twice counts once."""
    unknown = Sample(1.0, HostSample(), GpuReading(None, "nvml", ("?",)))
    assert drive(unknown, replace(unknown, monotonic_s=2.0)) == [Course.GO_ON] * 2
    low = sample(free_gib=0.9, at=1)
    assert drive(low, low, low) == [Course.GO_ON] * 3


def test_a_runs_own_gpu_memory_is_held_against_its_limit() -> None:
    """5% over is told with both numbers; without a limit or a value nothing is."""
    limits = Limits(gpu_memory="50%")
    assert over_gpu_limit(limits, gpu(), 12_288 * MIB) is None
    assert "the limit is 12.00 GB" in (over_gpu_limit(limits, gpu(), 13_000 * MIB) or "")
    assert over_gpu_limit(Limits(gpu_memory="8"), gpu(), 9 * GIB)
    assert over_gpu_limit(Limits(), gpu(), 9 * GIB) is None
    assert over_gpu_limit(limits, gpu(), None) is None
    assert over_gpu_limit(limits, gpu(memory_total_bytes=None), 9 * GIB) is None
