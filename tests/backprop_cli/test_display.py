from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest

from backprop_cli.display import Display, line_of
from backprop_core.governor.observed import SessionView, View
from backprop_core.governor.stdout_messages import Heard
from backprop_core.resources.samples import GpuSample


def view(now: float = 100.0, step: int | None = 7, **more: Any) -> View:
    progress = None if step is None else {"step": step, "loss": 0.125, "rate": 12.3456, "epoch": 2}
    return View(now, 460.0, SessionView(progress=progress), Heard(), **more)


def test_the_line_says_what_matters_most_first() -> None:
    """Time left, step, loss, rate, epoch, checkpoints, memory and GPU stand in this order."""
    full = view(memory_bytes=3 * 1024**3, gpus=(GpuSample("u", "u", "nvidia", 1, temperature_c=61.0),))
    full.session.checkpoints.append("a")
    assert line_of(full) == (
        "6 min 00 s left | step 7 | loss 0.125 | 12.3 steps/s | epoch 2 | 1 checkpoint | 3.0 GB | GPU 1 61 °C"
    )


@pytest.mark.parametrize(
    ("wait_s", "saved", "words"),
    [
        (125.0, 0, "first checkpoint in 2 min 00 s"),
        (125.0, 3, "3 checkpoints, next in 2 min 00 s"),
        (2.0, 1, "1 checkpoint, next now"),
        (None, 1, "1 checkpoint, next at the end"),
        ("soon", 1, "1 checkpoint, next at the end"),
    ],
)
def test_the_line_says_when_the_next_checkpoint_is_due(wait_s: object, saved: int, words: str) -> None:
    """What the session said five seconds ago has moved on by five seconds; a pause says nothing about it."""
    progress = {"step": 7, "next_save_s": wait_s, "monotonic": 95.0}
    shown = View(100.0, 460.0, SessionView(progress=progress, checkpoints=["c"] * saved), Heard())
    assert line_of(shown) == f"6 min 00 s left | step 7 | {words}"
    assert "next" not in line_of(replace(shown, paused=True))


def test_a_narrow_terminal_gets_whole_parts_in_several_lines(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is cut in the middle and no line wraps; three lines hold all of it but on the narrowest terminals."""
    whole = ["6 min 00 s left", "step 7", "loss 0.125", "12.3 steps/s", "epoch 2", "3.0 GB"]
    for columns in range(30, 120):
        monkeypatch.setattr("backprop_cli.display._width", lambda columns=columns: columns)
        Display(live=True).tick(view(memory_bytes=3 * 1024**3))
        lines = capsys.readouterr().err.removeprefix("\r\x1b[K").split("\r\n")
        assert len(lines) <= 3
        assert all(len(line) < columns for line in lines)
        assert [line[:10] for line in lines] == ["backprop: ", *[" " * 10] * (len(lines) - 1)]
        parts = " | ".join(line[10:] for line in lines).split(" | ")
        assert parts == whole[: len(parts)]
        assert parts == whole or columns < 38
        assert len(lines) == 1 or columns < 90


def test_what_a_script_prints_counts_where_it_has_no_session() -> None:
    """Step and loss of JSON lines stand in the line, and a pause is called one."""
    assert (
        line_of(View(0.0, 60.0, SessionView(), Heard(step=3, loss=0.5), paused=True))
        == "paused | step 3 | loss 0.5"
    )


def test_a_box_that_counts_from_the_first_step_shows_no_end_before_it() -> None:
    """Nobody knows how much is left of it, and step 0 is no progress."""
    assert line_of(view(step=0, starting=True, memory_bytes=1024**3)) == "starting up | 1.0 GB"


def test_plain_lines_come_twice_a_minute_and_only_with_news(capsys: pytest.CaptureFixture[str]) -> None:
    """Without a terminal there is no live line: a line each half minute, where a step was made."""
    display = Display(live=False)
    for tenth in range(0, 1000, 5):
        display.tick(view(now=tenth / 10, step=min(tenth, 500)))
    shown = capsys.readouterr().err.splitlines()
    assert len(shown) == 2
    assert all(line.startswith("backprop: ") for line in shown)
    assert "\x1b" not in "".join(shown)


def test_the_live_line_is_erased_before_anything_else_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    """Drawn when it is quiet, gone before the script's output or a message."""
    display = Display(live=True)
    display.tick(view())
    display.before_output()
    display.tick(view(now=101.0, quiet=False))
    display.say("words")
    shown = capsys.readouterr().err
    assert shown.startswith("\r\x1b[Kbackprop: 6 min")
    assert shown.endswith("\r\x1b[Kbackprop: words\n")
    assert shown.count("left") == 1


def test_a_panel_of_several_lines_is_erased_whole(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A terminal that does what it is told shows the script's words and the newest panel, and no line twice."""
    monkeypatch.setattr("backprop_cli.display._width", lambda: 40)
    display = Display(live=True)
    for second in range(3):
        display.tick(view(now=101.0 + second))
    display.say("words")
    display.tick(view(now=110.0))
    screen, row = [""], 0
    for piece in re.split(r"(\r\x1b\[K|\x1b\[A|\r?\n)", capsys.readouterr().err):
        if piece == "\r\x1b[K":
            screen[row] = ""
        elif piece == "\x1b[A":
            row -= 1
        elif piece.endswith("\n"):
            row += 1
            screen += [""] * (row == len(screen))
        else:
            screen[row] += piece
    assert screen[0] == "backprop: words"
    assert "5 min 50 s left" in screen[1]
    assert " ".join(screen).count("left") == 1
