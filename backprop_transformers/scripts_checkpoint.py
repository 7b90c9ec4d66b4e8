"""The checkpoint that `train(resume_from_checkpoint=...)` names: of which step it is."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

from transformers.trainer_utils import get_last_checkpoint

from backprop_core.session.scripts_checkpoint import ScriptsCheckpoint

_STATE_FILE = "trainer_state.json"


def found(named: Any, output_dir: str) -> ScriptsCheckpoint | None:
    """What is known of it; None where there is none.

    Args:
        named: as `train` was given it: a path, or True for the newest in `output_dir`.
    """
    path = named
    if isinstance(named, bool):
        with suppress(OSError):
            path = get_last_checkpoint(output_dir) if named else None  # type: ignore[no-untyped-call]
    if not path or path is True:
        return None
    state = Path(str(path)) / _STATE_FILE
    try:
        step = int(json.loads(state.read_text(encoding="utf-8"))["global_step"])
        return ScriptsCheckpoint(str(path), step, state.stat().st_mtime)
    except FileNotFoundError:  # weights alone: Trainer begins with them at step 0
        return ScriptsCheckpoint(str(path), 0)
    except (OSError, ValueError, KeyError, TypeError):
        return ScriptsCheckpoint(str(path))
