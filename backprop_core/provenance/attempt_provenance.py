"""What one attempt was started from, and its file in the attempt's folder."""

from __future__ import annotations

import os
import platform
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import field
from pathlib import Path

from backprop_core.clock import Clock
from backprop_core.errors import BackpropError
from backprop_core.provenance.git_state import GitState, git_state
from backprop_core.provenance.packages import packages_of
from backprop_core.quick_dataclass import dataclass
from backprop_core.runs.atomic import read_regular, replace_file
from backprop_core.runs.attempt import attempt_dir
from backprop_core.strict_json import JSON, as_list, as_object, as_text, as_whole, decode, encode

PROVENANCE_FILE = "provenance.json"
_FORMAT = 1
_LIMIT_BYTES = 8 * 1024 * 1024
_SEED = re.compile(r"--?([\w.-]*seed[\w.-]*)(?:=(.*))?", re.IGNORECASE)
_NUMBER = re.compile(r"[-+]?\d{1,30}")


@dataclass(frozen=True, slots=True)
class Provenance:
    """What an attempt was started from.

    Attributes:
        command: argv of the script.
        interpreter, python: where it is, and its version; empty where it is not a Python script.
        packages: version by name; None where they are not known.
        host, system: the machine's name, and its system in words.
        cpus: how many it has.
        gpus: names of those that the attempt was given.
        seeds: by the name that they have on the command line or in the environment.
        git: the checkout around the script's folder; None outside of one.
    """

    command: tuple[str, ...] = ()
    interpreter: str = ""
    python: str = ""
    packages: Mapping[str, str] | None = None
    host: str = ""
    system: str = ""
    cpus: int | None = None
    gpus: tuple[str, ...] = ()
    seeds: Mapping[str, str] = field(default_factory=dict)
    git: GitState | None = None


def gather(
    *, command: Sequence[str], cwd: Path, interpreter: str | None, gpus: Sequence[str], clock: Clock
) -> Provenance:
    """Look at everything now. Takes about a second at most where the checkout is large, and never raises.

    Args:
        interpreter: of the script; None for a program that is not run by Python.
    """
    here = interpreter is not None and os.path.realpath(interpreter) == os.path.realpath(sys.executable)
    return Provenance(
        command=tuple(command),
        interpreter=interpreter or "",
        python=platform.python_version() if here else "",
        packages=None if interpreter is None else packages_of(interpreter, cwd, clock),
        host=platform.node(),
        system=_system(),
        cpus=os.cpu_count(),
        gpus=tuple(gpus),
        seeds=seeds_in(command, os.environ),
        git=git_state(cwd, clock),
    )


def _system() -> str:
    """`platform.platform()`, which on Linux starts a process (`uname -p`) to find an empty word."""
    try:
        libc = os.confstr("CS_GNU_LIBC_VERSION") if sys.platform == "linux" else None
    except (OSError, ValueError):  # another libc
        libc = None
    if not libc:
        return platform.platform()
    here = os.uname()
    return f"{here.sysname}-{here.release}-{here.machine}-with-{libc.replace(' ', '')}"


def seeds_in(command: Sequence[str], environ: Mapping[str, str]) -> dict[str, str]:
    """The seeds that a command line names (`--seed 7`, `--data.seed=7`, `seed=7`), and PYTHONHASHSEED."""
    found = {}
    if environ.get("PYTHONHASHSEED", "random") != "random":
        found["PYTHONHASHSEED"] = environ["PYTHONHASHSEED"][:30]
    for word, following in zip(command, [*command[1:], ""], strict=False):
        told = _SEED.fullmatch(word if word.startswith("-") else f"--{word}" if "=" in word else "")
        if told is None:
            continue
        value = following if told[2] is None else told[2]
        if _NUMBER.fullmatch(value):
            found[told[1]] = value
    return found


def keep(run_dir: Path, number: int, provenance: Provenance) -> str:
    """Write the provenance of attempt `number`; an earlier attempt's that is the same is only pointed to.

    Returns:
        One sentence where it could not be written, else nothing: no run ends over it.
    """
    content = _to_json(provenance)
    try:
        for earlier in range(number - 1, max(0, number - 4), -1):
            known = read_provenance(run_dir, earlier)
            if known is not None and _to_json(known) == content:
                content = {"same_as": earlier}
                break
        text = encode({"format_version": _FORMAT, **content}, indent=1)
        replace_file(
            attempt_dir(run_dir, number) / PROVENANCE_FILE, text.encode("ascii"), mode=0o600, lasting=False
        )
    except BackpropError as error:
        return f"The provenance of this attempt could not be recorded: {error.what}"
    return ""


def read_provenance(run_dir: Path, number: int) -> Provenance | None:
    """What attempt `number` was started from; None where it was not kept, or makes no sense."""
    for _ in range(number):
        if number < 1:
            return None
        try:
            content = as_object(
                decode(read_regular(attempt_dir(run_dir, number) / PROVENANCE_FILE, _LIMIT_BYTES))
            )
        except (OSError, ValueError):
            return None
        earlier = as_whole(content.get("same_as"), least=1, most=number - 1) if "same_as" in content else None
        if earlier is None:
            return (
                _from_json(content)
                if content.get("format_version") == _FORMAT and "same_as" not in content
                else None
            )
        number = earlier
    return None


def _to_json(provenance: Provenance) -> dict[str, JSON]:
    git = provenance.git
    return {
        "command": list(provenance.command),
        "interpreter": provenance.interpreter,
        "python": provenance.python,
        "packages": None if provenance.packages is None else dict(provenance.packages),
        "host": provenance.host,
        "system": provenance.system,
        "cpus": provenance.cpus,
        "gpus": list(provenance.gpus),
        "seeds": dict(provenance.seeds),
        "git": None
        if git is None
        else {"commit": git.commit, "diff": git.diff, "untracked": list(git.untracked), "note": git.note},
    }


def _from_json(content: Mapping[str, JSON]) -> Provenance:
    git = content.get("git")
    packages = content.get("packages")
    return Provenance(
        command=_texts(content.get("command")),
        interpreter=as_text(content.get("interpreter")) or "",
        python=as_text(content.get("python")) or "",
        packages=_words(packages) if isinstance(packages, dict) else None,
        host=as_text(content.get("host")) or "",
        system=as_text(content.get("system")) or "",
        cpus=as_whole(content.get("cpus"), least=1),
        gpus=_texts(content.get("gpus")),
        seeds=_words(content.get("seeds")),
        git=_git(git) if isinstance(git, dict) else None,
    )


def _git(content: Mapping[str, JSON]) -> GitState:
    return GitState(
        as_text(content.get("commit")),
        as_text(content.get("diff")),
        _texts(content.get("untracked")),
        as_text(content.get("note")) or "",
    )


def _texts(value: object) -> tuple[str, ...]:
    return tuple(item for item in as_list(value) if isinstance(item, str))


def _words(value: object) -> dict[str, str]:
    return {key: item for key, item in as_object(value).items() if isinstance(item, str)}
