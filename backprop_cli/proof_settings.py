"""What the runs of a proof are set to: all that was asked for, without what would reach beyond the proof."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from backprop_core.config.options import BY_NAME, OPTIONS
from backprop_core.config.sources import Settings
from backprop_core.errors import UsageError
from backprop_core.strict_json import encode

_OF_THE_PROOF = "max-run-minutes"
NO_MEANING = (
    *("budget-from", "timeboxed-exit-code", "resume-flag", "checkpoint-glob"),
    *("provenance", "sink", "tracker", "on-end", "on-event"),
)
"""Nobody outside of a proof hears of its runs, and how they end is for the proof alone."""
_PATHS = ("python", "replay-schedule")


def check_meaning(raw: Mapping[str, Any]) -> None:
    """Raise UsageError for an option of the command line that means nothing here. In a file or variable it may stand."""
    for name in NO_MEANING:
        if raw.get(name) not in (None, False):
            raise UsageError(f"--{name} does not apply to a proof.", "Leave it out.")


def write_settings(settings: Settings, cwd: Path, path: Path) -> None:
    """A configuration file for the runs, whose working directory is another than `cwd`."""
    stated = {
        name: value
        for name, value in settings.stated().items()
        if name != _OF_THE_PROOF and name not in NO_MEANING
    }
    for name in _PATHS:
        value = stated.get(name)
        if value and (cwd / value).exists():
            stated[name] = os.path.normpath(cwd / value)  # not resolved: an environment's python is a link
    stated |= {"provenance": False, "tracker": False}
    path.write_text(encode({BY_NAME[name].key: value for name, value in stated.items()}), encoding="utf-8")


def environment_of_runs(environ: Mapping[str, str]) -> dict[str, str]:
    """The variables of a proof's runs: without those that would hold over the file, and with W&B writing files only."""
    options = {option.env for option in OPTIONS}
    return {name: value for name, value in environ.items() if name not in options} | {"WANDB_MODE": "offline"}
