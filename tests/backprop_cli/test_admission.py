"""Waiting for resources, refusing, choosing a GPU, pausing when hot: with a fake nvidia-smi on PATH."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from backprop_core.testing.gpu_frameworks import write_gpu_frameworks
from backprop_core.testing.gpu_tools import FakeGpuTools, gpu
from tests.backprop_cli.commandline import CommandLine, number_in, wait_for
from tests.backprop_cli.sessions import STANDIN


@pytest.fixture
def smi(backprop: CommandLine, tmp_path: Path) -> FakeGpuTools:
    """A fake nvidia-smi that `backprop` uses."""
    tools = FakeGpuTools(tmp_path / "bin")
    backprop.environment = tools.environ(backprop.environment)
    backprop.environment["BACKPROP_GPU_PROBE"] = "nvidia-smi"
    return tools


SHOWS_MASK = "import os; print(os.environ.get('CUDA_VISIBLE_DEVICES'), os.environ.get('CUDA_DEVICE_ORDER'))"


def test_what_cannot_be_had_is_refused_with_value_and_need(backprop: CommandLine) -> None:
    """--no-wait with too little memory: status 75, the limit with both numbers, no script and no run left."""
    backprop.script("open('ran', 'w')")
    ran = backprop("run", "train.py", "--min-free-ram", "60000", "--no-wait")
    assert ran.returncode == 75
    assert "free memory is" in ran.stderr
    assert "at least 60000 GB needed" in ran.stderr
    assert not (backprop.folder / "ran").exists()
    assert backprop.runs() == []


def test_a_busy_machine_is_refused_by_its_load(backprop: CommandLine) -> None:
    """--max-load is held against the load average per CPU; a high one lets the run start."""
    backprop.script("print('ran')")
    busy = "import os; os.getloadavg = lambda: (99.0, 99.0, 99.0)"
    (backprop.folder / "sitecustomize.py").write_text(busy)
    backprop.environment["PYTHONPATH"] = str(backprop.folder)
    backprop.environment["BACKPROP_MAX_LOAD"] = "0.01"
    ran = backprop("run", "train.py", "--no-wait")
    assert ran.returncode == 75
    assert "load per CPU is" in ran.stderr
    assert "at most 0.01 allowed" in ran.stderr
    assert backprop("run", "train.py", "--no-wait", "--max-load", "100000").stdout == "ran\n"


def test_a_wait_that_is_too_short_ends_with_75(backprop: CommandLine) -> None:
    """--wait-minutes bounds the wait, and what is waited for is said, since when."""
    backprop.script("")
    ran = backprop("run", "train.py", "--min-free-ram", "60000", "--wait-minutes", "0.02")
    assert ran.returncode == 75
    assert "waiting since" in ran.stderr


def test_max_parallel_lets_only_so_many_run(backprop: CommandLine) -> None:
    """With -p 1 a second run waits until the first is over, also when the first is killed."""
    backprop.script("import os, time\nopen('pid', 'w').write(str(os.getpid()))\ntime.sleep(600)")
    first = backprop.start("run", "train.py", "-p", "1", "--run-id", "first")
    wait_for(lambda: number_in(backprop.folder / "pid"))
    refused = backprop("run", "train.py", "-p", "1", "--no-wait")
    assert refused.returncode == 75
    assert "1 run is active (limit 1, --max-parallel)" in refused.stderr
    backprop.script("print('second')", "other.py")
    second = backprop.start("run", "other.py", "-p", "1")
    assert second.stderr is not None
    wait_for(lambda: "waiting since" in second.stderr.readline())  # type: ignore[union-attr]
    first.send_signal(signal.SIGKILL)
    first.communicate()
    out, _ = second.communicate(timeout=240)
    assert out == "second\n"


def test_the_emptiest_gpu_is_chosen_by_uuid(backprop: CommandLine, smi: FakeGpuTools) -> None:
    """Of two GPUs the one with most free memory is made visible; a mask of the user's stays."""
    smi.say(gpu(0, used_mib=20_000), gpu(1, used_mib=100))
    backprop.script(SHOWS_MASK)
    ran = backprop("run", "train.py")
    assert ran.stdout == "GPU-00000001-0000-0000-0000-000000000000 PCI_BUS_ID\n"
    assert "runs on GPU 1" in ran.stderr
    backprop.environment["CUDA_VISIBLE_DEVICES"] = "0"
    assert backprop("run", "train.py").stdout.startswith("0 ")


