"""Checkpoints: how long training is blocked, how fast they are written and read, beside what others do.

    python benchmarks/checkpoint.py [--sizes 10,100,500,2000] [--rounds 5] [--only ours,DCP] [--folder .bench] [--json FILE]

Everything of one size is measured in the same rounds, one after the other, each round beginning with another method, so
that a slow minute of the machine hits all alike. What counts is the median of the rounds' own ratios; in brackets beside it
stands the ratio of the best rounds. What training waits for is also given by its thread's processor time, which other work
on the machine changes less. The state is a model and Adam's two moments in float32, as a PyTorch script saves it. Before
each measurement the disk is idle (`sync`), after it the files go.

baselines   memcpy into reused and into fresh memory; raw write with fsync of the same bytes, and of these as
            the files and flushes of a checkpoint; raw read into fresh memory
ours        save: digests, fsync of files and folders; periodic: a copy into reused buffers, then the writer thread
theirs      torch.save; Lightning's TorchCheckpointIO (what ModelCheckpoint calls) and AsyncCheckpointIO; DCP
"""

from __future__ import annotations

import argparse
import ctypes
import itertools
import json
import os
import shutil
import statistics
import threading
import time
import warnings
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from backprop_core.checkpoints import (
    CheckpointFacts,
    CheckpointStore,
    NumpyTranslator,
    StagingBuffers,
    Translator,
    Writer,
    capture,
)
from backprop_core.checkpoints.arrays import allocate_ram
from backprop_core.clock import SYSTEM
from backprop_core.outcome import SaveReason
from backprop_torch.translator import TorchTranslator

TRANSLATORS: tuple[Translator, ...] = (TorchTranslator(), NumpyTranslator())
FACTS = CheckpointFacts("bench", 1, 1, 0, 0, SaveReason.PERIODIC)
PIECE = 4 << 20


def make_state(nbytes: int) -> dict[str, Any]:
    """A model of 24 matrices and Adam's state for it, `nbytes` in all."""
    side = max(16, int((nbytes / 4 / 3 / 24) ** 0.5))
    weights = {f"blocks.{n}.weight": torch.randn(side, side) for n in range(24)}
    moments = {
        n: {
            "step": torch.tensor(9.0),
            "exp_avg": torch.randn(side, side),
            "exp_avg_sq": torch.rand(side, side),
        }
        for n in range(24)
    }
    return {
        "model": weights,
        "optimizer": {"state": moments, "param_groups": [{"lr": 1e-3, "params": list(range(24))}]},
    }


def tensors_of(state: Any) -> list[torch.Tensor]:
    """Every tensor in a state."""
    if isinstance(state, torch.Tensor):
        return [state]
    values = state.values() if isinstance(state, dict) else state if isinstance(state, list) else ()
    return [tensor for value in values for tensor in tensors_of(value)]


class PeakMemory:
    """The most resident memory this process has had inside the context beyond what it had before, in bytes."""

    def __enter__(self) -> PeakMemory:
        self.extra = 0
        self._before = _resident()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def _watch(self) -> None:
        while not self._ended.wait(0.005):
            self.extra = max(self.extra, _resident() - self._before)

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@dataclass
class Measured:
    """Of each round: seconds that training waits, its thread's processor seconds meanwhile, seconds until all is on the
    disk, and bytes of memory taken.
    """

    blocked: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    total: list[float] = field(default_factory=list)
    memory: list[int] = field(default_factory=list)


