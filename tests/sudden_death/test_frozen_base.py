"""A training of which most is frozen dies of SIGKILL: what was not copied again is in the survivor all the same."""

from __future__ import annotations

import json
import re
import subprocess
import sys

import pytest

from backprop_core.checkpoints.store import CheckpointStore
from backprop_core.checkpoints.survivor_header import READ_AT
from backprop_core.clock import SYSTEM
from tests.backprop_cli.commandline import CommandLine

SCRIPT = """
    import contextlib, hashlib, os, signal, threading, time
    import torch
    from torch import nn
    import backprop

    ATTEMPT = os.environ.get("BACKPROP_ATTEMPT")
    torch.manual_seed(0)
    base, adapter = nn.Linear(1000, 1200), nn.Linear(1200, 2)
    base.requires_grad_(False)
    model = nn.Sequential(base, nn.Dropout(0.3), adapter)
    optimizer = torch.optim.AdamW(adapter.parameters(), 1e-2)

    def is_kept(box):
        session = box._inside().loops.session
        copy = session.guard._copy
        return copy is not None and copy[0].kept != {} and session.saver.survivor.sealed_step == copy[1].step

    dying = False
    with backprop.timebox(model=model, optimizer=optimizer) if ATTEMPT else contextlib.nullcontext() as box:
        for step in box.steps(700) if ATTEMPT else range(700):
            if step == 600:
                base.weight.data[7] += 1.0  # a row, which no count of changes shows
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(torch.randn(4, 1000)), torch.randint(2, (4,))).backward()
            optimizer.step()
            if not dying and (ATTEMPT == "1" and step > 60 and is_kept(box) or ATTEMPT == "2" and step == 660):
                dying = True
                threading.Timer(0.01, os.kill, (os.getpid(), signal.SIGKILL)).start()
            if ATTEMPT:
                time.sleep(0.02)
    digest = hashlib.sha256(b"".join(one.detach().numpy().tobytes() for one in model.parameters()))
    print("digest", digest.hexdigest(), flush=True)
"""


@pytest.mark.faults
@pytest.mark.timeout(900)
def test_a_frozen_base_comes_back_with_what_was_trained(backprop: CommandLine) -> None:
    """Dead before and after a row of the base is changed past torch's count: both survivors go on to the uncut end."""
    backprop.script(SCRIPT)
    uncut = subprocess.run(
        [sys.executable, "train.py"], cwd=backprop.folder, capture_output=True, text=True, check=False
    )
    assert uncut.returncode == 0, uncut.stderr
    done = backprop("run", "train.py", "-m", "10", "--run-id", "lora")
    for death in range(2):
        assert done.returncode == 137, done.stderr
        newest = CheckpointStore(backprop.home / "runs/lora/checkpoints", clock=SYSTEM).list()[0]
        assert newest.facts.reason.value == "survivor"
        manifest = json.loads((newest.path / "manifest.json").read_text())
        if not death:
            assert manifest["extra"][READ_AT] <= newest.step < 600
            assert manifest["objects"]["model"]["unchanged_arrays"] == "model~unchanged.safetensors"
        done = backprop("resume", "lora", "-m", "10")
        assert f"resumed from step {newest.step}" in done.stderr
    assert done.returncode == 0, done.stderr
    assert re.findall(r"^digest .*", done.stdout, re.M) == re.findall(r"^digest .*", uncut.stdout, re.M) != []