def test_a_gpu_that_is_too_full_or_too_hot_is_refused(backprop: CommandLine, smi: FakeGpuTools) -> None:
    """--gpu-min-vram and --gpu-max-temp are held against what the tool says."""
    smi.say(gpu(0, used_mib=24_000, temperature_c=70))
    backprop.script("")
    ran = backprop("run", "train.py", "--no-wait")
    assert ran.returncode == 75
    assert "free GPU memory is 576 MB" in ran.stderr
    assert backprop("run", "train.py", "--no-wait", "--gpu-min-vram", "500").returncode == 0
    hot = backprop("run", "train.py", "--no-wait", "--gpu-min-vram", "500", "--gpu-max-temp", "65")
    assert hot.returncode == 75
    assert "GPU temperature is 70 °C" in hot.stderr
    assert backprop("run", "train.py", "--no-wait", "-f", "none").returncode == 0


@pytest.mark.parametrize("mode", ["crash", "nonsense", "empty"])
def test_a_probe_that_fails_makes_unknown_not_dead(
    backprop: CommandLine, smi: FakeGpuTools, mode: str
) -> None:
    """A run starts although nvidia-smi fails, and the user is told that it was not checked."""
    smi.say(gpu(0), mode=mode)
    backprop.script("print('ran')")
    ran = backprop("run", "train.py", "--no-wait")
    assert (ran.returncode, ran.stdout) == (0, "ran\n")
    shown = json.loads(backprop("status", "--json").stdout)
    assert shown["may_start"]


@pytest.mark.long
def test_a_probe_that_hangs_costs_its_value_and_no_more(backprop: CommandLine, smi: FakeGpuTools) -> None:
    """A run starts after some seconds although nvidia-smi never answers, is watched meanwhile, and ends in time."""
    smi.say(gpu(0), mode="hang")
    backprop.script("import time; time.sleep(600)")
    ran = backprop("run", "train.py", "-m", backprop.box(3), "--run-id", "hang")
    assert ran.returncode == 124
    assert "nvidia-smi" in ran.stderr
    governor = backprop.record("hang")["attempts"][0]["measured"]["governor"]
    assert 0 < governor["unused_s"] < 1.0


def test_a_run_waits_until_the_gpu_has_cooled_down(backprop: CommandLine, smi: FakeGpuTools) -> None:
    """It says what it waits for and starts when the tool's answer changes."""
    smi.say(gpu(0, temperature_c=99))
    backprop.script("print('started')")
    process = backprop.start("run", "train.py")
    assert process.stderr is not None
    wait_for(lambda: "GPU temperature is 99" in process.stderr.readline())  # type: ignore[union-attr]
    smi.say(gpu(0, temperature_c=50))
    out, _ = process.communicate(timeout=240)
    assert (process.returncode, out) == (0, "started\n")


