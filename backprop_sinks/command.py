"""The sink `command`: runs a command of the user's when something happens, as `--on-end` and `--on-event` ask for."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Mapping
from typing import Any

from backprop_core.contract import EVENT_PREFIX
from backprop_core.errors import UsageError
from backprop_core.events.kinds import KINDS, PrintedProgress, Progress, Sampled
from backprop_core.events.sinks import SinkRun, Told
from backprop_core.strict_json import encode

PATIENCE_S = 30.0
"""Seconds that a command gets before it is ended."""
NEWEST_ONLY = (Progress.kind, PrintedProgress.kind, Sampled.kind)
"""What comes once a second: a command that takes longer gets the newest of them, not all."""
LONGEST_VALUE = 4096
"""Characters of a variable; the line on standard input has all."""


class HookError(Exception):
    """A command of the user's has failed, or had to be ended."""


def hooks_in(argument: str) -> list[tuple[str, str]]:
    """Kinds and commands, one `KIND=COMMAND` a line.

    Raises:
        UsageError: no line, one that is not of that form, or an unknown kind.
    """
    hooks = []
    if not argument.strip():
        raise UsageError(
            "The sink command has no command to run.",
            "For example: --sink command:checkpoint_saved=./copy.sh",
        )
    for line in filter(None, argument.splitlines()):
        kind, found, command = line.partition("=")
        kind, command = kind.strip(), command.strip()
        if not found or not command:
            raise UsageError(f"{line!r} is not KIND=COMMAND.", "For example: checkpoint_saved='./copy.sh'.")
        if kind not in KINDS:
            raise UsageError(f"There is no event {kind!r}.", f"Events: {', '.join(sorted(KINDS))}.")
        hooks.append((kind, command))
    return hooks


class CommandSink:
    """Runs commands by `/bin/sh` in the folder where the run was started, one after another. The event is JSON on their
    standard input and stands in variables.
    """

    def __init__(self, run: SinkRun, *, patience_s: float = PATIENCE_S) -> None:
        self._run = run
        self._hooks = hooks_in(run.argument)
        self._patience_s = patience_s
        self._newest: dict[str, Told] = {}

    def take(self, told: Told) -> None:
        """Run what is to be run for this event.

        Raises:
            HookError: a command ended with another status than 0, or not in time.
        """
        if told.event.kind in NEWEST_ONLY:
            self._newest[told.event.kind] = told
            return
        self._run_all(told)

    def flush(self) -> None:
        """Run what waits for the newest of its kind."""
        newest, self._newest = self._newest, {}
        for told in newest.values():
            self._run_all(told)

    def close(self) -> None:
        self.flush()

    def _run_all(self, told: Told) -> None:
        failed = []
        for kind, command in self._hooks:
            if kind == told.event.kind and (why := self._run_one(command, told)):
                failed.append(why)
        if failed:
            raise HookError(" ".join(failed))

    def _run_one(self, command: str, told: Told) -> str:
        """Run one command; a sentence where it did not end well."""
        shown = command if len(command) <= 80 else f"{command[:77]}..."
        process = subprocess.Popen(
            ["/bin/sh", "-c", command],
            cwd=self._run.cwd,
            env={**os.environ, **variables(self._run, told)},
            stdin=subprocess.PIPE,
            start_new_session=True,
        )
        try:
            process.communicate(encode(content(self._run, told)).encode() + b"\n", timeout=self._patience_s)
        except subprocess.TimeoutExpired:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            return f"{shown!r} took longer than {self._patience_s:g} s and was stopped."
        return f"{shown!r} ended with status {process.returncode}." if process.returncode else ""


def content(run: SinkRun, told: Told) -> Mapping[str, Any]:
    """The object that a command reads: the line of the event, and whose it is."""
    return {"run_id": run.run_id, "name": run.name, "attempt": told.attempt, **told.line}


def variables(run: SinkRun, told: Told) -> dict[str, str]:
    """`BACKPROP_EVENT_KIND`, `BACKPROP_EVENT_STEP`, … for each field that is a text or a number; what is not known is
    empty.
    """
    found = {}
    for key, value in content(run, told).items():
        if value is None or isinstance(value, str | int | float):
            text = "" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
            text = text.replace("\0", "").encode("utf-8", "replace").decode()
            found[EVENT_PREFIX + key.upper()] = text[:LONGEST_VALUE]
    return found
