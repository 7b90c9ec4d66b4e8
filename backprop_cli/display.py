"""What a person sees while a run goes on: one live panel on a terminal, plain lines elsewhere. All on standard error."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping
from typing import Any

from backprop_cli.opening import one_line
from backprop_core.deadline.budget import duration_text
from backprop_core.governor.observed import View
from backprop_core.strict_json import as_float, as_number, as_whole

LIVE_EVERY_S = 0.5
PLAIN_EVERY_S = 30.0
MOST_LINES = 3
"""The panel takes what it needs of these; a wide terminal shows everything in one."""
_ERASE = "\r\x1b[K"
_ERASE_AND_UP = "\r\x1b[K\x1b[A"
_ERASE_BELOW = "\x1b[J"
_ONE_DOWN, _UP, _NOTE, _BACK = "\x1bD", "\x1b[{}A", "\x1b7", "\x1b8"
_LEAVES_LINE = re.compile(rb"\n|\x1b(?!\[[0-9;]*[mK])")
"""What leaves the line: a line feed, and every escape sequence but colours and the erasing of the line."""
_HEAD = "backprop: "
_INDENT = " " * len(_HEAD)


class Display:
    """Watches a governor (see `backprop_core.governor.order.Observer`).

    Args:
        live: draw the live panel; None finds out whether standard error is a terminal that can.
    """

    def __init__(self, live: bool | None = None) -> None:
        able = sys.stderr is not None and sys.stderr.isatty() and os.environ.get("TERM", "dumb") != "dumb"
        self._live = able if live is None else live
        self._drawn = self._below = 0
        self._next_at = 0.0
        self._shown_step: object = None
        self._torn = False
        """The script has begun a line and not ended it."""

    def before_output(self, data: bytes = b"\n") -> None:
        if self._below and _LEAVES_LINE.search(data) is None:
            return  # a progress bar writes over itself, and the panel stands below it
        if self._below:
            self._write(_ERASE_BELOW)
            self._drawn = self._below = 0
        elif self._drawn:
            self._write(_ERASE_AND_UP * (self._drawn - 1) + _ERASE)
            self._drawn = 0

    def after_output(self, at_line_start: bool) -> None:
        self._torn = not at_line_start

    def event(self, event: Mapping[str, Any]) -> None:
        """The session prints its own messages on the script's standard error: nothing to repeat."""

    def say(self, text: str) -> None:
        self.before_output()
        shown = "\n".join(map(one_line, text.splitlines()))
        self._write_line(shown)

    def tick(self, view: View) -> None:
        if view.now < self._next_at:
            return
        first = self._next_at == 0.0
        self._next_at = view.now + (LIVE_EVERY_S if self._live else PLAIN_EVERY_S)
        step = _progress(view).get("step")
        if self._live:
            if view.quiet:
                self._draw(view)
            elif view.in_bar:
                self._draw_below(view)
        elif not first and step is not None and step != self._shown_step:
            self._shown_step = step
            self._write_line(line_of(view))

    def _draw(self, view: View) -> None:
        self.before_output()
        width = max(10, _width() - 1)
        first, *others = lines_of(view, width - len(_HEAD))
        shown = [(_HEAD + first)[:width], *(_INDENT + line for line in others)]
        self._write(_ERASE + "\r\n".join(shown))
        self._drawn = len(shown)

    def _draw_below(self, view: View) -> None:
        """The panel in the lines below a progress bar; the cursor stays where the bar has left it."""
        if not self._below:
            self.before_output()
        width = max(10, _width() - 1)
        first, *others = lines_of(view, width - len(_HEAD))
        shown = [(_HEAD + first)[:width], *(_INDENT + line for line in others)]
        room = _ONE_DOWN * len(shown) + _UP.format(
            len(shown)
        )  # a screen that is full scrolls before its place is noted
        self._write(room + _NOTE + _ERASE_BELOW + "".join(f"\r\n{line}" for line in shown) + _BACK)
        self._below = len(shown)

    def _write_line(self, text: str) -> None:
        """A line of ours, never behind a part of the script's."""
        begin = "\n" if self._torn else ""
        self._torn = False
        self._write(f"{begin}backprop: {text}\n")

    def _write(self, text: str) -> None:
        try:
            sys.stderr.write(text)
            sys.stderr.flush()
        except (OSError, ValueError, AttributeError):
            self._live, self._drawn, self._below = False, 0, 0  # the terminal was closed


