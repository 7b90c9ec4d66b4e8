"""What a person sees while a run goes on: one live line on a terminal, plain lines elsewhere. All on standard
error.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from typing import Any

from backprop_core.budget import duration_text
from backprop_core.supervision.account import SessionView

LIVE_EVERY_S = 0.5
PLAIN_EVERY_S = 30.0
_ERASE = "\r\x1b[K"


class Display:
    """Watches a governor (see `backprop_core.supervision.governor.Observer`).

    Args:
        live: draw the live line; None finds out whether standard error is a terminal that can.
    """

    def __init__(self, live: bool | None = None) -> None:
        able = sys.stderr is not None and sys.stderr.isatty() and os.environ.get("TERM", "dumb") != "dumb"
        self._live = able if live is None else live
        self._drawn = False
        self._next_at = 0.0
        self._shown_step: object = None

    def before_output(self) -> None:
        if self._drawn:
            self._write(_ERASE)
            self._drawn = False

    def event(self, event: Mapping[str, Any]) -> None:
        """The session prints its own messages on the script's standard error: nothing to repeat."""

    def say(self, text: str) -> None:
        self.before_output()
        self._write(f"backprop: {text}\n")

    def tick(self, now: float, deadline: float, session: SessionView, quiet: bool) -> None:
        if now < self._next_at:
            return
        first = self._next_at == 0.0
        self._next_at = now + (LIVE_EVERY_S if self._live else PLAIN_EVERY_S)
        if self._live:
            if quiet:
                self._draw(now, deadline, session)
        elif not first and session.progress is not None and session.progress.get("step") != self._shown_step:
            self._shown_step = session.progress.get("step")
            self._write(f"backprop: {self._line(now, deadline, session)}\n")

    def _draw(self, now: float, deadline: float, session: SessionView) -> None:
        line = f"backprop: {self._line(now, deadline, session)}"[: max(10, _width() - 1)]
        self._write(_ERASE + line)
        self._drawn = True

    def _line(self, now: float, deadline: float, session: SessionView) -> str:
        parts = [f"{duration_text(max(0.0, deadline - now))} left"]
        parts += progress_parts(session.progress or {})
        if session.checkpoints:
            parts.append(
                f"{len(session.checkpoints)} checkpoint{'s' if len(session.checkpoints) > 1 else ''}"
            )
        return " | ".join(parts)

    def _write(self, text: str) -> None:
        try:
            sys.stderr.write(text)
            sys.stderr.flush()
        except (OSError, ValueError, AttributeError):
            self._live = self._drawn = False  # the terminal was closed


def _width() -> int:
    """Columns of the terminal behind standard error, which may be another than that behind standard
    output.
    """
    try:
        return os.get_terminal_size(2).columns or 80
    except OSError:
        return 80


def progress_parts(progress: Mapping[str, Any]) -> list[str]:
    """A progress event in a few words: step, loss, rate, epoch; what matters most stands first."""
    forms = {"step": "step {}", "loss": "loss {:.4g}", "rate": "{:.3g} steps/s", "epoch": "epoch {}"}
    known = {key: progress[key] for key in forms if isinstance(progress.get(key), int | float)}
    return [forms[key].format(value) for key, value in known.items()]
