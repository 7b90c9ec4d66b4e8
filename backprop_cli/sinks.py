"""The sinks that a command is asked for: `--sink`, `--on-end` and `--on-event`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backprop_core.events.kinds import AttemptEnded

if TYPE_CHECKING:
    from backprop_core.config.sources import Settings

COMMAND = "command"


def sinks_asked_for(settings: Settings) -> list[str]:
    """Their names, with a colon and an argument where there is one. All commands of the user's are one sink."""
    commands = list(settings["on-event"])
    if settings["on-end"]:
        commands.append(f"{AttemptEnded.kind}={' '.join(settings['on-end'].splitlines())}")
    return [*settings["sink"], *([f"{COMMAND}:" + "\n".join(commands)] if commands else [])]


def check_sinks(settings: Settings) -> None:
    """Raise UsageError for a sink that is not there, lacks its library, or could not do what it is asked."""
    wanted = sinks_asked_for(settings)
    if not wanted:
        return
    from backprop_core.events.sinks import check, split
    from backprop_sinks.command import hooks_in

    check(wanted)
    for written in wanted:
        name, argument = split(written)
        if name == COMMAND:
            hooks_in(argument)
