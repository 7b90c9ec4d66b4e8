"""Tells of `torch.save`: torch opens the file in C, where nobody hears of it."""

from __future__ import annotations

import functools
import os
from typing import Any

import torch

from backprop_core.script_files.start import current


def tell_of_saves() -> None:
    """From now on what `torch.save` writes is known: what it writes over on the way back to a checkpoint is kept."""
    files = current()
    if files is None:
        return
    original = torch.save

    @functools.wraps(original)
    def save(obj: object, f: Any, *args: Any, **kwargs: Any) -> None:
        if isinstance(f, str | os.PathLike):
            files.writes(f)
        original(obj, f, *args, **kwargs)

    torch.save = save
