"""The live panel beside a progress bar of the script's, as a terminal shows them."""

from __future__ import annotations

import pyte
import pytest

from tests.backprop_cli.commandline import CommandLine, wait_for
from tests.backprop_cli.terminals import Terminal


@pytest.mark.parametrize("before", [0, 40], ids=["top", "bottom of the screen"])
def test_time_left_stands_below_a_progress_bar(backprop: CommandLine, before: int) -> None:
    """The bar keeps its line, the panel has those below it, and what is printed next finds no trace of it."""
    backprop.script(
        f"""
        import time
        for n in range({before}): print("line", n)
        for i in range(30):
            print(f"\\r{{i:3d}}% of it", end="", flush=True)
            time.sleep(0.1)
        print()
        print("behind it")
        """
    )
    screen = pyte.Screen(100, 30)
    stream = pyte.ByteStream(screen)
    with Terminal(backprop, "run", "train.py", rows=30, columns=100) as terminal:
        seen = 0

        def shows_both() -> bool:
            nonlocal seen
            shown = terminal.read()
            stream.feed(shown[seen:])
            seen = len(shown)
            lines = [line.rstrip() for line in screen.display]
            bars = [n for n, line in enumerate(lines) if line.endswith("% of it")]
            return len(bars) == 1 and " left" in "".join(lines[bars[0] + 1 : bars[0] + 2])

        wait_for(shows_both)
        assert terminal.finish() == 0
        stream.feed(terminal.shown[seen:])
    lines = [line.rstrip() for line in screen.display if line.strip()]
    place = lines.index(" 29% of it")
    assert lines[place + 1] == "behind it"
    assert not any(" left" in line for line in lines[place:])


def test_bars_above_one_another_are_left_alone(backprop: CommandLine) -> None:
    """What moves between lines owns those below: nothing is drawn there, nor into a prompt."""
    backprop.script(
        """
        import time
        print("wait: ", end="", flush=True)
        time.sleep(1.5)
        print()
        for i in range(15):
            print(f"\\r{i:3d}% outer\\n\\r{i:3d}% inner\\x1b[A", end="", flush=True)
            time.sleep(0.1)
        """
    )
    with Terminal(backprop, "run", "train.py") as terminal:
        assert terminal.finish() == 0
        begin = terminal.shown.index(b"wait: ")
        stop = terminal.shown.index(b" 14% inner")
        assert b" left" not in terminal.shown[begin:stop].partition(b"  0% outer")[2]
        assert terminal.shown[begin:].startswith(b"wait: \r\n")
