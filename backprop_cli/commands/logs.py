"""`backprop logs RUN`: what a run has printed."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click

from backprop_cli.opening import open_store, tell
from backprop_cli.parameters import WholeNumber, complete_runs, json_option
from backprop_cli.summary import show_object
from backprop_core.clock import SYSTEM
from backprop_core.errors import UsageError
from backprop_core.outcome import Outcome
from backprop_core.runs.attempt import OUTPUT_FILE
from backprop_core.runs.store import RunStore

_CHUNK = 65_536
_LOOK_EVERY_S = 0.1


@click.command("logs")
@click.argument("run", shell_complete=complete_runs)
@click.option("-f", "--follow", is_flag=True, help="Keep showing new output until the run ends.")
@click.option("-n", "--lines", type=WholeNumber(min=0), help="Only this many of the last lines.")
@click.option("--attempt", "number", type=WholeNumber(min=1), help="Attempt to show [default: the last].")
@json_option
def command(run: str, follow: bool, lines: int | None, number: int | None, as_json: bool) -> int:
    """Show the output of RUN.

    \b
    Examples:
      backprop logs 2026112 -n 20
      backprop logs 2026112 -f
    """
    if as_json and follow:
        raise UsageError("--json prints one object, and --follow never ends.", "Leave out one of them.")
    store = open_store(write=False)
    record = store.load(run)
    last = len(record.attempts)
    if number is None and not last:
        if not follow:
            tell(f"Run {record.id} has not started yet.")
            return 0
        number = 1
    number = number or last
    if not 1 <= number <= max(last, follow):
        raise UsageError(f"Run {record.id} has no attempt {number}.", f"Its attempts: {last}.")
    path = store.attempt_dir(record.id, number) / OUTPUT_FILE
    if not path.is_file() and not follow:
        tell("No output was kept: only 'backprop run' keeps it.")
        return 0
    offset = _offset_of_last_lines(path, lines) if lines is not None and path.is_file() else 0
    if as_json:
        output = path.read_bytes()[offset:].decode("utf-8", "replace")
        show_object(run_id=record.id, attempt=number, path=str(path), output=output)
        return 0
    if not follow and path.stat().st_size == 0:
        goes_on = record.status is Outcome.RUNNING and number == last
        tell(f"Attempt {number} of run {record.id} has printed nothing{' so far' if goes_on else ''}.")
    offset = _show(path, offset)
    if follow and number >= last:
        _follow(store, record.id, number, offset)
    return 0


def _follow(store: RunStore, run_id: str, number: int, offset: int) -> None:
    """Show an attempt and those that a chain of boxes makes of it, until nobody is left to begin another."""
    while True:
        record = store.load(run_id)
        goes_on = record.status is Outcome.RUNNING or store.holder(record) is not None
        offset = _show(store.attempt_dir(run_id, number) / OUTPUT_FILE, offset)
        if number < len(record.attempts):
            number, offset = number + 1, 0
        elif not goes_on:
            return
        else:
            SYSTEM.sleep(_LOOK_EVERY_S)


def _show(path: Path, offset: int) -> int:
    """Print what stands behind `offset`; the new offset."""
    try:
        with path.open("rb") as file:
            file.seek(offset)
            while chunk := file.read(_CHUNK):
                sys.stdout.buffer.write(chunk)
            sys.stdout.buffer.flush()
            return file.tell()
    except FileNotFoundError:
        return offset


def _offset_of_last_lines(path: Path, lines: int) -> int:
    """Where the last `lines` lines of a file begin, found by reading back from its end."""
    with path.open("rb") as file:
        end = position = file.seek(0, os.SEEK_END)
        tail = b""
        while position > 0 and tail.count(b"\n") <= lines:
            step = min(_CHUNK, position)
            position -= step
            file.seek(position)
            tail = file.read(step) + tail
    kept = [line + b"\n" for line in tail.split(b"\n")]  # not at the carriage returns of a progress bar
    kept[-1:] = [kept[-1][:-1]] if kept[-1] != b"\n" else []
    return (
        end - sum(map(len, kept[len(kept) - lines :]))
        if lines and len(kept) > lines
        else (position if lines else end)
    )
