"""This process as `backprop run` would have started it, for as long as one training lasts."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from backprop_core.clock import SYSTEM
from backprop_core.runs.process import ProcessIdentity
from backprop_core.runs.store import RunStore


@contextmanager
def governed(home: Path, run: str, *, framework: str) -> Iterator[None]:
    """A run with an attempt in `home`, and the variables that a script is told."""
    store = RunStore(home, SYSTEM)
    record = store.create(
        run_id=run, name=None, command=["train.py"], cwd=home, interpreter="python", options={}
    )
    with store.hold(record.id) as hold:
        attempt = store.begin_attempt(
            hold,
            process=ProcessIdentity.of(os.getpid()),
            budget_s=600.0,
            budget_source="test",
            resumed_from=None,
        )
        attempt.events.close()
        told = {
            "BACKPROP_HOME": str(home), "BACKPROP_RUN_ID": run, "BACKPROP_RUN_DIR": str(hold.run_dir),
            "BACKPROP_ATTEMPT": "1", "BACKPROP_ATTACH": framework, "BACKPROP_BUDGET_S": "600",
        }  # fmt: skip
        before = {name: os.environ.get(name) for name in told}
        os.environ.update(told)
        try:
            yield
        finally:
            for name, value in before.items():
                if value is None:
                    os.environ.pop(name)
                else:
                    os.environ[name] = value