def line_of(view: View) -> str:
    """A run in one line: time left, step, loss, rate, epoch, checkpoints, memory, GPUs; what matters most first."""
    return " | ".join(_parts(view))


def lines_of(view: View, width: int) -> list[str]:
    """The same in at most `MOST_LINES` lines of `width` columns; what does not fit is left out whole, from the end."""
    line, *others = _parts(view)
    lines = [line]
    for part in others:
        longer = f"{lines[-1]} | {part}"
        if len(longer) <= width:
            lines[-1] = longer
        elif len(lines) < MOST_LINES and len(part) <= width:
            lines.append(part)
        else:
            break
    return lines


def _parts(view: View) -> list[str]:
    if view.paused or view.starting:
        parts = ["paused" if view.paused else "starting up"]
    else:
        parts = [f"{duration_text(max(0.0, view.deadline - view.now))} left"]
    if not view.starting:
        parts += progress_parts(_progress(view))
        parts += filter(None, [_checkpoints(view)])
    if view.memory_bytes:
        parts.append(f"{view.memory_bytes / 1024**3:.1f} GB")
    for gpu in view.gpus:
        facts = [f"GPU {gpu.index if gpu.index is not None else ''}".strip()]
        facts += [f"{gpu.memory_used_bytes / 1024**3:.1f} GB"] if gpu.memory_used_bytes is not None else []
        facts += [f"{gpu.temperature_c:g} °C"] if gpu.temperature_c is not None else []
        parts.append(" ".join(facts))
    return parts


def _checkpoints(view: View) -> str:
    """How many there are, and when the next is due: as the session said, less the time since then."""
    saved = len(view.session.checkpoints) + len(view.heard.checkpoints)
    text = f"{saved} checkpoint{'s' if saved > 1 else ''}" if saved else ""
    progress = view.session.progress
    if progress is None or "next_save_s" not in progress or view.paused:
        return text
    wait_s, said_at = as_number(progress["next_save_s"]), as_number(progress.get("monotonic"))
    due = "at the end"
    if wait_s is not None:
        since_s = 0.0 if said_at is None else view.now - said_at
        left_s = wait_s - max(0.0, since_s)
        due = f"in {duration_text(left_s)}" if left_s > 0 else "now"
    return f"{text}, next {due}" if text else f"first checkpoint {due}"


def progress_parts(progress: Mapping[str, Any]) -> list[str]:
    """A progress event in a few words: step, loss, rate, epoch; what matters most stands first."""
    forms = {"step": "step {}", "loss": "loss {:.4g}", "rate": "{:.3g} steps/s", "epoch": "epoch {}"}
    read = {"step": as_whole, "loss": as_float, "rate": as_number, "epoch": as_whole}
    known = {key: value for key in forms if (value := read[key](progress.get(key))) is not None}
    if (as_number(known.get("rate")) or 0) >= 1000:  # not 1.23e+04
        forms["rate"] = "{:.0f} steps/s"
    return [forms[key].format(value) for key, value in known.items()]


def _progress(view: View) -> Mapping[str, Any]:
    """The latest progress, from the session where there is one, else from what the script has printed."""
    if view.session.progress is not None:
        return view.session.progress
    return {"step": view.heard.step, "loss": view.heard.loss}


def _width() -> int:
    """Columns of the terminal behind standard error, which may be another than that behind standard output."""
    try:
        return os.get_terminal_size(2).columns or 80
    except OSError:
        return 80
