"""What is known of the services that notebooks run on: when their sessions end, and where files outlive them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from backprop_core import contract
from backprop_core.clock import Clock
from backprop_core.quick_dataclass import dataclass

KAGGLE_SESSION_S = 12 * 3600.0
"""Of a session with a CPU or a GPU; Kaggle's documentation names 12 hours, and 9 for a TPU."""
KAGGLE_TPU_SESSION_S = 9 * 3600.0
_MARGIN_S = 300.0


@dataclass(frozen=True, slots=True)
class NotebookHost:
    """A service that runs notebooks.

    Attributes:
        ends_wall: when the session ends, less a margin, in seconds since 1970; None where that cannot be told.
        advice: what the user can do, one sentence each.
    """

    name: str
    ends_wall: float | None
    advice: tuple[str, ...] = ()


def host_of(environ: Mapping[str, str], clock: Clock, root: Path = Path("/")) -> NotebookHost | None:
    """The service that this kernel runs on, or None."""
    if environ.get("KAGGLE_KERNEL_RUN_TYPE"):
        return NotebookHost(
            "Kaggle", _kaggle_end(environ, clock), _home_advice(environ, root / "kaggle/working")
        )
    if environ.get("COLAB_RELEASE_TAG"):
        return NotebookHost("Colab", None, _colab_advice(environ, root / "content/drive/MyDrive"))
    return None


_SET_END = (
    "Colab does not tell when it ends this session. If you know it, set it before: "
    f"%env {contract.DEADLINE}=2026-01-31T18:00+00:00"
)
_MOUNT = (
    "Files here are gone when the session ends. Mount your drive first, in a cell: "
    "from google.colab import drive; drive.mount('/content/drive')"
)


def _colab_advice(environ: Mapping[str, str], drive: Path) -> tuple[str, ...]:
    end = () if environ.get(contract.DEADLINE) else (_SET_END,)
    if not environ.get(contract.HOME) and not drive.is_dir():
        return (*end, _MOUNT)
    return (*end, *_home_advice(environ, drive))


def _kaggle_end(environ: Mapping[str, str], clock: Clock) -> float | None:
    """The session began no later than this kernel; with a restarted kernel it ends earlier than what is told here."""
    if environ.get(contract.DEADLINE):
        return None
    whole_s = KAGGLE_TPU_SESSION_S if environ.get("TPU_NAME") else KAGGLE_SESSION_S
    try:
        import psutil

        began = min(psutil.Process(1).create_time(), psutil.Process(os.getpid()).create_time())
    except Exception:
        began = clock.wall()
    return began + whole_s - _MARGIN_S


def _home_advice(environ: Mapping[str, str], lasting: Path) -> tuple[str, ...]:
    if environ.get(contract.HOME) or not lasting.is_dir():
        return ()
    gone = "Runs are kept in ~/.backprop, which is gone with this session."
    return (f"{gone} To keep them: %env {contract.HOME}={lasting}/.backprop",)


__all__ = ["NotebookHost", "host_of"]
