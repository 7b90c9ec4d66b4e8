"""The most important part of what has to be seen on a GPU, as one table, in less than eight minutes.

    python benchmarks/gpu.py                          # the first CUDA device; 8 GB of state where it has them
    python benchmarks/gpu.py --only exact,copies      # some of it
    python benchmarks/gpu.py --device cpu             # tries this script itself; says nothing of a GPU

exact      trainings that are cut, beside uncut ones: generators, cudnn, AMP, fused optimizers, graphs, torch.compile
death      an illegal memory access on the device (on a CPU: an abort), and what is left of the training
copies     what training waits for in a periodic save, in turns with a plain copy of the same tensors into pinned memory
boundary   nanoseconds a boundary takes, and whether it waits for kernels that are queued
deadline   a box with a large state: late or not, and how much of it was left
limit      `-g 1`: half a GB is had, another whole one is refused

A check that fails is a row and ends nothing. A check for which no time is left is a row, too. Status 1: a row is bad.
"""

from __future__ import annotations

import argparse
import itertools
import os
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import redirect_stderr
from io import StringIO
from pathlib import Path
from typing import Any

import psutil
import torch
from gpu_place import Place, Row, row, timed
from side_by_side import quantile, show, write

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))
LEFT_S = 470.0
BLOCKED_GOAL, ROUNDS, TENSORS = 1.2, 5, 24


def exact(place: Place) -> Iterator[Row]:
    from tests.gpu.kinds import KINDS
    from tests.gpu.pieces import run_pieces

    folder = place.folder / "exact"
    folder.mkdir()
    for kind, made in run_pieces(list(KINDS), place.device, folder, timeout_s=place.left_s).items():
        cut = set(made["outcomes"][:-1]) <= {"timeboxed", "preempted", "stopped"}
        if made["again"] != made["whole"]:
            said = "two uncut trainings differ"
        elif not cut or made["outcomes"][-1] != "completed":
            said = " ".join(made["outcomes"])
        else:
            said = "the same bits" if made["cut"] == made["whole"] else "other bits"
        at = ", ".join(map(str, made["at"]))
        yield row("exact", f"{kind}, cut after steps {at}", said, "the same bits", said == "the same bits")


def death(place: Place) -> Iterator[Row]:
    from backprop_core.checkpoints import CheckpointStore, NumpyTranslator
    from backprop_core.clock import SYSTEM
    from backprop_torch.translator import TorchTranslator

    how, at = ("illegal" if place.device == "cuda" else "abort"), 300
    script = HERE.parent / "tests" / "gpu" / "failing_device.py"
    done = place.run("-m", "10", "--run-id", "dies", str(script), "--", place.device, how, str(at))
    reached = re.findall(r"^step (\d+)\s*$", done.stdout, re.MULTILINE)
    store = CheckpointStore(place.folder / "home/runs/dies/checkpoints", clock=SYSTEM)
    found = store.list()
    if not reached or int(reached[-1]) != at or not found:
        yield row(
            "death", f"{how} in step {at}", f"nothing left: {done.stderr[-200:]!r}", "a survivor", False
        )
        return
    state: Any = store.load(found[0], (TorchTranslator(), NumpyTranslator())).states["model"]
    whole = all(bool((tensor == found[0].step).all()) for tensor in state.values())
    reason = found[0].facts.reason.value
    yield row("death", f"{how} in step {at}: reason", reason, "survivor", reason == "survivor")
    yield row("death", "every value is of one step", whole, "True", whole)
    yield row("death", "steps lost, the failed one included", at + 1 - found[0].step)


