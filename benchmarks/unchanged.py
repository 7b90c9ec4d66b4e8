"""What has not changed: bytes written and training held up by a periodic save, beside one that copies and writes everything.

    python benchmarks/unchanged.py [--frozen 2000] [--trained 10] [--rounds 5] [--folder .bench] [--json FILE]

Shapes: a frozen base beside a trained part with Adam's moments (LoRA); an embedding of which a hundred rows are trained; all
changes. Both ways save the same state in turns, the first three saves, in which a base is parted, are not counted. Bytes are
those the kernel was given to write (`write_bytes` in /proc/self/io).

Then the copies for a survivor (docs/decisions/0023): a frozen base beside a trained part, by what is copied again alone, by
copying everything, and the trained part by itself.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from backprop_core.checkpoints import (
    CheckpointFacts,
    CheckpointStore,
    NumpyTranslator,
    StagingBuffers,
    Writer,
    capture,
    survivor_header,
)
from backprop_core.checkpoints.shared_memory import SharedMemory
from backprop_core.checkpoints.unchanged import Unchanged, Worth
from backprop_core.clock import SYSTEM
from backprop_core.outcome import SaveReason
from backprop_core.session.survivor import Survivor
from backprop_torch.translator import TorchTranslator

TRANSLATORS = (TorchTranslator(), NumpyTranslator())
FACTS = CheckpointFacts("bench", 1, 1, 0, 0, SaveReason.PERIODIC)
EVERYTHING = Worth(array_bytes=1 << 62, file_bytes=1 << 62)
"""Nothing is worth sharing: everything is copied and written."""
PARTING = 3


def matrices(nbytes: float, count: int) -> dict[str, torch.Tensor]:
    """So many square float32 matrices, `nbytes` in all."""
    side = max(16, int((nbytes / 4 / count) ** 0.5))
    return {f"blocks.{n}": torch.randn(side, side) for n in range(count)}


class Shape:
    """A state, and one step of its training."""

    def __init__(self, frozen_bytes: float, trained_bytes: float) -> None:
        self.trained = matrices(trained_bytes / 3, 24)
        self.moments = {
            n: {"exp_avg": t.clone(), "exp_avg_sq": t.square()} for n, t in enumerate(self.trained.values())
        }
        self.frozen = matrices(frozen_bytes, 60) if frozen_bytes else {}

    def step(self) -> None:
        for tensor in self.trained.values():
            tensor.add_(0.01)
        for moments in self.moments.values():
            for tensor in moments.values():
                tensor.mul_(0.99)

    def states(self) -> dict[str, object]:
        model = {f"base.{name}": tensor for name, tensor in self.frozen.items()} | self.trained
        return {"model": model, "optimizer": {"state": self.moments}}


class Rows(Shape):
    """An embedding of which a hundred rows change in a step."""

    def __init__(self, embedding_bytes: float, trained_bytes: float) -> None:
        super().__init__(0, trained_bytes)
        self.embedding = torch.randn(int(embedding_bytes / 4 / 256), 256)
        self.trained["embedding"] = self.embedding

    def step(self) -> None:
        rows = torch.randint(len(self.embedding), (100,))
        self.embedding.index_add_(0, rows, torch.ones(100, 256))
        for moments in self.moments.values():
            for tensor in moments.values():
                tensor.mul_(0.99)


class Way:
    """One way to save: a store of its own, and memory to copy into."""

    def __init__(self, folder: Path, buffers: StagingBuffers, worth: Worth) -> None:
        self.store = CheckpointStore(folder, clock=SYSTEM, unchanged=Unchanged(worth))
        self.writer = Writer(self.store, SYSTEM)
        self.buffers = buffers
        self.blocked_s: list[float] = []
        self.durable_s: list[float] = []
        self.written: list[int] = []

    def save(self, states: dict[str, object]) -> None:
        written = _written()
        start = time.perf_counter()
        staged = capture(states, TRANSLATORS).staged(self.buffers, unchanged=self.store.unchanged)
        assert self.writer.submit(staged, FACTS)
        self.blocked_s.append(time.perf_counter() - start)
        self.writer.join(None)
        self.durable_s.append(time.perf_counter() - start)
        self.written.append(_written() - written)
        for result in self.writer.poll():
            if isinstance(result, Exception):
                raise result


def _written() -> int:
    fields = dict(line.split(": ") for line in Path("/proc/self/io").read_text().splitlines())
    return int(fields["write_bytes"])


def bench(shape: Shape, folder: Path, rounds: int) -> dict[str, Any]:
    """Both ways in turns over one state; medians."""
    buffers = StagingBuffers(TRANSLATORS)
    ways = {
        "ours": Way(folder / "ours", buffers, Worth()),
        "everything": Way(folder / "all", buffers, EVERYTHING),
    }
    for number in range(PARTING + rounds):
        shape.step()
        for name in sorted(ways, reverse=bool(number % 2)):
            ways[name].save(shape.states())
    result: dict[str, Any] = {"bytes": capture(shape.states(), TRANSLATORS).nbytes}
    for name, way in ways.items():
        way.writer.close()
        result[name] = {
            "blocked_s": statistics.median(way.blocked_s[PARTING:]),
            "durable_s": statistics.median(way.durable_s[PARTING:]),
            "written_bytes": statistics.median(way.written[PARTING:]),
            "all_blocked_s": way.blocked_s,
            "all_durable_s": way.durable_s,
            "all_written_bytes": way.written,
        }
    shutil.rmtree(folder)
    return result


class _NoLine:
    def close(self) -> None: ...


def copies(states: dict[str, dict[str, object]], step: Callable[[], None], rounds: int) -> dict[str, Any]:
    """Copies for a survivor of each of these states, in turns: seconds that training waits, and bytes of memory."""
    makers: dict[str, tuple[SharedMemory, Survivor]] = {}
    for name in states:
        memory = SharedMemory()
        survivor_header.begin(memory.header)
        makers[name] = memory, Survivor(memory, _NoLine(), TRANSLATORS, SYSTEM)  # type: ignore[arg-type]
    blocked: dict[str, list[float]] = {name: [] for name in states}
    sealed: dict[str, list[float]] = {name: [] for name in states}
    for number in range(PARTING + rounds):
        step()
        for name, state in states.items():
            survivor = makers[name][1]
            start = time.perf_counter()
            half = survivor.choose([0, 1])
            assert half is not None
            survivor.wipe(half)
            snapshot = capture(state, TRANSLATORS)
            keep = name != "everything"
            staged = snapshot.staged(survivor.halves[half], step=number, keep=keep)
            survivor.seal(half, staged, FACTS)
            blocked[name].append(time.perf_counter() - start)
            survivor.settle()
            sealed[name].append(time.perf_counter() - start)
    return {
        name: {
            "blocked_s": statistics.median(blocked[name][PARTING:]),
            "sealed_s": statistics.median(sealed[name][PARTING:]),
            "memory_bytes": os.fstat(memory.fd).st_blocks * 512,
            "all_blocked_s": blocked[name],
        }
        for name, (memory, _) in makers.items()
    }


def show_copies(results: dict[str, Any]) -> None:
    """Print what a copy for a survivor costs."""
    print("\ncopy for a survivor           training waits        sealed after    shared memory")
    for name, row in results.items():
        print(
            f"  {name:<26}{row['blocked_s'] * 1e3:10.1f} ms{row['sealed_s'] * 1e3:17.1f} ms"
            f"{row['memory_bytes'] / 1e6:12,.0f} MB"
        )


def show(name: str, result: dict[str, Any]) -> None:
    """Print one shape as a line: ours, everything, and the median of the rounds' own ratios."""
    ours, everything = result["ours"], result["everything"]

    def ratio(key: str) -> float:
        pairs = zip(ours[key][PARTING:], everything[key][PARTING:], strict=True)
        return float(statistics.median(one / max(other, 1e-9) for one, other in pairs))

    print(
        f"{name:<28}{result['bytes'] / 1e6:8,.0f} MB   written {ours['written_bytes'] / 1e6:9,.1f} MB"
        f" ({ratio('all_written_bytes'):6.1%})   blocked {ours['blocked_s'] * 1e3:7.1f} ms of"
        f" {everything['blocked_s'] * 1e3:7.1f} ({ratio('all_blocked_s'):6.1%})   on the disk after"
        f" {ours['durable_s']:6.2f} s of {everything['durable_s']:6.2f} ({ratio('all_durable_s'):6.1%})"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--frozen", type=float, default=2000, help="MB that are not trained")
    parser.add_argument("--trained", type=float, default=10, help="MB that are, Adam's moments included")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--folder", type=Path, default=Path(".bench"))
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    frozen, trained = arguments.frozen * 1e6, arguments.trained * 1e6
    shapes: dict[str, Callable[[], Shape]] = {
        "frozen base, trained part": lambda: Shape(frozen, trained),
        "embedding, a hundred rows": lambda: Rows(frozen / 4, trained),
        "everything changes": lambda: Shape(0, frozen / 4),
    }
    results = {}
    for name, make in shapes.items():
        results[name] = bench(make(), arguments.folder / "unchanged", arguments.rounds)
        show(name, results[name])
    shape = Shape(frozen, trained)
    small = {"model": shape.trained, "optimizer": {"state": shape.moments}}
    states = {
        "what has changed": shape.states(),
        "everything": shape.states(),
        "the trained part alone": small,
    }
    results["survivor"] = copies(states, shape.step, max(10, 4 * arguments.rounds))
    show_copies(results["survivor"])
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
