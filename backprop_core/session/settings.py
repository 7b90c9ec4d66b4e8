"""The keywords that `timebox()` and every `BackpropCallback()` share, checked once and for all."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import field, replace
from datetime import datetime
from pathlib import Path
from typing import Literal

from backprop_core import contract
from backprop_core.deadline.budget import Duration, parse_duration
from backprop_core.errors import UsageError, shown
from backprop_core.quick_dataclass import dataclass

Resume = Literal["auto"] | bool | str | os.PathLike[str]

DEFAULT_GRACE_S = 30.0
CELL = "%%timebox"
"""The origin of a notebook's cell: it says itself how its training continues."""
LONGEST_NAME = 200
"""Characters of a label, which stands in tables and first lines."""


@dataclass(frozen=True, slots=True)
class SessionSettings:
    """What the user asked for.

    Attributes:
        budget: seconds the attempt may use, in any notation; None for the default.
        until: a fixed deadline.
        checkpoint_every_s: seconds between periodic checkpoints; None lets the cost of a save decide.
        keep: committed checkpoints kept, 2 or more.
        keep_every: besides those, the first at or after every multiple of so many steps; None for none.
        checkpoint_dir: where checkpoints go; None for the run's own folder.
        run: id of the run to create or continue; None makes one up.
        name: a label for people.
        resume: "auto", True, False, or the path of a checkpoint.
        grace_s: seconds given to a SIGTERM.
        strict: what changes during training and cannot be kept is an error, and no warning.
        origin: how messages call the caller, `timebox` or `BackpropCallback`.
        framework: what trains, for the record.
        attached: the script did not ask for this session; it is opened only where the governor's attempt is free.
        environ: the environment.
    """

    budget: Duration | None = None
    until: datetime | None = None
    checkpoint_every_s: float | None = None
    keep: int = 2
    keep_every: int | None = None
    checkpoint_dir: str | None = None
    run: str | None = None
    name: str | None = None
    resume: Resume = "auto"
    grace_s: float = DEFAULT_GRACE_S
    strict: bool = False
    origin: str = "timebox"
    framework: str = ""
    attached: bool = False
    environ: Mapping[str, str] = field(default_factory=lambda: os.environ)


def make_settings(
    *,
    budget: Duration | None = None,
    until: datetime | None = None,
    checkpoint_every: Duration | None = None,
    keep: int = 2,
    keep_every: int | None = None,
    checkpoint_dir: str | os.PathLike[str] | None = None,
    run: str | None = None,
    name: str | None = None,
    resume: Resume = "auto",
    grace: Duration = DEFAULT_GRACE_S,
    strict: bool = False,
    origin: str = "timebox",
    framework: str = "",
    environ: Mapping[str, str] | None = None,
) -> SessionSettings:
    """Check the keywords of the public surface; see DESIGN section 4 for their meaning.

    Raises:
        UsageError: a value that cannot be meant; the message names it and what is allowed.
        BudgetError: a duration that cannot be read or is not positive.
    """
    if budget is not None:
        parse_duration(budget, "budget")
    if not isinstance(keep, int) or isinstance(keep, bool) or keep < 2:
        raise UsageError(
            f"keep={shown(keep)} is not valid.", "It must be 2 or more: the newest checkpoint may be damaged."
        )
    if keep_every is not None and (
        not isinstance(keep_every, int) or isinstance(keep_every, bool) or keep_every < 1
    ):
        raise UsageError(
            f"keep_every={shown(keep_every)} is not a number of steps.", "Give 1 or more, or leave it out."
        )
    if not isinstance(resume, bool | str | os.PathLike) or resume == "":
        raise UsageError(
            f"resume={shown(resume)} is not understood.",
            'Use "auto", True, False or the path of a checkpoint.',
        )
    for key, text in (("run", run), ("name", name)):
        if text is not None and (not isinstance(text, str) or not text.strip()):
            raise UsageError(
                f"{key}={shown(text)} is not a name.", "Give a string that is not empty, or leave it out."
            )
    if name is not None and len(name) > LONGEST_NAME:
        raise UsageError(
            f"name={shown(name)} has {len(name)} characters.", f"Give one of at most {LONGEST_NAME}."
        )
    if not isinstance(strict, bool):
        raise UsageError(f"strict={shown(strict)} is not understood.", "Give True or False.")
    environ = os.environ if environ is None else environ
    if checkpoint_every is None:
        checkpoint_every = _from_environ(environ, contract.CHECKPOINT_EVERY_S, zero_allowed=False)
    if grace == DEFAULT_GRACE_S:
        given = _from_environ(environ, contract.GRACE_S, zero_allowed=True)
        grace = grace if given is None else given
    return SessionSettings(
        budget=budget,
        until=until,
        checkpoint_every_s=None
        if checkpoint_every is None
        else parse_duration(checkpoint_every, "checkpoint_every"),
        keep=keep,
        keep_every=keep_every,
        checkpoint_dir=None if checkpoint_dir is None else _directory_text(checkpoint_dir),
        run=run,
        name=name,
        resume=resume if isinstance(resume, bool | str) else str(Path(resume)),
        grace_s=parse_duration(grace, "grace", zero_allowed=True),
        strict=strict or environ.get(contract.STRICT) == "1",
        origin=origin,
        framework=framework,
        environ=environ,
    )


def _from_environ(environ: Mapping[str, str], name: str, *, zero_allowed: bool) -> float | None:
    """The seconds in a variable; None if it is not set. BudgetError names it if it holds something else."""
    text = environ.get(name, "").strip()
    if not text:
        return None
    try:
        value: Duration = float(text)
    except ValueError:
        value = text
    return parse_duration(value, name, zero_allowed=zero_allowed)


_asked: SessionSettings | None = None


def ask_for(settings: SessionSettings) -> None:
    """The script has said, by a box around loops that are counted, how the training in this process is to be boxed."""
    global _asked
    _asked = settings


def attached_settings(framework: str, environ: Mapping[str, str] | None = None) -> SessionSettings:
    """Those of a session that the script did not ask for, or of which it has only said how it is to be boxed.

    A script that is handed its own checkpoint (`--resume-flag`) restores itself: nothing is restored over it.
    """
    environ = os.environ if environ is None else environ
    resume: Resume = False if environ.get(contract.SCRIPT_RESUMES) else "auto"
    if _asked is not None:
        return replace(_asked, framework=framework, resume=resume, environ=environ, attached=True)
    settings = make_settings(origin="backprop run", framework=framework, resume=resume, environ=environ)
    return replace(settings, attached=True)


def _directory_text(value: str | os.PathLike[str]) -> str:
    wrong = UsageError(
        f"checkpoint_dir={shown(value)} is not a folder name.", "Give a path, or leave it out."
    )
    text = os.fspath(value) if isinstance(value, str | os.PathLike) else b""
    if not isinstance(text, str) or not text.strip() or "\0" in text or text.startswith("://"):
        raise wrong
    try:
        return text if "://" in text else str(Path(text).expanduser().absolute())
    except RuntimeError as error:  # the home folder of a user who does not exist
        raise wrong from error
