"""What a cell shows while it trains: HTML with a bar and a curve, and one line of text where there is no HTML."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any
from xml.etree import ElementTree

import pytest

from backprop_core.outcome import Outcome
from backprop_core.testing.clock import FakeClock
from backprop_notebook.progress_display import EVERY_PLAIN_S, EVERY_S, ProgressDisplay


def _session(step: int, share: float) -> Any:
    return SimpleNamespace(
        progress=lambda: share,
        training_state=SimpleNamespace(position=lambda: SimpleNamespace(step=step)),
        outcome=Outcome.RUNNING,
        remaining_s=lambda: 90.0,
    )


class _ZeroDimensional:
    ndim = 0

    def __init__(self, value: float) -> None:
        self._value = value

    def item(self) -> float:
        return self._value


def test_without_html_it_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    """In a plain IPython the bar, the step, the loss and the time left are one line of ASCII."""
    display = ProgressDisplay({"loss": _ZeroDimensional(0.5)}, FakeClock())
    display.look(_session(7, 0.25))
    (line,) = capsys.readouterr().out.splitlines()
    assert line.isascii()
    assert line.startswith(
        "[########......................]  25% of the time, step 7, loss 0.5, 1 min 30 s left"
    )


def test_the_html_has_a_bar_and_a_curve_of_finite_values() -> None:
    """Well-formed for a browser and a screen reader, whatever the loss has been; without two values there is no curve."""
    names: dict[str, Any] = {}
    clock = FakeClock()
    display = ProgressDisplay(names, clock)
    display.look(_session(0, 0.0))
    assert "<svg" not in display._repr_html_()
    for step, loss in enumerate([2.0, math.nan, math.inf, 1.0, "none", None, 0.5] * 100):
        clock.advance(EVERY_PLAIN_S)
        names["loss"] = loss
        display.look(_session(step, 0.5))
    html = display._repr_html_()
    root = ElementTree.fromstring(html.replace("<br>", "<br/>"))
    bar, curve = root.find("progress"), root.find("svg")
    assert bar is not None
    assert bar.get("aria-label") == "time used"
    assert curve is not None
    assert curve.get("aria-label") == "loss from 2 to 0.5"
    points = curve[0].get("points", "").split()
    assert 50 < len(points) <= 240
    places = [tuple(map(float, point.split(","))) for point in points]
    assert all(0 <= x <= 480 and 0 <= y <= 90 for x, y in places)
    steps = [step for step, loss in display.losses if math.isfinite(loss)]
    assert [x for x, _ in places] == pytest.approx([480 * step / steps[-1] for step in steps], abs=0.1)


@pytest.mark.parametrize("every_s", [EVERY_S, EVERY_PLAIN_S])
def test_it_looks_once_a_second_in_a_kernel(every_s: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Boundaries come by the thousand; what they show is made anew once a second, every ten where each look is a line."""
    shell = SimpleNamespace(kernel=object() if every_s == EVERY_S else None)
    monkeypatch.setattr("IPython.core.getipython.get_ipython", lambda: shell)
    monkeypatch.setattr("IPython.display.display", lambda *_, **__: SimpleNamespace(update=lambda _: None))
    clock, asked = FakeClock(), []
    session = _session(1, 0.5)
    session.progress = lambda: asked.append(1) or 0.5
    display = ProgressDisplay({}, clock)
    for _ in range(10_000):
        display.look(session)
        clock.advance(0.01)
    assert len(asked) == pytest.approx(100 / every_s, abs=2)
