"""Scripts may speak on stdout: JSON lines with a checkpoint's path or a step and a loss, as in the npm tool.

Such lines are data from outside. A bad one is left in the log and does no harm.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import field
from pathlib import Path

from backprop_core.quick_dataclass import dataclass
from backprop_core.strict_json import as_number, as_object, as_place, as_whole, decode

LONGEST_LINE = 65_536
"""Bytes; a longer line cannot be a message of ours and is not collected."""
MOST_CHECKPOINTS = 1_000
"""The newest paths that are remembered; a script may announce any number."""


@dataclass(slots=True)
class Heard:
    """What the script has said so far.

    Attributes:
        checkpoints: absolute paths, the newest `MOST_CHECKPOINTS`, in the order they were announced.
        first_step, step, loss: the first and the latest that it has named.
    """

    checkpoints: OrderedDict[str, None] = field(default_factory=OrderedDict)
    first_step: int | None = None
    step: int | None = None
    loss: float | None = None


class Listener:
    """Cuts a stream of bytes into lines and remembers the JSON ones.

    Args:
        cwd: the folder that relative checkpoint paths are meant from.
    """

    def __init__(self, cwd: Path) -> None:
        self.heard = Heard()
        self._cwd = cwd
        self._fresh: OrderedDict[str, None] = OrderedDict()
        self._part = bytearray()
        self._too_long = False

    def feed(self, data: bytes) -> list[str]:
        """Take the next bytes; return the checkpoints announced in them, the newest `MOST_CHECKPOINTS`, last ones last."""
        if b"{" not in data and not self._part and not self._too_long:  # nothing for us in it: most output
            self._collect(data.rpartition(b"\n")[2])
            return []
        self._fresh.clear()
        *lines, rest = data.split(b"\n")
        for line in lines:
            self._collect(line)
            if not self._too_long:
                self._understand(bytes(self._part))
            self._part.clear()
            self._too_long = False
        self._collect(rest)
        return list(self._fresh)

    def _collect(self, piece: bytes) -> None:
        if len(self._part) + len(piece) > LONGEST_LINE:
            self._too_long = True
            self._part.clear()
        if not self._too_long:
            self._part += piece

    def _understand(self, line: bytes) -> None:
        # A progress bar may have left its text and a carriage return in front of the line.
        text = line.rstrip(b"\r").rpartition(b"\r")[2].strip()
        if not (text.startswith(b"{") and text.endswith(b"}")):
            return
        try:
            said = as_object(decode(text))
        except ValueError:
            return
        if said.get("event") == "checkpoint_saved":
            self._hear_checkpoint(said.get("path"))
        self._hear_step(said.get("step"))
        self._hear_loss(said.get("loss"))

    def _hear_checkpoint(self, path: object) -> None:
        place = as_place(path)
        if place is None:
            return
        known = str(self._cwd / place)
        for newest in (self.heard.checkpoints, self._fresh):
            newest[known] = None
            newest.move_to_end(known)
            if len(newest) > MOST_CHECKPOINTS:
                newest.popitem(last=False)

    def _hear_step(self, said: object) -> None:
        step = as_whole(said, least=0)
        if step is not None:
            self.heard.step = step
            if self.heard.first_step is None:
                self.heard.first_step = step

    def _hear_loss(self, said: object) -> None:
        loss = as_number(said)
        self.heard.loss = self.heard.loss if loss is None else loss
