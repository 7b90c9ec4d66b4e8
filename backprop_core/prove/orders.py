"""What one attempt of a proof is told: where to write what it sees, and where it is to be cut.

`backprop prove` names a small file in BACKPROP_PROVE. Without that variable only `witness.py` of this package is imported.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from backprop_core import contract
from backprop_core.quick_dataclass import dataclass


@dataclass(frozen=True, slots=True)
class Orders:
    """What one attempt is to do.

    Attributes:
        stream: the folder in which each rank writes a stream of its own.
        stop_at: the step at whose boundary the attempt saves and leaves; None for no such step.
        evaluation: instead, the evaluation behind this step, at its n-th place that can be left.
        save_at, kill_at: steps at whose boundaries a checkpoint is asked for, and SIGKILL is sent to the process itself.
        deterministic: have the frameworks refuse operations that are not deterministic.
    """

    stream: Path
    stop_at: int | None = None
    evaluation: tuple[int, int] | None = None
    save_at: int | None = None
    kill_at: int | None = None
    deterministic: bool = False

    def write(self, path: Path) -> None:
        """Put them into a file that `read` reads."""
        path.write_text(json.dumps({**asdict(self), "stream": str(self.stream)}), encoding="utf-8")

    @classmethod
    def read(cls, path: Path) -> Orders:
        """Those in a file.

        Raises:
            OSError, ValueError: there are none.
        """
        told = json.loads(path.read_text(encoding="utf-8"))
        evaluation = told.pop("evaluation")
        place = None if evaluation is None else (int(evaluation[0]), int(evaluation[1]))
        return cls(**{**told, "stream": Path(told["stream"]), "evaluation": place})


def orders_here(environ: Mapping[str, str] = os.environ) -> Orders | None:
    """Those of this process; None where nothing is to be proven."""
    path = environ.get(contract.PROVE)
    return Orders.read(Path(path)) if path else None
