"""What holds for every test, and for every process that a test starts."""

from __future__ import annotations

import gc
import os
import signal
from pathlib import Path

import pytest

# A job in the background of a shell inherits SIGINT ignored, one under nohup SIGHUP, and so would all that tests start.
for number, handler in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
    if signal.getsignal(number) is signal.SIG_IGN:
        signal.signal(number, handler)

# Tests start thousands of processes: without compiled modules each would read all our source, for a quarter of a second.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

_GPU = Path(__file__).parent / "gpu"


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """What needs a GPU is collected where it is asked for by name, and is not there otherwise."""
    if collection_path != _GPU:
        return None
    asked = [config.invocation_params.dir / word.partition("::")[0] for word in config.args]
    return None if any(path.resolve().is_relative_to(_GPU) for path in asked) else True


def pytest_collection_finish() -> None:
    """What all test modules have imported is left out of every look for models: half a million objects, at each look."""
    gc.collect()
    gc.freeze()
