"""A state spread over gloo ranks: our save beside torch.distributed.checkpoint's, and the cost of agreeing on the stop.

    python benchmarks/sharded.py                     # 4 GB over 4 ranks, 3 turns
    python benchmarks/sharded.py --mb 400 --turns 5
    python benchmarks/sharded.py --only agreement

Each figure comes from processes of its own, in turns: the methods of a turn run one after another, each turn beginning with
another one. A method saves once to warm up and then `--saves` times; the weights change in between.

waits           how long training is held up, of the rank that is held up longest
on disk after   from there until the checkpoint is complete
extra memory    how far the ranks' resident memory rose above what it was with the model alone, of the state's bytes

Ours commits with digests and fsync of every file. DCP's writer calls fsync, too (`sync_files=True`), and keeps no digests.
The agreement is measured in steps of 50 ms that end in a barrier, as a gradient's reduction does, so that no rank waits for
a slower one in it. Its share is the talks' median times their number; all time between two steps, and that of the same loop
without a box, stands beside it, because on a busy machine a process is also kept from running there.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from side_by_side import show, write

METHODS = ("ours", "DCP save", "DCP async_save")
LAYER_MB = 16
STEP_S = 0.05
WARM_UP = 40
WORDS_EVERY = 40
PATIENCE_S = 600.0


# -- in each rank ----------------------------------------------------------------------------------------------------


def sharded_model(mb: int) -> Any:
    """Weights of `mb` million bytes, of which each rank makes its own part only."""
    import torch
    from torch import nn
    from torch.distributed.fsdp import fully_shard

    with torch.device("meta"):
        rows = LAYER_MB * 1_000_000 // 4 // 2_000
        model = nn.Sequential(*(nn.Linear(2_000, rows, bias=False) for _ in range(max(1, mb // LAYER_MB))))
    for layer in model:
        fully_shard(layer)
    fully_shard(model)
    model.to_empty(device="cpu")
    for parameter in model.parameters():
        torch.nn.init.uniform_(parameter.to_local())  # type: ignore[attr-defined]
    return model


def train(model: Any) -> None:
    """Every weight changes."""
    for parameter in model.parameters():
        parameter.to_local().detach().add_(1e-3)


def memory(key: str) -> int:
    """Bytes of this process, by a key of its status: VmRSS, or VmHWM since `forget_peak`."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{key}:"):
            return 1024 * int(line.split()[1])
    raise KeyError(key)


def forget_peak() -> None:
    Path("/proc/self/clear_refs").write_text("5")


Saves = list[dict[str, float]]


def ours(model: Any, saves: int, folder: Path) -> Saves:
    """Periodic saves of a time box, each asked for, and waited for until it is committed."""
    import torch
    import torch.distributed as dist

    import backprop

    made: Saves = []
    checkpoints = folder / "checkpoints"
    with backprop.timebox("10h", checkpoint_every="10h", checkpoint_dir=checkpoints, model=model) as box:
        began = 0.0
        requests = getattr(box._running(), "requests", None)  # the first rank's: it decides
        for step in box.steps(1_000_000):
            now = time.monotonic()
            begun = torch.tensor([int(step > 0 and requests is not None and not requests.save_asked)])
            dist.broadcast(begun, src=0)
            if begun.item():
                while dist.get_rank() == 0 and not list(checkpoints.glob(f"step-*{step}/manifest.json")):
                    if time.monotonic() - began > PATIENCE_S:
                        raise TimeoutError("the checkpoint is not there")
                    time.sleep(0.001)
                made.append({"waits": now - began, "whole": time.monotonic() - began})
                if len(made) > saves:
                    break
            train(model)
            if requests is not None:
                requests.save_asked = True
            dist.barrier()
            began = time.monotonic()
    return made


