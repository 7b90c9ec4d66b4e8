"""`-g` inside the script: told to the framework before it allocates, in fresh processes with stand-ins for both."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from backprop_core.testing.gpu_frameworks import write_gpu_frameworks
from backprop_startup.path_entry import put_in_front


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    """As `backprop run -g 8 -f none` leaves it, with the stand-ins in front of the real frameworks."""
    environ = {key: value for key, value in os.environ.items() if not key.startswith("BACKPROP_")}
    environ |= {"PYTHONPATH": str(write_gpu_frameworks(tmp_path / "fakes")), "FAKE_GPUS_MIB": "32768"}
    environ |= {"BACKPROP_RUN_DIR": str(tmp_path), "BACKPROP_ATTEMPT": "1", "BACKPROP_ATTACH": "none"}
    environ |= {"BACKPROP_GPU_MEMORY_LIMIT": "8"}
    put_in_front(environ)
    return environ


def said(environ: dict[str, str], script: str) -> tuple[str, str]:
    """What a fresh process prints on stdout and stderr; it must end well."""
    done = subprocess.run(
        [sys.executable, "-c", script],
        env=environ,
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip(), done.stderr.strip()


@pytest.mark.parametrize(("limit", "fraction"), [("8", 0.25), ("80%", 0.8), ("64", 1.0), ("0.5", 0.0156)])
def test_torch_is_limited_when_cuda_is_first_used(
    environ: dict[str, str], limit: str, fraction: float
) -> None:
    """A share or a number of GB becomes torch's fraction of the device that is there, at most all of it."""
    environ["BACKPROP_GPU_MEMORY_LIMIT"] = limit
    script = "import torch; torch.cuda.init(); print(torch.cuda.calls, torch.cuda.current_device())"
    assert said(environ, script) == (f"[(0, {fraction})] 0", "")


def test_a_script_that_never_uses_cuda_does_not_start_it(environ: dict[str, str]) -> None:
    """After `import torch` CUDA is as untouched as without us, also where there is none."""
    script = "import torch; print(torch.cuda.is_initialized(), torch.cuda.calls)"
    assert said(environ, script) == ("False []", "")
    environ["FAKE_GPUS_MIB"] = ""
    assert said(environ, script) == ("False []", "")


def test_every_visible_gpu_is_limited_by_its_own_size(environ: dict[str, str]) -> None:
    """Two GPUs of different sizes get different fractions, and the current device stays the first."""
    environ["FAKE_GPUS_MIB"] = "32768,16384"
    script = "import torch; torch.cuda.init(); print(torch.cuda.calls, torch.cuda.current_device())"
    assert said(environ, script) == ("[(0, 0.25), (1, 0.5)] 0", "")


def test_a_rank_limits_its_own_gpu_alone(environ: dict[str, str]) -> None:
    """Under torchrun the GPUs of other ranks are not touched."""
    environ |= {"FAKE_GPUS_MIB": "32768,16384", "LOCAL_RANK": "1", "RANK": "1"}
    script = "import torch; torch.cuda.init(); print(torch.cuda.calls, torch.cuda.current_device())"
    assert said(environ, script) == ("[(1, 0.5)] 0", "")


def test_a_limit_that_torch_refuses_is_said_and_fails_nothing(environ: dict[str, str]) -> None:
    """One line names the framework and that it is watched from outside; the script goes on."""
    environ["FAKE_TORCH_REFUSES"] = "1"
    out, err = said(environ, "import torch; torch.cuda.init(); print('on')")
    assert out == "on"
    assert err == "backprop: -g 8 is not enforced in PyTorch, only watched: no such allocator"


@pytest.mark.parametrize(("limit", "total", "mib"), [("8", "", 8192), ("25%", str(32 * 1024**3), 8192)])
def test_tensorflow_gets_logical_devices_with_a_limit(
    environ: dict[str, str], limit: str, total: str, mib: int
) -> None:
    """GB need no size of the GPU; a share is taken of the size that the governor has seen."""
    environ |= {"BACKPROP_GPU_MEMORY_LIMIT": limit, "BACKPROP_GPU_MEMORY_TOTAL": total}
    out, err = said(environ, "import tensorflow as tf; print(tf.config.calls)")
    assert (out, err) == (f"[('/physical_device:GPU:0', {mib})]", "")


def test_a_share_of_an_unknown_size_is_said_to_be_only_watched(environ: dict[str, str]) -> None:
    """Without the governor's number TensorFlow cannot be held to a percentage, and the line says what helps."""
    environ["BACKPROP_GPU_MEMORY_LIMIT"] = "80%"
    out, err = said(environ, "import tensorflow as tf; print(tf.config.calls)")
    assert out == "[]"
    assert "-g 80% is not enforced in TensorFlow, only watched" in err
    assert "give a number of GB" in err


def test_a_script_that_asks_for_memory_growth_is_not_broken_by_the_limit(environ: dict[str, str]) -> None:
    """set_memory_growth, which TensorFlow refuses beside a limit, passes without effect on a limited GPU."""
    script = (
        "import tensorflow as tf\n"
        "for gpu in tf.config.list_physical_devices('GPU'): tf.config.experimental.set_memory_growth(gpu, True)\n"
        "print(tf.config.experimental.growing, len(tf.config.calls))"
    )
    assert said(environ, script) == ("[] 1", "")


def test_tensorflow_without_gpus_is_left_alone(environ: dict[str, str]) -> None:
    """No configuration is set where there is nothing to limit."""
    environ["FAKE_GPUS_MIB"] = ""
    assert said(environ, "import tensorflow as tf; print(tf.config.calls)") == ("[]", "")


def test_without_a_limit_nothing_is_told_to_the_frameworks(environ: dict[str, str]) -> None:
    """No -g: no calls, and the module that would make them is not even loaded."""
    del environ["BACKPROP_GPU_MEMORY_LIMIT"]
    script = (
        "import sys, torch, tensorflow as tf; torch.cuda.init()\n"
        "print(torch.cuda.calls, tf.config.calls, 'backprop_startup.gpu_memory' in sys.modules)"
    )
    assert said(environ, script) == ("[] [] False", "")


def test_the_real_torch_takes_the_limit_without_waking_cuda(environ: dict[str, str]) -> None:
    """With the installed torch `import` works as before, CUDA stays asleep, and the limit waits in its queue."""
    pytest.importorskip("torch")
    del environ["PYTHONPATH"]
    put_in_front(environ)
    script = (
        "import torch\n"
        "queued = [call.__module__ for call, *_ in torch.cuda._queued_calls]\n"
        "print('backprop_startup.gpu_memory' in queued, torch.cuda.is_initialized(), torch.ones(2).sum().item())"
    )
    assert said(environ, script) == ("True False 2.0", "")