def test_a_hot_gpu_pauses_a_script_and_a_cool_one_lets_it_go_on(
    backprop: CommandLine, smi: FakeGpuTools
) -> None:
    """Frozen at the limit, awake below it after ten seconds at least; cause, duration and effect are
    recorded.
    """
    smi.say(gpu(0, temperature_c=50))
    backprop.script("import os, time\nopen('pid', 'w').write(str(os.getpid()))\nwhile True: time.sleep(0.01)")
    process = backprop.start("run", "train.py", "-m", backprop.box(6), "--run-id", "hot")
    pid = wait_for(lambda: number_in(backprop.folder / "pid"))
    smi.say(gpu(0, temperature_c=90))
    wait_for(lambda: _state(pid) == "T")
    smi.say(gpu(0, temperature_c=60))
    wait_for(lambda: _state(pid) != "T", deadline_s=25)
    process.communicate(timeout=240)
    governor = backprop.record("hot")["attempts"][0]["measured"]["governor"]
    (pause,) = governor["pauses"]
    assert pause["seconds"] >= 9.5
    assert "too hot: 90 °C" in pause["why"]
    assert governor["used_s"] > 6.0 - 0.7 + pause["seconds"]
    samples = (backprop.attempt_dir("hot") / "governor.jsonl").read_text()
    assert '"temperature_c": 90' in samples
    assert '"kind": "pause"' in samples
    assert "and the time box waited: The GPU is too hot: 90 °C" in backprop("status", "hot").stdout


def test_a_session_is_paused_at_its_safe_point_when_hot(backprop: CommandLine, smi: FakeGpuTools) -> None:
    """A script with a session is asked to pause instead of being frozen, and can be stopped while it is."""
    smi.say(gpu(0, temperature_c=90))
    backprop.environment["BACKPROP_GPU_MAX_TEMP"] = "95"
    backprop.script(STANDIN)
    backprop.environment["STANDIN_STEPS"] = "100000"
    process = backprop.start("run", "train.py", "--run-id", "safe")
    events = backprop.attempt_dir("safe") / "events.jsonl"
    wait_for(lambda: events.exists() and '"progress"' in events.read_text())
    smi.say(gpu(0, temperature_c=97))
    wait_for(lambda: '"action": "pause"' in events.read_text())
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=240)
    assert process.returncode == 0
    assert backprop.record("safe")["status"] == "stopped"


def test_samples_are_kept_once_a_second_and_the_peak_in_the_record(backprop: CommandLine) -> None:
    """governor.jsonl has one sample a second; the record has the most memory that was seen."""
    backprop.script("x = bytearray(200_000_000)\nimport time; time.sleep(2.5)")
    assert backprop("run", "train.py", "--run-id", "mem").returncode == 0
    kinds = [
        json.loads(line)["kind"]
        for line in (backprop.attempt_dir("mem") / "governor.jsonl").read_text().splitlines()
    ]
    used_s = backprop.record("mem")["attempts"][0]["measured"]["governor"]["used_s"]
    assert 2 <= kinds.count("sample") <= used_s + 2
    assert backprop.record("mem")["attempts"][0]["measured"]["peak_rss_bytes"] > 200_000_000
    backprop.script("x = b'1' * 300_000_000")  # gone before the second sample
    assert backprop("run", "train.py", "--run-id", "brief").returncode == 0
    assert backprop.record("brief")["attempts"][0]["measured"]["peak_rss_bytes"] > 300_000_000


@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 75), (signal.SIGHUP, 75), (None, 75)]
)
def test_a_wait_that_is_ended_leaves_nothing(
    backprop: CommandLine, number: signal.Signals | None, status: int
) -> None:
    """Ctrl-C, a scheduler, a closed terminal and 'backprop stop' end the wait at once, and no run stays behind."""
    backprop.script("open('ran', 'w')")
    process = backprop.start("run", "train.py", "--min-free-ram", "60000", "--run-id", "w")
    assert process.stderr is not None
    wait_for(lambda: "waiting since" in process.stderr.readline())  # type: ignore[union-attr]
    if number is None:
        assert backprop("stop", "w").returncode == 0
    else:
        process.send_signal(number)
    process.communicate(timeout=240)
    assert process.returncode == status
    assert backprop.runs() == []


