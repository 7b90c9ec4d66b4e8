"""What a card says, and what a run is given of it: NVML, masks, UUIDs, heat, `-g`, and two runs on one card."""

from __future__ import annotations

import json
import signal
from typing import Any

import pytest
import torch

from backprop_core.resources.probes.nvml import Nvml
from backprop_core.resources.samples import MIB, GpuSample
from tests.backprop_cli.commandline import CommandLine, end, wait_for

LOOK = """
    import json, os, torch
    from pathlib import Path
    here = {"devices": torch.cuda.device_count(), "uuid": str(torch.cuda.get_device_properties(0).uuid)}
    here["mask"] = os.environ.get("CUDA_VISIBLE_DEVICES")
    Path("seen.json").write_text(json.dumps(here))
"""
HOLD = """
    import time, torch, backprop
    kept = torch.ones(100 * 2**20, dtype=torch.uint8, device="cuda")
    model = torch.nn.Linear(8, 8).to("cuda")
    with backprop.timebox(model=model) as box:
        for step in box.steps(300):
            time.sleep(0.02)
"""
WARM_UP = """
    import sys, time, torch
    from pathlib import Path
    kept = torch.ones(10 * 2**20, dtype=torch.uint8, device="cuda")
    Path(sys.argv[1]).write_text("on")
    time.sleep(300)
"""
TAKE = """
    import torch
    kept = torch.empty(1 << 29, dtype=torch.uint8, device="cuda")
    print("half a GB", flush=True)
    try:
        torch.empty(1 << 30, dtype=torch.uint8, device="cuda")
        print("all of it", flush=True)
    except torch.OutOfMemoryError:
        print("refused", flush=True)
"""


def seen(backprop: CommandLine) -> dict[str, Any]:
    read: dict[str, Any] = json.loads((backprop.folder / "seen.json").read_text())
    return read


def test_nvml_and_cuda_speak_of_the_same_card(card: GpuSample) -> None:
    """UUID, name and size are those that torch has; temperature and power are a real card's."""
    properties = torch.cuda.get_device_properties(0)
    assert card.name == properties.name
    assert card.memory_total_bytes is not None
    assert 0 <= card.memory_total_bytes - properties.total_memory < card.memory_total_bytes // 10
    assert card.temperature_c is None or 10 < card.temperature_c < 110
    assert card.power_w is None or 1 < card.power_w < 2_000
    assert card.trouble == ""


def test_what_a_process_takes_is_seen(card: GpuSample) -> None:
    """One GB that torch takes is a GB less to be had, and is back when torch lets go of it."""
    free = [_free(card.uuid)]
    kept = torch.ones(1 << 30, dtype=torch.uint8, device="cuda")
    torch.cuda.synchronize()
    free.append(_free(card.uuid))
    del kept
    torch.cuda.empty_cache()
    free.append(_free(card.uuid))
    assert free[0] - free[1] >= 1 << 30
    assert free[2] - free[1] >= (1 << 30) - 64 * MIB


def _free(uuid: str) -> int:
    probe = Nvml()
    (free,) = (gpu.memory_free_bytes for gpu in probe.read().gpus or () if gpu.uuid == uuid)
    probe.close()
    assert free is not None
    return free


def test_a_run_sees_one_card_and_it_is_named_by_uuid(backprop: CommandLine) -> None:
    """Without a mask the script finds one device, the one that its mask names."""
    backprop.environment.pop("CUDA_VISIBLE_DEVICES", None)
    backprop.script(LOOK)
    done = backprop("run", "train.py", "-m", "5")
    assert done.returncode == 0, done.stderr
    assert seen(backprop)["devices"] == 1
    assert seen(backprop)["mask"].endswith(seen(backprop)["uuid"])


@pytest.mark.parametrize("letters", [12, 100])
def test_a_mask_of_the_users_stays_as_it_is(backprop: CommandLine, card: GpuSample, letters: int) -> None:
    """A UUID, or the beginning of one, means the same card to the driver and to us."""
    backprop.environment["CUDA_VISIBLE_DEVICES"] = card.uuid[:letters]
    backprop.script(LOOK)
    done = backprop("run", "train.py", "-m", "5")
    assert done.returncode == 0, done.stderr
    assert seen(backprop)["mask"] == card.uuid[:letters]
    assert card.uuid.endswith(seen(backprop)["uuid"])


def test_a_card_that_is_too_warm_is_refused(backprop: CommandLine, card: GpuSample) -> None:
    """With a limit of 20 °C, the least that is allowed, nothing starts, and the temperature is named."""
    if card.temperature_c is None or card.temperature_c <= 20:
        pytest.skip("this card tells no temperature above 20 °C")
    backprop.environment["CUDA_VISIBLE_DEVICES"] = card.uuid
    backprop.script(LOOK)
    done = backprop("run", "train.py", "--gpu-max-temp", "20", "--no-wait")
    assert done.returncode == 75, done.stderr
    assert "°C" in done.stderr
    assert not (backprop.folder / "seen.json").exists()


@pytest.mark.parametrize(("limit", "said"), [("1", "refused"), ("90%", "all of it")])
def test_a_limit_holds_inside_torch(backprop: CommandLine, limit: str, said: str) -> None:
    """With `-g 1` half a GB is had and another whole one is refused; with most of the card it is not."""
    backprop.script(TAKE)
    done = backprop("run", "train.py", "-m", "5", "-g", limit)
    assert done.returncode == 0, done.stderr
    assert f"half a GB\n{said}" in done.stdout.replace("\r", "")


def test_two_runs_share_a_card(backprop: CommandLine, card: GpuSample) -> None:
    """Two trainings on one card, side by side, both come to their end."""
    backprop.environment["CUDA_VISIBLE_DEVICES"] = card.uuid
    backprop.script(HOLD)
    runs = [backprop.start("run", "train.py", "-m", "5", "--run-id", name) for name in ("one", "two")]
    try:
        for run in runs:
            _, said = run.communicate(timeout=240)
            assert run.returncode == 0, said
    finally:
        for run in runs:
            end(run)
    assert {backprop.record(name)["status"] for name in ("one", "two")} == {"completed"}


def test_memory_that_one_run_was_promised_is_not_promised_to_another(
    backprop: CommandLine, card: GpuSample
) -> None:
    """Before the first one's first step, when it has taken little, more than half of what is free is nobody else's."""
    backprop.environment["CUDA_VISIBLE_DEVICES"] = card.uuid
    asked = ("--gpu-min-vram", str(int(0.6 * (card.memory_free_bytes or 0) / MIB)))
    backprop.script(WARM_UP)
    first = backprop.start("run", "train.py", "-m", "5", *asked, "--", "first.on")
    try:
        wait_for(lambda: (backprop.folder / "first.on").exists() or first.poll() is not None)
        assert first.poll() is None
        second = backprop("run", "train.py", "-m", "5", *asked, "--no-wait", "--", "second.on")
    finally:
        end(first, signal.SIGTERM)
    assert second.returncode == 75, second.stderr
    assert "free GPU memory" in second.stderr
