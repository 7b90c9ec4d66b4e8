"""What all benchmarks share: a table on the screen, JSON in a file, and order statistics."""

from __future__ import annotations

import json
import platform
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"
ROUNDS = 9


def quantile(values: Sequence[float], share: float) -> float:
    """The order statistic below which `share` of the values lie; NaN for none."""
    if not values:
        return float("nan")
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def each(part: Callable[[], object], times: int) -> float:
    """Seconds of processor time for one call: the best of some rounds, since a busy machine only ever adds."""
    best = float("inf")
    for _ in range(ROUNDS):
        began = time.process_time()
        for _ in range(times):
            part()
        best = min(best, (time.process_time() - began) / times)
    return best


def show(title: str, rows: Sequence[Mapping[str, Any]]) -> None:
    """Print rows of the same keys as a plain table."""
    print(f"\n{title}")
    if not rows:
        print("  (nothing)")
        return
    keys = list(dict.fromkeys(key for row in rows for key in row))
    cells = [[_cell(row.get(key, "")) for key in keys] for row in rows]
    widths = [max(len(key), *(len(line[i]) for line in cells)) for i, key in enumerate(keys)]
    for line in [keys, *cells]:
        print("  " + "  ".join(text.rjust(width) for text, width in zip(line, widths, strict=True)))


def _cell(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def write(name: str, results: Mapping[str, Any]) -> Path:
    """Write results, with what they were measured on, as JSON."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    machine = {
        "python": platform.python_version(),
        "machine": platform.machine(),
        "system": platform.system(),
    }
    path.write_text(json.dumps({"command": sys.argv, "on": machine, **results}, indent=1) + "\n")
    return path
