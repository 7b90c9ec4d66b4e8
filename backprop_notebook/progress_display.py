"""What a cell shows while it trains: a bar of the time, the step, and the curve of the loss; plain text without HTML."""

from __future__ import annotations

import html
import math
from collections.abc import Mapping
from dataclasses import field
from typing import Any

from backprop_core.clock import Clock
from backprop_core.deadline.budget import duration_text
from backprop_core.quick_dataclass import dataclass
from backprop_core.session.session import Session

EVERY_S = 1.0
EVERY_PLAIN_S = 10.0
"""Outside of a kernel, where each look is a line of its own."""
_MOST_POINTS = 240
_WIDTH, _HEIGHT = 480, 90


@dataclass(slots=True)
class ProgressDisplay:
    """The display of one cell.

    Args:
        names: the notebook's variables; `loss` is read from there, about once a second.
    """

    names: Mapping[str, Any]
    clock: Clock
    share: float = 0.0
    text: str = "starting"
    losses: list[tuple[int, float]] = field(default_factory=list)
    _handle: Any = None
    _next: float = 0.0

    def look(self, session: Session) -> None:
        """At a boundary: about once a second the display is brought up to date; every 10 s where it is text."""
        now = self.clock.monotonic()
        if now >= self._next:
            self._next = now + (EVERY_S if _in_a_kernel() else EVERY_PLAIN_S)
            self.update(session)

    def update(self, session: Session) -> None:
        """Show where the training is."""
        from IPython.display import display

        self.share = session.progress()
        step = session.training_state.position().step
        parts = [f"step {step}"]
        loss = _number(self.names.get("loss"))
        if loss is not None:
            self._remember(step, loss)
            parts.append(f"loss {loss:.4g}")
        running = session.outcome.value == "running"
        parts.append(f"{duration_text(session.remaining_s())} left" if running else session.outcome.value)
        self.text = ", ".join(parts)
        if self._handle is None:
            self._handle = display(self, display_id=True)  # type: ignore[no-untyped-call]
        else:
            self._handle.update(self)

    def _remember(self, step: int, loss: float) -> None:
        self.losses.append((step, loss))
        if len(self.losses) > _MOST_POINTS:
            self.losses[:] = self.losses[::2]

    def __repr__(self) -> str:
        full = round(30 * self.share)
        return f"[{'#' * full}{'.' * (30 - full)}] {self.share:4.0%} of the time, {self.text}"

    def _repr_html_(self) -> str:
        told = html.escape(self.text)
        bar = f'<progress value="{self.share:.4f}" max="1" style="width:{_WIDTH}px" aria-label="time used"></progress>'
        return f'<div style="font-family:monospace">{bar} {self.share:.0%}<br>{told}{self._curve()}</div>'

    def _curve(self) -> str:
        points = [(step, loss) for step, loss in self.losses if math.isfinite(loss)]
        if len(points) < 2:
            return ""
        low, high = min(loss for _, loss in points), max(loss for _, loss in points)
        first, last = points[0][0], points[-1][0]
        span, steps = (high - low) or 1.0, (last - first) or 1
        places = " ".join(
            f"{(step - first) * _WIDTH / steps:.1f},{_HEIGHT - (loss - low) / span * (_HEIGHT - 4) - 2:.1f}"
            for step, loss in points
        )
        label = f"loss from {points[0][1]:.4g} to {points[-1][1]:.4g}"
        return (
            f'<br><svg width="{_WIDTH}" height="{_HEIGHT}" role="img" aria-label="{label}">'
            f'<polyline fill="none" stroke="currentColor" stroke-width="1.5" points="{places}"/></svg>'
        )


def _in_a_kernel() -> bool:
    from IPython.core.getipython import get_ipython

    return getattr(get_ipython(), "kernel", None) is not None


def _number(value: object) -> float | None:
    """`value` as a number: a plain one, or an array with one element; None for all else."""
    item = getattr(value, "item", None)
    try:
        if callable(item) and getattr(value, "ndim", None) == 0:
            value = item()
    except Exception:
        return None
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
