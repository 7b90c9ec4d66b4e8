"""`backprop config`: every setting that would hold here, and where it comes from."""

from __future__ import annotations

from typing import Any

import click

from backprop_cli.opening import settings_for
from backprop_cli.parameters import working_folder
from backprop_cli.paths import given
from backprop_cli.tables import show_table
from backprop_core.config.options import BY_NAME


@click.command("config")
@click.option(
    "--config", callback=given, metavar="PATH", help="Configuration file [default: the nearest one]."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(config: str | None, as_json: bool) -> int:
    """Show every setting that 'backprop run' would use in this folder, and its source.

    The command line overrides the environment (BACKPROP_...), which overrides backprop.config.json,
    .backprop.json or [tool.backprop] in pyproject.toml, which overrides the default.

    \b
    Examples:
      backprop config
      BACKPROP_MAX_PARALLEL=1 backprop config --json
    """
    settings = settings_for({}, cwd=working_folder(), config=config)
    if as_json:
        import json

        shown = {
            name: {"value": setting.value, "origin": setting.origin}
            for name, setting in settings.by_name.items()
        }
        click.echo(json.dumps(shown, indent=2))
        return 0
    rows = [
        (name, _plain(setting.value), setting.origin, BY_NAME[name].env, BY_NAME[name].key)
        for name, setting in settings.by_name.items()
    ]
    show_table(
        ("option", "value", "from", "environment", "key"), rows, spare=("key", "environment"), folded="from"
    )
    return 0


def _plain(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:g}" if isinstance(value, float) else str(value)
