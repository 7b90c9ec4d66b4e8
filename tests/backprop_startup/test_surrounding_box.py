"""`with backprop.timebox():` around a loop that is otherwise unchanged, under `backprop run`: the loop is counted."""

from __future__ import annotations

from tests.backprop_cli.commandline import CommandLine
from tests.backprop_startup.cutting import cut, events, resumed, whole

TRAINS = """
    import sys, time
    import backprop, numpy
    PAUSE = float(sys.argv[1])
    rng = numpy.random.default_rng(3)
    weights, rows, best = numpy.zeros(5), rng.normal(size=(64, 5)), float("inf")
    with backprop.timebox("5m", keep=3) as box:
        assert 0 < box.remaining <= 300
        for epoch in range(10):
            total = 0.0
            for pick in numpy.array_split(rng.permutation(64), 8):
                error = rows[pick] @ (weights - numpy.arange(5.0))
                weights -= 0.05 * rows[pick].T @ error
                total += float(error @ error)
                box.log(loss=total)
                time.sleep(PAUSE)
            best = min(best, total)
            print(epoch, total, best, flush=True)
    print(box.outcome.value, weights.tolist())
"""


def test_a_box_around_an_unchanged_loop_comes_back_exactly_under_the_command(backprop: CommandLine) -> None:
    """Epochs are counted on, every line comes once and is the same, and nobody is advised to change the loop."""
    script = backprop.script(TRAINS)
    uncut = whole(backprop, script, "0")
    assert uncut.returncode == 0, uncut.stderr
    assert uncut.stdout.splitlines()[-1].startswith("completed")

    def is_in_the_third_epoch() -> bool:
        output = backprop.attempt_dir("cut") / "output.log"
        return output.exists() and output.read_text().count("\n") >= 2

    cut(backprop, "cut", script, "0.05", when=is_in_the_third_epoch)
    done = resumed(backprop, "cut")
    before = (backprop.attempt_dir("cut") / "output.log").read_text().splitlines(keepends=True)
    printed = "".join(line for line in before if not line.startswith("backprop:")) + done.stdout
    assert printed == uncut.stdout, done.stderr
    assert "it has its own time box" not in done.stderr
    assert "make it exact" not in done.stderr
    assert any(e["kind"] == "progress" and "loss" in e.get("values", e) for e in events(backprop, "cut"))