class Bench:
    """The methods, over one state and one folder."""

    def __init__(self, nbytes: int, folder: Path) -> None:
        self.state = make_state(nbytes)
        self.tensors = tensors_of(self.state)
        self.nbytes = sum(t.nbytes for t in self.tensors)
        self.folder = folder
        self.block = torch.ones(self.nbytes, dtype=torch.uint8)  # ordinary memory, as the state's own
        self.target = torch.ones(self.nbytes, dtype=torch.uint8)
        self.source = memoryview(self.block.numpy())  # type: ignore[arg-type]
        self.store = CheckpointStore(folder / "ours", clock=SYSTEM)
        self.store.directory.mkdir()
        self.writer = Writer(self.store, SYSTEM)
        self.buffers = StagingBuffers(TRANSLATORS)
        capture(self.state, TRANSLATORS).staged(self.buffers)

    # Each method does its work and gives the function that waits for what goes on behind it, or None.

    def memcpy(self) -> None:
        ctypes.memmove(self.target.data_ptr(), self.block.data_ptr(), self.nbytes)

    def torch_copy(self) -> None:
        self.target.copy_(self.block)

    def clone(self) -> None:
        for tensor in self.tensors:
            tensor.clone()

    def raw_write(self) -> None:
        fd = os.open(self.folder / "raw", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        view = self.source
        while view:
            view = view[os.write(fd, view[:PIECE]) :]
        os.fsync(fd)
        os.close(fd)

    def raw_commit(self) -> None:
        """The files and flushes of a checkpoint of this state, and nothing else: the least that its promise costs."""
        saving = self.folder / "saving"
        saving.mkdir()
        parts = (0, self.nbytes // 3, self.nbytes // 3 + 3_000, self.nbytes - 3_000, self.nbytes, self.nbytes)
        opened = []
        for number, (start, end) in enumerate(itertools.pairwise(parts)):
            opened.append(os.open(saving / str(number), os.O_WRONLY | os.O_CREAT | os.O_EXCL))
            view = self.source[start:end]
            while view:
                view = view[os.write(opened[-1], view[:PIECE]) :]
        opened.append(os.open(saving, os.O_RDONLY))
        with ThreadPoolExecutor(len(opened)) as pool:
            list(pool.map(os.fsync, opened))
        saving.rename(self.folder / "step")
        opened.append(os.open(self.folder, os.O_RDONLY))
        os.fsync(opened[-1])
        for fd in opened:
            os.close(fd)

    def ours(self) -> None:
        self.store.commit(capture(self.state, TRANSLATORS), FACTS, retain=False)

    def ours_periodic(self) -> Callable[[], object]:
        assert self.writer.submit(capture(self.state, TRANSLATORS).staged(self.buffers), FACTS)
        return lambda: self.writer.join(None)

    def torch_save(self) -> None:
        torch.save(self.state, self.folder / "torch.pt")

    def torch_save_fsync(self) -> None:
        with (self.folder / "torch.pt").open("wb") as file:
            torch.save(self.state, file)
            file.flush()
            os.fsync(file.fileno())

    def lightning(self) -> None:
        from lightning.pytorch.plugins.io import TorchCheckpointIO

        TorchCheckpointIO().save_checkpoint(self.state, self.folder / "lightning.ckpt")

    def lightning_async(self) -> Callable[[], object]:
        from lightning.pytorch.plugins.io import AsyncCheckpointIO, TorchCheckpointIO

        plugin = AsyncCheckpointIO(TorchCheckpointIO())
        plugin.save_checkpoint(self.state, self.folder / "lightning.ckpt")
        return plugin.teardown

    def dcp(self) -> None:
        from torch.distributed.checkpoint.state_dict_saver import save

        save(self.state, checkpoint_id=str(self.folder / "dcp"))

    def dcp_async(self) -> Callable[[], object]:
        from torch.distributed.checkpoint.state_dict_saver import async_save

        handle: Any = async_save(self.state, checkpoint_id=str(self.folder / "dcp"))
        return handle.result  # type: ignore[no-any-return]

    def measure(self, method: Callable[[], Any], into: Measured) -> None:
        """One measurement on an idle disk."""
        os.sync()
        with PeakMemory() as memory:
            start, cpu = time.perf_counter(), time.thread_time()
            behind = method()
            into.cpu.append(time.thread_time() - cpu)
            into.blocked.append(time.perf_counter() - start)
            if behind is not None:
                behind()
            into.total.append(time.perf_counter() - start)
        into.memory.append(memory.extra)
        for path in self.folder.iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        self.store.directory.mkdir()  # a save into it is measured, as a raw write into its own

    def restores(self, rounds: int) -> dict[str, Measured]:
        """Reading back: raw, ours with verification, torch.load, all from the page cache."""
        self.raw_write()
        self.torch_save()
        info = self.store.commit(capture(self.state, TRANSLATORS), FACTS)
        readers: dict[str, Callable[[], Any]] = {
            "raw read": self._raw_read,
            "ours, verified": lambda: self.store.load(info, TRANSLATORS) and None,
            "torch.load": lambda: torch.load(self.folder / "torch.pt", weights_only=True) and None,
            "torch.load mmap": lambda: (
                [t.sum() for t in tensors_of(torch.load(self.folder / "torch.pt", mmap=True))] and None
            ),
        }
        results = {name: Measured() for name in readers}
        os.sync()
        for number in range(rounds + 1):
            for name, reader in _rotated(list(readers.items()), number):
                with PeakMemory() as memory:
                    start = time.perf_counter()
                    reader()
                    took = time.perf_counter() - start
                if number:  # the first round fills the page cache
                    results[name].blocked.append(took)
                    results[name].total.append(took)
                    results[name].memory.append(memory.extra)
        return results

    def _raw_read(self) -> None:
        with (self.folder / "raw").open("rb", buffering=0) as file:
            memory = allocate_ram(self.nbytes, staging=False)
            done = 0
            while done < self.nbytes:
                done += file.readinto(memory[done:]) or 0


METHODS: dict[str, Callable[[Bench], Any]] = {
    "memcpy, reused memory": Bench.memcpy,
    "torch's copy, its threads": Bench.torch_copy,
    "clone, fresh memory": Bench.clone,
    "raw write + fsync": Bench.raw_write,
    "raw commit, five files": Bench.raw_commit,
    "ours, save": Bench.ours,
    "ours, periodic": Bench.ours_periodic,
    "torch.save": Bench.torch_save,
    "torch.save + fsync": Bench.torch_save_fsync,
    "Lightning ModelCheckpoint": Bench.lightning,
    "Lightning AsyncCheckpointIO": Bench.lightning_async,
    "DCP save": Bench.dcp,
    "DCP async_save": Bench.dcp_async,
}


def _rotated(items: list[Any], by: int) -> list[Any]:
    by %= len(items)
    return items[by:] + items[:by]


def bench_size(
    nbytes: int, rounds: int, folder: Path, methods: Mapping[str, Callable[[Bench], Any]]
) -> dict[str, Any]:
    """All methods over one size; medians, and their ratios to the baselines."""
    bench = Bench(nbytes, folder)
    results = {name: Measured() for name in methods}
    for method in methods.values():  # once for imports and first touches
        bench.measure(lambda method=method: method(bench), Measured())  # type: ignore[misc]
    for number in range(rounds):
        for name, method in _rotated(list(methods.items()), number * 3):
            bench.measure(lambda method=method: method(bench), results[name])  # type: ignore[misc]
    restores = bench.restores(rounds)
    for path in folder.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    bench.writer.close()
    return {
        "bytes": bench.nbytes,
        "saves": _rows(results, bench.nbytes),
        "restores": _rows(restores, bench.nbytes),
    }


def _rows(results: dict[str, Measured], nbytes: int) -> dict[str, Any]:
    return {
        name: {
            "blocked_s": statistics.median(m.blocked),
            "durable_s": statistics.median(m.total),
            "best_blocked_s": min(m.blocked),
            "best_durable_s": min(m.total),
            "mb_per_s": nbytes / statistics.median(m.total) / 1e6,
            "extra_memory_bytes": max(m.memory),
            "all_blocked_s": m.blocked,
            "all_cpu_s": m.cpu,
            "all_durable_s": m.total,
        }
        for name, m in results.items()
    }


def training_throughput(seconds: float, folder: Path) -> dict[str, float]:
    """Steps a second of a small training with Adam (about 100 MB of state): no saves, ours and torch.save every second."""
    model = torch.nn.Sequential(*[torch.nn.Linear(1200, 1200) for _ in range(6)])
    optimizer = torch.optim.Adam(model.parameters())
    batch = torch.randn(64, 1200)
    store = CheckpointStore(folder / "training", clock=SYSTEM)
    buffers = StagingBuffers(TRANSLATORS)

    def states() -> dict[str, object]:
        return {"model": model.state_dict(), "optimizer": optimizer.state_dict()}

    def steps_per_s(save: Callable[[Writer], object] | None) -> float:
        writer = Writer(store, SYSTEM)
        start = last = time.perf_counter()
        steps = 0
        while time.perf_counter() - start < seconds:
            optimizer.zero_grad()
            model(batch).square().mean().backward()
            optimizer.step()
            steps += 1
            if save is not None and time.perf_counter() - last > 1:
                last = time.perf_counter()
                save(writer)
        rate = steps / (time.perf_counter() - start)
        writer.join(None)
        writer.close()
        return rate

    def ours(writer: Writer) -> object:
        return writer.busy or writer.submit(capture(states(), TRANSLATORS).staged(buffers), FACTS)

    def theirs(writer: Writer) -> None:
        torch.save(states(), folder / "training.pt")

    steps_per_s(ours)
    rates: dict[str, list[float]] = {"no saves": [], "ours, periodic": [], "torch.save": []}
    for _ in range(3):
        for name, save in (("no saves", None), ("ours, periodic", ours), ("torch.save", theirs)):
            rates[name].append(steps_per_s(save))
    shutil.rmtree(folder / "training")
    (folder / "training.pt").unlink()
    return {name: statistics.median(values) for name, values in rates.items()}


def show(result: dict[str, Any]) -> None:
    """Print one size as a table."""
    nbytes, saves, restores = result["bytes"], result["saves"], result["restores"]
    print(
        f"\n{nbytes / 1e6:<8,.0f}MB{'':22}blocked   durable   GB/s  memory      of raw speed"
        f"{'x memcpy, by processor time':>32}"
    )
    raw, copy = saves["raw write + fsync"], saves["memcpy, reused memory"]
    for name, row in saves.items():
        print(
            f"  {name:<28}{row['blocked_s'] * 1e3:8.1f} ms{row['durable_s'] * 1e3:7.0f} ms{row['mb_per_s'] / 1e3:7.2f}"
            f"{row['extra_memory_bytes'] / nbytes:7.2f}x{_of(raw, row):>18}"
            f"{_times(copy, row, 'all_blocked_s'):>18}{_times(copy, row, 'all_cpu_s'):>14}"
        )
    for name, row in restores.items():
        print(
            f"  restore: {name:<19}{row['blocked_s'] * 1e3:8.1f} ms{'':10}{row['mb_per_s'] / 1e3:7.2f}"
            f"{row['extra_memory_bytes'] / nbytes:7.2f}x{_of(restores['raw read'], row):>18}"
        )


def _of(baseline: dict[str, Any], row: dict[str, Any]) -> str:
    """The median of the rounds' own ratios, each of two measurements seconds apart, and the best rounds' in brackets."""
    pairs = zip(baseline["all_durable_s"], row["all_durable_s"], strict=True)
    median = 100 * statistics.median(base / own for base, own in pairs)
    return f"{median:.0f}% ({100 * baseline['best_durable_s'] / row['best_durable_s']:.0f}%)"


def _times(baseline: dict[str, Any], row: dict[str, Any], key: str) -> str:
    pairs = zip(baseline[key], row[key], strict=True)
    median = statistics.median(own / base for base, own in pairs)
    return f"{median:.1f}x ({min(row[key]) / min(baseline[key]):.1f}x)"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--sizes", default="10,100,500,2000", help="MB, separated by commas")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", default="", help="parts of the names of methods, besides the baselines")
    parser.add_argument("--folder", default=".bench", help="on the disk to be measured; made, and removed")
    parser.add_argument("--json", default="", help="write all numbers there")
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore")
    wanted = ["memcpy", "raw", *filter(None, arguments.only.split(","))] if arguments.only else [""]
    methods = {name: method for name, method in METHODS.items() if any(part in name for part in wanted)}
    folder = Path(arguments.folder).absolute()
    folder.mkdir()
    try:
        with_group = folder.with_name(f"{folder.name}.group")
        torch.distributed.init_process_group("gloo", init_method=f"file://{with_group}", rank=0, world_size=1)
        results = []
        for megabytes in map(int, arguments.sizes.split(",")):
            results.append(bench_size(megabytes * 1_000_000, arguments.rounds, folder, methods))
            show(results[-1])
        rates = training_throughput(6.0, folder)
        print("\ntraining with a save every second (104 MB of state), steps a second against none")
        for name, rate in rates.items():
            print(f"  {name:<29}{rate:8.1f} /s{rate / rates['no saves'] * 100:7.1f}%")
    finally:
        shutil.rmtree(folder)
        with_group.unlink(missing_ok=True)
    if arguments.json:
        machine = {
            "cpus": os.cpu_count(),
            "load": os.getloadavg(),
            "torch": str(torch.__version__),
            "threads": torch.get_num_threads(),
        }
        text = json.dumps({"machine": machine, "sizes": results, "training_steps_per_s": rates}, indent=1)
        Path(arguments.json).write_text(text + "\n")


if __name__ == "__main__":
    main()
