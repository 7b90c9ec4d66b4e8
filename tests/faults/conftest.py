"""What the fault tests share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from .tracing import Saver


@pytest.fixture
def saver(tmp_path: Path) -> Iterator[Saver]:
    """A process whose forks save, to be killed and lied to."""
    saver = Saver(tmp_path)
    yield saver
    saver.close()
