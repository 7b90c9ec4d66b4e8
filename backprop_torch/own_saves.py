"""Tells of `torch.save` on the way back to a checkpoint: torch opens the file in C, where nobody hears of it."""

from __future__ import annotations

import functools
import os
from typing import Any

import torch

from backprop_core.script_files.start import current


def tell_of_saves() -> None:
    """Until the script is back at its place, what `torch.save` writes over is kept."""
    files = current()
    if files is None or not files.going_back:
        return
    original = torch.save

    @functools.wraps(original)
    def save(obj: object, f: Any, *args: Any, **kwargs: Any) -> None:
        if isinstance(f, str | os.PathLike):
            files.writes(f)
        original(obj, f, *args, **kwargs)

    torch.save = save

    def is_back() -> None:
        if torch.save is save:
            torch.save = original

    files.when_back(is_back)
