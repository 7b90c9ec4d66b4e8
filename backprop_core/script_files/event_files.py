"""Tells of TensorBoard's event files: where TensorFlow is installed they are opened in C, where nobody hears of it."""

from __future__ import annotations

import functools
import sys
from typing import Any

from backprop_core.script_files.start import current

MODULE = "tensorboard.summary.writer.event_file_writer"


def tell_of_event_files() -> None:
    """Right after the first import of `MODULE`: each file that a writer makes is followed from its beginning."""
    files = current()
    writer = getattr(sys.modules[MODULE], "EventFileWriter", None)
    if files is None or writer is None:
        return
    original = writer.__init__

    @functools.wraps(original)
    def made(self: Any, *args: Any, **kwargs: Any) -> None:
        original(self, *args, **kwargs)
        name = getattr(self, "_file_name", None)  # where it is gone, only what Python opens is heard of
        if isinstance(name, str):
            files.has_begun(name)

    writer.__init__ = made
