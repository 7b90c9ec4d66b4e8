"""What every command begins with: the home, the store, and the settings."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from backprop_core.clock import SYSTEM
from backprop_core.runs.home import backprop_home
from backprop_core.runs.store import RunStore

if TYPE_CHECKING:
    from backprop_core.config.sources import Settings


def open_store(*, write: bool = True) -> RunStore:
    """The store in `$BACKPROP_HOME`. StoreError if it cannot be used."""
    return RunStore(backprop_home(os.environ, write=write), SYSTEM)


def settings_for(
    raw: Mapping[str, Any],
    *,
    cwd: Path,
    config: str | None,
    remembered: Mapping[str, Any] | None = None,
) -> Settings:
    """All settings for a command. ConfigError names what is wrong and where."""
    from backprop_core.config.sources import resolve  # late: `list` and most commands have no settings

    file = None if config is None else Path(config).expanduser().absolute()
    return resolve(command_line=raw, environ=os.environ, cwd=cwd, file=file, remembered=remembered)


def box_of(settings: Settings, parameters: Mapping[str, Any]) -> Settings:
    """`settings`, whose box lasts as long as the job with `--requeue`, unless a length was named."""
    if not parameters["requeue"]:
        return settings
    from backprop_cli.requeue import as_long_as_the_job

    return as_long_as_the_job(settings)


def one_line(text: str) -> str:
    """Text from outside without line breaks and what else would move the terminal: a run's name may hold anything."""
    return text if text.isprintable() else "".join(c if c.isprintable() else "?" for c in text)


def tell(text: str) -> None:
    """One line, seldom more, for the user on standard error."""
    shown = "\n".join(map(one_line, text.splitlines()))
    click.echo(f"backprop: {shown}", err=True)


def tell_warnings(store: RunStore) -> None:
    """Show what the store passed over, and forget it."""
    for warning in store.warnings:
        tell(warning)
    store.warnings.clear()


def show_settings(settings: Settings) -> None:
    """Every setting with its value and where it came from."""
    width = max(len(name) for name in settings.by_name)
    for name, setting in settings.by_name.items():
        value = "none" if setting.value is None else setting.value
        value = f"{value:g}" if isinstance(value, float) else value
        click.echo(f"  {name:<{width}}  {value!s:<12}  {setting.origin}", err=True)


def box_text(minutes: float) -> str:
    """A time box for people: `10 min`, `1 min 30 s`."""
    from backprop_core.config.options import YEAR_MIN
    from backprop_core.deadline.budget import duration_text

    if minutes == YEAR_MIN:
        return "as long as the job"

    return f"{minutes:g} min" if minutes == int(minutes) else duration_text(minutes * 60.0)


def is_terminal() -> bool:
    """Whether standard output is a terminal."""
    return sys.stdout is not None and sys.stdout.isatty()
