"""What every `BackpropCallback` has: the keywords of `backprop.timebox`, its facts, and a form that no script asked for."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, ClassVar, Self, TypedDict, TypeVar

from backprop_core.deadline.budget import Duration
from backprop_core.session.boxed_training import BoxFacts
from backprop_core.session.settings import Resume, SessionSettings, attached_settings, make_settings

C = TypeVar("C", bound=Callable[..., None])


class BoxKeywords(TypedDict, total=False):
    """What a callback takes beside `budget`.

    Attributes:
        until: a fixed deadline, as an aware datetime.
        checkpoint_every: a duration between periodic checkpoints; None: saving takes at most 2% of the time.
        keep: number of newest checkpoints to keep, 2 or more.
        keep_every: also keep the first checkpoint at or after every multiple of this many steps.
        checkpoint_dir: folder or address for checkpoints; None: the run's own folder below $BACKPROP_HOME.
        run: id of the run to create or continue; None: a generated id.
        name: a label for people to read.
        resume: "auto" (resume under `backprop resume`, or if `run` is an unfinished run), True, False, or the path of a
            checkpoint.
        grace: time between SIGTERM and the exit, as a duration.
        strict: raise an error, instead of printing a line, if something changes during training that cannot be kept.
    """

    until: datetime | None
    checkpoint_every: Duration | None
    keep: int
    keep_every: int | None
    checkpoint_dir: str | os.PathLike[str] | None
    run: str | None
    name: str | None
    resume: Resume
    grace: Duration
    strict: bool


def lists_keywords(init: C) -> C:
    """Have `help` and everything else that reads signatures see each keyword of an `__init__` that takes them all."""
    takes = inspect.signature(make_settings, eval_str=True).parameters
    budget = takes["budget"].replace(kind=inspect.Parameter.POSITIONAL_OR_KEYWORD)
    own = inspect.Parameter("self", inspect.Parameter.POSITIONAL_OR_KEYWORD)
    shown = [own, budget, *(takes[name] for name in BoxKeywords.__annotations__)]
    init.__signature__ = inspect.Signature(shown, return_annotation=None)  # type: ignore[attr-defined]
    return init


class BoxCallback(BoxFacts):
    """A framework's callback that gives its training a time budget."""

    framework_name: ClassVar[str]
    _settings: SessionSettings

    def _set_up(self, budget: Duration | None, keywords: Mapping[str, Any]) -> None:
        """Take the keywords that the callback was made with.

        Raises:
            TypeError: there is no such keyword.
            UsageError: as `make_settings`.
        """
        unknown = [name for name in keywords if name not in BoxKeywords.__annotations__]
        if unknown:
            raise TypeError(f"{type(self).__name__}() got an unexpected keyword argument {unknown[0]!r}")
        self._settings = make_settings(
            budget=budget, origin="BackpropCallback", framework=self.framework_name, **keywords
        )

    @classmethod
    def attached(cls) -> Self:
        """One that the script did not ask for: it leaves the script alone where it cannot help."""
        callback = cls()
        callback._settings = attached_settings(cls.framework_name)
        return callback

    @property
    def is_attached(self) -> bool:
        """Whether the script did not ask for it."""
        return self._settings.attached
