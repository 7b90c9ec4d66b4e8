"""The trace of a program: what each step showed, by kind, and where the program is cut."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Mapping
from pathlib import Path

TRACE, CUT, RUN, SEED = "CONTRACT_TRACE", "CONTRACT_CUT", "CONTRACT_RUN", "CONTRACT_SEED"


def note(seen: Mapping[str, str]) -> None:
    """One step is done, and this could be seen. At the step where this process is to be cut it asks itself to stop."""
    path = Path(os.environ[TRACE])
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(seen) + "\n")
    steps = len(path.read_text(encoding="utf-8").splitlines())
    if os.environ.get(CUT) == str(steps):
        os.kill(os.getpid(), signal.SIGTERM)