def _state(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return "gone"


def test_the_machine_is_shown_as_a_table(backprop: CommandLine, smi: FakeGpuTools) -> None:
    """`backprop status` shows each resource with value, limit and verdict, and each GPU."""
    smi.say(gpu(0, used_mib=24_000, temperature_c=48, name="Fake GPU"))
    shown = backprop("status")
    assert shown.returncode == 0
    for words in ("free memory", "load per CPU", "GPU 0", "48 °C", "refused", "would have to wait"):
        assert words in shown.stdout
    assert subprocess.run(["true"], check=True).returncode == 0


def test_the_gpu_memory_limit_reaches_the_script_and_its_frameworks(
    backprop: CommandLine, smi: FakeGpuTools, tmp_path: Path
) -> None:
    """-g is enforced in torch and TensorFlow inside the script, and in JAX by its variable, by the size that was probed."""
    smi.say(gpu(0, total_mib=32_768))
    backprop.environment |= {
        "PYTHONPATH": str(write_gpu_frameworks(tmp_path / "fakes")),
        "FAKE_GPUS_MIB": "32768",
    }
    backprop.script(
        """
        import os, tensorflow as tf, torch
        torch.cuda.init()
        print(torch.cuda.calls, tf.config.calls, os.environ["XLA_PYTHON_CLIENT_MEM_FRACTION"])
        """
    )
    ran = backprop("run", "train.py", "-g", "25%", "-f", "lightning", "--run-id", "g")
    assert ran.stdout == "[(0, 0.25)] [('/physical_device:GPU:0', 8192)] 0.2500\n", ran.stderr
    ran = backprop("run", "train.py", "-g", "16", "-f", "none")
    assert ran.returncode == 1  # no GPU is chosen, so its size is not known, and JAX cannot be held to GB
    assert "XLA_PYTHON_CLIENT_MEM_FRACTION" in ran.stderr


def test_a_resume_asks_for_the_kind_of_gpu_that_the_run_began_on(
    backprop: CommandLine, smi: FakeGpuTools
) -> None:
    """The record keeps the name; a resume takes that kind though another is emptier, and says when there is only another."""
    smi.say(gpu(0, name="Fake A"))
    backprop.script(SHOWS_MASK + "; raise SystemExit(3)")
    assert backprop("run", "train.py", "--run-id", "k").returncode == 3
    assert backprop.record("k")["gpu"] == "Fake A"
    smi.say(gpu(0, name="Fake B", used_mib=0), gpu(1, name="Fake A", used_mib=20_000))
    ran = backprop("resume", "k")
    assert ran.stdout.startswith("GPU-00000001")
    assert "same bits" not in ran.stderr
    smi.say(gpu(0, name="Fake B"))
    ran = backprop("resume", "k")
    assert ran.stdout.startswith("GPU-00000000")
    assert "started on Fake A, but now there is only Fake B: results may not be bit-identical" in ran.stderr
    assert backprop.record("k")["gpu"] == "Fake A"


HOLDS = """
import sys
from pathlib import Path
from backprop_core.runs.locks import FileLock
lock = FileLock(Path(sys.argv[1]) / "queue.lock")
lock.acquire()
print("held", flush=True)
sys.stdin.read()
"""


def test_a_stopped_holder_of_the_queue_is_named_and_no_run_is_left(backprop: CommandLine) -> None:
    """Status 75, with the process that holds everybody up, and a run that never began is not remembered."""
    place = Path(backprop.environment["BACKPROP_RUNTIME_DIR"])
    place.mkdir(mode=0o700)
    backprop.script("open('ran', 'w')")
    argv = [sys.executable, "-c", HOLDS, str(place)]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        holder.send_signal(signal.SIGSTOP)
        try:
            ran = backprop("run", "train.py", "--no-wait")
        finally:
            holder.kill()
    assert ran.returncode == 75
    assert f"process {holder.pid} (stopped)" in ran.stderr
    assert backprop.runs() == []
    assert not (backprop.folder / "ran").exists()


def test_a_runtime_folder_that_cannot_be_used_is_a_usage_error(backprop: CommandLine) -> None:
    """Status 2, and no run is left that was never begun."""
    backprop.script("")
    backprop.environment["BACKPROP_RUNTIME_DIR"] = str(backprop.folder / "train.py")
    ran = backprop("run", "train.py")
    assert ran.returncode == 2
    assert "BACKPROP_RUNTIME_DIR" in ran.stderr
    assert backprop.runs() == []