def copies(place: Place) -> Iterator[Row]:
    from backprop_core.checkpoints import (
        CheckpointFacts,
        CheckpointStore,
        NumpyTranslator,
        StagingBuffers,
        Writer,
        capture,
    )
    from backprop_core.checkpoints.shared_memory import SharedMemory
    from backprop_core.clock import SYSTEM
    from backprop_core.outcome import SaveReason
    from backprop_torch.translator import TorchTranslator

    translators = (TorchTranslator(), NumpyTranslator())
    state = {str(n): torch.randn(place.nbytes // 4 // TENSORS, device=place.device) for n in range(TENSORS)}
    nbytes = sum(tensor.nbytes for tensor in state.values())
    pinned = {
        name: torch.empty(value.shape, pin_memory=place.device == "cuda") for name, value in state.items()
    }
    for target in pinned.values():
        target.zero_()
    store = CheckpointStore(place.folder / "saves", clock=SYSTEM)
    writer, buffers = Writer(store, SYSTEM), StagingBuffers(translators, SharedMemory())
    saves = itertools.count(1)

    def plain() -> None:
        for name, value in state.items():
            pinned[name].copy_(value, non_blocking=True)
        place.wait()

    def ours() -> None:
        facts = CheckpointFacts("gpu", 1, next(saves), 0, 0, SaveReason.PERIODIC)
        assert writer.submit(capture({"model": state}, translators).staged(buffers), facts)

    first_s = timed(place, ours)
    writer.join(None)
    plain()
    waits, beside, durable = [], [], []
    until = time.monotonic() + place.left_s / 2
    while len(waits) < ROUNDS and (not waits or time.monotonic() < until):
        beside.append(timed(place, plain))
        state["0"].add_(1)  # something is new in each
        waits.append(timed(place, ours))
        began = time.perf_counter()
        writer.join(None)
        durable.append(waits[-1] + time.perf_counter() - began)
    writer.close()
    loaded: Any = store.load(store.list()[0], translators).states["model"]
    same = all(torch.equal(loaded[name], value.cpu()) for name, value in state.items())
    ratio = quantile([ours_s / plain_s for ours_s, plain_s in zip(waits, beside, strict=True)], 0.5)
    size = f"{nbytes / 1e9:.3g} GB"
    yield row("copies", f"the first save of {size}, its memory taken: ms", 1e3 * first_s)
    yield row("copies", f"a plain copy of {size} into pinned memory: ms", 1e3 * quantile(beside, 0.5))
    yield row("copies", f"training waits for a periodic save of {size}: ms", 1e3 * quantile(waits, 0.5))
    yield row("copies", "the same, x a plain copy", ratio, f"<= {BLOCKED_GOAL}", ratio <= BLOCKED_GOAL)
    yield row("copies", "until it is on the disk: s", quantile(durable, 0.5))
    yield row("copies", "what was read back is what was saved", same, "True", same)


def boundary(place: Place) -> Iterator[Row]:
    os.environ["BACKPROP_HOME"] = str(place.folder / "boundary")
    import backprop

    model, count, ran_on, asked = torch.nn.Linear(8, 8).to(place.device), 20_000, 0, 0
    bare_s = timed(place, lambda: [None for _ in range(count)] and None)
    with redirect_stderr(StringIO()), backprop.timebox("1h", checkpoint_every="1h", model=model) as box:

        def steps(number: int) -> None:
            for _ in range(number):
                box.step()

        steps(count)
        least_s = min(timed(place, lambda: steps(count)) for _ in range(20))
        if place.device == "cuda":
            for _ in range(50):
                torch.cuda._sleep(50_000_000)
                done = torch.cuda.Event()
                done.record()
                steps(100)
                ran_on += not done.query()
                asked += 1
                place.wait()
    cost_ns = (least_s - bare_s) / count * 1e9
    yield row("boundary", "box.step(), over a bare loop: ns", cost_ns, "<= 200", cost_ns <= 200)
    if asked:
        good = ran_on >= 0.75 * asked
        yield row("boundary", f"kernels still running after 100 steps, of {asked}", ran_on, ">= 75%", good)


def deadline(place: Place) -> Iterator[Row]:
    from deadline import boxed

    os.environ.update(place.environ())
    budget_s = min(45.0, place.left_s - 20)
    work = ["--state-mb", str(place.nbytes / 1e6 / 2), "--step-ms", "50", "--device", place.device]
    home = place.folder / "home"
    made = boxed("large", str(home), budget_s, work)
    what = f"a box of {budget_s:.0f} s with {place.nbytes / 2e9:.3g} GB"
    yield row("deadline", f"{what}: s left at its end", made["slack_s"], "0 or more", made["slack_s"] >= 0)
    joined = f"{made['outcome']}{'' if made['joined'] else ', before the box was open'}"
    last = "" if "steps" in made else ", without the session's last word"  # it was ended from outside
    ended = f"{joined}{last}{', killed' if made.get('killed') else ''}"
    yield row("deadline", "how it ended", ended, "timeboxed", ended == "timeboxed")
    yield row("deadline", "a checkpoint is there", made["checkpoint"], "True", made["checkpoint"])
    if made.get("save_s") is not None:
        yield row("deadline", "the last save: s", made["save_s"])
    if made.get("allowed_s") is not None:
        good = made["slack_s"] <= made["allowed_s"]
        yield row("deadline", "s unused that are allowed", made["allowed_s"], "not exceeded", good)


TAKE = """
import torch
torch.empty(1 << 29, dtype=torch.uint8, device="cuda")
kept = torch.empty(1 << 29, dtype=torch.uint8, device="cuda")
try:
    torch.empty(1 << 30, dtype=torch.uint8, device="cuda")
    print("not held")
except torch.OutOfMemoryError:
    print("held")
"""


def limit(place: Place) -> Iterator[Row]:
    if place.device != "cuda":
        return
    (place.folder / "take.py").write_text(TAKE)
    done = place.run("-m", "5", "-g", "1", "take.py")
    said = "held" if re.search(r"^held\s*$", done.stdout, re.MULTILINE) else done.stdout + done.stderr[-200:]
    yield row("limit", "-g 1 in PyTorch", said, "held", said == "held")


CHECKS: Mapping[str, tuple[Callable[[Place], Iterator[Row]], float]] = {
    "exact": (exact, 60),
    "death": (death, 20),
    "copies": (copies, 40),
    "boundary": (boundary, 5),
    "deadline": (deadline, 65),
    "limit": (limit, 15),
}
"""Each with the seconds below which it is not begun."""


def _state_bytes(device: str, asked_gb: float, folder: Path) -> int:
    """What was asked for, or what the GPU, the memory and the disk have room for."""
    room = [asked_gb * 1e9, psutil.virtual_memory().available * 0.2, shutil.disk_usage(folder).free * 0.2]
    if device == "cuda":
        room.append(torch.cuda.mem_get_info()[0] * 0.4)
    return int(min(room))


def on(device: str) -> dict[str, Any]:
    """What it was measured on."""
    facts: dict[str, Any] = {
        "torch": torch.__version__,
        "load": os.getloadavg(),
        "processors": os.cpu_count(),
    }
    if device != "cuda":
        return facts | {"card": "none: this run says nothing of a GPU"}
    from backprop_core.resources.probes.nvml import Nvml

    reading = Nvml().read()
    facts |= {"card": torch.cuda.get_device_name(), "cuda": torch.version.cuda}
    uuid = str(torch.cuda.get_device_properties(0).uuid)
    known = next((gpu for gpu in reading.gpus or () if gpu.uuid.endswith(uuid)), None)
    return facts | {
        "nvml": "does not know this card" if known is None else str(known),
        "notes": reading.notes,
    }


def measured(names: list[str], place: Place) -> Iterator[Row]:
    """The rows of each check, of one that fails as well."""
    for name in names:
        check, least_s = CHECKS[name]
        if place.left_s < least_s:
            yield row(name, "not begun", f"{place.left_s:.0f} s were left")
            continue
        began = time.monotonic()
        try:
            yield from check(place)
        except Exception as error:
            yield row(name, "failed", f"{type(error).__name__}: {error}"[:300], "", False)
        print(f"{name}: {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--state-gb", type=float, default=8.0, help="of the large state, at most")
    parser.add_argument("--only", default=",".join(CHECKS), help="checks, with commas between")
    parser.add_argument("--folder", type=Path, help="for checkpoints; default: a temporary one")
    options = parser.parse_args()
    end_s = time.monotonic() + LEFT_S
    names = options.only.split(",")
    if unknown := [name for name in names if name not in CHECKS]:
        parser.error(f"there is no check {unknown[0]!r}: choose among {', '.join(CHECKS)}")
    if options.device == "cuda" and not torch.cuda.is_available():
        parser.error(f"torch {torch.__version__} finds no GPU; --device cpu tries the script without one")
    with tempfile.TemporaryDirectory(prefix="backprop-gpu-", dir=options.folder) as folder:
        nbytes = _state_bytes(options.device, options.state_gb, Path(folder))
        place = Place(options.device, nbytes, Path(folder), end_s)
        facts = on(options.device)
        rows = list(measured(names, place))
    show(f"On {facts['card']}", rows)
    print(f"\nload {facts['load'][0]:.1f} on {facts['processors']} processors, torch {facts['torch']}")
    print(f"Written to {write('gpu', {'measured_on': facts, 'rows': rows})}")
    return int(any(one["good"] == "NO" for one in rows))


if __name__ == "__main__":
    sys.exit(main())
