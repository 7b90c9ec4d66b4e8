"""What others see of a run while it trains, and that keeping it up to date never costs the deadline."""

from __future__ import annotations

import json
import subprocess
import threading
from typing import Any

from backprop_cli.live_record import LiveRecord
from backprop_core.clock import SYSTEM
from tests.backprop_cli.commandline import CommandLine, end, wait_for
from tests.backprop_cli.sessions import STANDIN


def _entry(backprop: CommandLine, run: str) -> dict[str, Any]:
    entries: dict[str, Any] = json.loads((backprop.home / "experiments.json").read_text())
    return dict(entries[run])


def test_checkpoints_of_a_governed_run_are_known_while_it_trains(backprop: CommandLine) -> None:
    """Both files have the session's checkpoint and what the script announces long before the end."""
    backprop.script(
        STANDIN.replace("while", 'print(\'{"event": "checkpoint_saved", "path": "own.pt"}\')\nwhile', 1)
    )
    backprop.environment["STANDIN_STEPS"] = "100000"
    process = backprop.start("run", "train.py", "-m", "5", "--run-id", "live")
    try:
        wait_for((backprop.home / "experiments.json").exists)
        wait_for(lambda: _entry(backprop, "live").get("lastStep"))
        assert backprop("checkpoint", "live").returncode == 0
        wait_for(lambda: "/step-0" in str(_entry(backprop, "live")["checkpoints"]))
        assert _entry(backprop, "live")["status"] == "running"
        wait_for(lambda: str(backprop.folder / "own.pt") in backprop.record("live")["checkpoints"])
    finally:
        process.terminate()
        process.communicate(timeout=240)
        end(process)


def test_a_flood_of_announced_checkpoints_does_not_delay_the_end(backprop: CommandLine) -> None:
    """However many paths a script prints, all of it is gone before its deadline."""
    backprop.script(
        """
        import itertools
        for n in itertools.count(): print('{"event": "checkpoint_saved", "path": "c%d.pt"}' % n)
        """
    )
    process = backprop.start("run", "train.py", "-m", "0.1", "--run-id", "flood", stdout=subprocess.DEVNULL)
    process.communicate(timeout=240)
    governor = backprop.record("flood")["attempts"][0]["measured"]["governor"]
    assert governor["cause"] == "deadline"
    assert governor["unused_s"] > 0


class _StuckStore:
    """A home that does not answer before it is let go."""

    def __init__(self) -> None:
        self.let_go = threading.Event()

    def load(self, run_id: str) -> Any:
        self.let_go.wait()
        raise AssertionError("not reached in this test")


def test_a_home_that_hangs_does_not_hold_up_the_governor() -> None:
    """Looking goes on while a write does not return (it never does here), and memory for what waits is bounded."""
    store = _StuckStore()
    live = LiveRecord(store, _Hold(), SYSTEM, lambda text: None)  # type: ignore[arg-type]
    for number in range(5_000):
        live.checkpoint(f"/c{number}.pt")
        live.look(number, None)
    assert len(live._pending) <= 200


class _Hold:
    run_id = "stuck"