def dcp(model: Any, saves: int, folder: Path, *, waits: bool) -> Saves:
    import torch.distributed as dist
    import torch.distributed.checkpoint as torch_checkpoint
    from torch.distributed.checkpoint.state_dict import get_model_state_dict

    made: Saves = []
    for number in range(saves + 1):
        train(model)
        path = folder / f"dcp-{number}"
        dist.barrier()
        began = time.monotonic()
        state = {"model": get_model_state_dict(model)}
        if waits:
            torch_checkpoint.save(state, checkpoint_id=path)
            now = time.monotonic()
        else:
            future: Any = torch_checkpoint.async_save(state, checkpoint_id=path)
            now = time.monotonic()
            future.result()
        made.append({"waits": now - began, "whole": time.monotonic() - began})
        dist.barrier()
        if dist.get_rank() == 0:
            shutil.rmtree(path)
    return made


def agreement(steps: int, folder: Path) -> dict[str, Any]:
    """What talking takes in a training that never saves, and what the same loop without a box has between two steps."""
    import torch.distributed as dist

    import backprop

    def gaps_of(numbers: Iterable[int], left: Callable[[], int]) -> tuple[list[float], list[float], float]:
        """Seconds between two steps: where the ranks have talked, and elsewhere; and of the whole."""
        talks, others, began, before = list[float](), list[float](), 0.0, 0
        first = time.monotonic()
        for number in numbers:
            now, ahead = time.monotonic(), left()
            if number == WARM_UP:  # the first ones learn how long steps and saves take
                first, talks, others = now, [], []
            elif number:
                (talks if ahead >= before else others).append(now - began)
            before = ahead
            time.sleep(STEP_S)
            dist.barrier()
            began = time.monotonic()
        return talks, others, time.monotonic() - first

    bare, bare_s = gaps_of(range(steps), itertools.count(0, -1).__next__)[1:]
    word = statistics.median(one_word(steps // WORDS_EVERY))
    box = backprop.timebox(
        "10h", checkpoint_every="10h", checkpoint_dir=folder / "checkpoints", model=sharded_model(16)
    )
    with box:
        session: Any = box._running()
        talks, others, whole_s = gaps_of(box.steps(steps), lambda: session.boundaries_to_next_talk)
    talk_s = statistics.median(talks or [0.0])
    return {
        "share": talk_s * len(talks) / whole_s,
        "talks": len(talks),
        "steps": len(talks) + len(others),
        "talk_s": talk_s,
        "between": (sum(talks) + sum(others)) / whole_s,
        "between_bare": sum(bare) / bare_s,
        "gloo_s": word,
    }


def one_word(count: int) -> list[float]:
    """Seconds of a tiny all_reduce of gloo, as often as the ranks of a box talk."""
    import torch
    import torch.distributed as dist

    group, took = dist.new_group(backend="gloo"), list[float]()
    for _ in range(count):
        for _ in range(WORDS_EVERY):
            time.sleep(STEP_S)
            dist.barrier()
        began = time.monotonic()
        dist.all_reduce(torch.zeros(7, dtype=torch.int64), op=dist.ReduceOp.MAX, group=group)
        took.append(time.monotonic() - began)
    return took


def rank_main(what: str, mb: int, count: int, folder: Path) -> None:
    import torch
    import torch.distributed as dist

    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    told: dict[str, Any]
    if what == "agreement":
        told = agreement(count, folder)
    else:
        model = sharded_model(mb)
        before = memory("VmRSS")
        forget_peak()
        method: Callable[[], Saves] = {
            "ours": lambda: ours(model, count, folder),
            "DCP save": lambda: dcp(model, count, folder, waits=True),
            "DCP async_save": lambda: dcp(model, count, folder, waits=False),
        }[what]
        told = {"saves": method()[1:], "rose": memory("VmHWM") - before}
    (folder / f"told-{dist.get_rank()}.json").write_text(json.dumps(told))
    dist.barrier()
    dist.destroy_process_group()


# -- around them -----------------------------------------------------------------------------------------------------


def measured(what: str, mb: int, count: int, ranks: int) -> list[dict[str, Any]]:
    """What each rank tells."""
    with tempfile.TemporaryDirectory(prefix="sharded-", dir=os.environ.get("TMPDIR", "/tmp")) as folder:
        command = [
            sys.executable,
            "-m",
            "torch.distributed.run",
            "--standalone",
            "--nproc-per-node",
            str(ranks),
            __file__,
        ]
        environ = {
            **os.environ,
            "BACKPROP_HOME": f"{folder}/home",
            "OMP_NUM_THREADS": "1",
            "PYTHONWARNINGS": "ignore",
        }
        order = ["--rank", what, "--mb", str(mb), "--saves", str(count), "--folder", folder]
        done = subprocess.run([*command, *order], env=environ, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"{what} failed: {done.stderr[-3000:]}")
        return [json.loads((Path(folder) / f"told-{rank}.json").read_text()) for rank in range(ranks)]


def one(what: str, mb: int, saves: int, ranks: int) -> dict[str, float]:
    """Medians of one process group's saves."""
    told = measured(what, mb, saves, ranks)
    by_save = list(zip(*(rank["saves"] for rank in told), strict=True))
    longest = {key: [max(rank[key] for rank in save) for save in by_save] for key in ("waits", "whole")}
    rose = sum(rank["rose"] for rank in told) / (mb // LAYER_MB * LAYER_MB * 1_000_000)
    return {key: statistics.median(values) for key, values in longest.items()} | {"memory": rose}


def rows(by_method: dict[str, list[dict[str, float]]]) -> list[dict[str, Any]]:
    """Medians, and the medians of the turns' own ratios to `DCP save`."""
    table = []
    for name, turns in by_method.items():
        beside = by_method["DCP save"]
        middle = {key: statistics.median(turn[key] for turn in turns) for key in ("waits", "whole", "memory")}
        ratios = {
            key: statistics.median(a[key] / b[key] for a, b in zip(turns, beside, strict=True))
            for key in ("waits", "whole")
        }
        table.append(
            {
                "method": name,
                "waits, s": middle["waits"],
                "on disk after, s": middle["whole"],
                "extra memory, x state": middle["memory"],
                "waits, of DCP save": ratios["waits"],
                "on disk, of DCP save": ratios["whole"],
            }
        )
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--mb", type=int, default=4096, help="the whole state, in million bytes")
    parser.add_argument("--ranks", type=int, default=4)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--saves", type=int, default=3)
    parser.add_argument("--steps", type=int, default=600, help="of the agreement")
    parser.add_argument("--only", choices=("save", "agreement"))
    parser.add_argument("--rank", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.rank is not None:
        rank_main(asked.rank, asked.mb, asked.saves, asked.folder)
        return
    results: dict[str, Any] = {"mb": asked.mb, "ranks": asked.ranks, "load": os.getloadavg()[0]}
    if asked.only != "agreement":
        by_method: dict[str, list[dict[str, float]]] = {name: [] for name in METHODS}
        for turn in range(asked.turns):
            for name in METHODS[turn % 3 :] + METHODS[: turn % 3]:
                by_method[name].append(one(name, asked.mb, asked.saves, asked.ranks))
        results["saves"] = rows(by_method)
        turns, load = f"{asked.turns} turns of {asked.saves} saves", f"load {results['load']:.1f}"
        title = f"{asked.mb} MB over {asked.ranks} ranks, {turns}, {load}"
        show(title, results["saves"])
    if asked.only != "save":
        told = measured("agreement", 16, asked.steps, asked.ranks)
        worst = max(told, key=lambda rank: rank["share"])
        results["agreement"] = worst
        row = {
            "of the time": f"{100 * worst['share']:.3f}%",
            "steps": worst["steps"],
            "talks": worst["talks"],
            "a talk, ms": 1000 * worst["talk_s"],
            "a word of gloo alone, ms": 1000 * worst["gloo_s"],
            "of the time, that alone": f"{100 * worst['gloo_s'] * worst['talks'] / worst['steps'] / STEP_S:.3f}%",
            "between steps": f"{100 * worst['between']:.2f}%",
            "without a box": f"{100 * worst['between_bare']:.2f}%",
        }
        show(
            f"Steps of {STEP_S * 1000:.0f} ms on {asked.ranks} ranks, the rank that pays most (goal 0.1%)",
            [row],
        )
    print(f"\n{write('sharded', results)}")


if __name__ == "__main__":
    main()
