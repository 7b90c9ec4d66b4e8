"""The callback: Lightning's hooks in, calls of the boxed fit out."""

from __future__ import annotations

from datetime import datetime
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from backprop_core.clock import SYSTEM, Clock
from backprop_core.deadline.budget import Duration
from backprop_core.outcome import Outcome
from backprop_core.session.attach_rules import give_up, session_opens
from backprop_core.session.join_run import NotJoinedError
from backprop_core.session.settings import DEFAULT_GRACE_S, Resume, attached_settings, make_settings
from backprop_lightning.follower import FollowingFit
from backprop_lightning.needs import check_needs
from backprop_lightning.package import at_home, callback_bases
from backprop_lightning.patches import PatchedFit
from backprop_lightning.strategies import check_strategy
from backprop_lightning.training import BoxedFit
from backprop_torch.ranks import ranks_of_process

if TYPE_CHECKING:
    from lightning.pytorch.callbacks.callback import Callback as CallbackOfLightning
    from pytorch_lightning.callbacks.callback import Callback as CallbackOfPytorchLightning

    class Callback(CallbackOfLightning, CallbackOfPytorchLightning):  # type: ignore[misc]
        """One for the Trainers of both packages, whose hooks differ in the Trainer that they are given."""


else:
    Callback = type("Callback", callback_bases(), {})


class BackpropCallback(Callback):
    """Gives `Trainer.fit` a time budget: `Trainer(callbacks=[BackpropCallback()])`.

    Args:
        budget: None (10 minutes, or what the governor says), "90s", "10m", "1h30m", "00:10:00", a timedelta, seconds.
        until: a fixed deadline, an aware datetime.
        checkpoint_every: a duration between periodic checkpoints; None: saving takes at most 2% of the time.
        keep: committed checkpoints kept, 2 or more.
        keep_every: besides those, the first checkpoint at or after every multiple of so many steps stays.
        checkpoint_dir: where checkpoints go; None: the run's own folder below $BACKPROP_HOME.
        run: the id of a run to create or continue; None makes one up.
        name: a label for people.
        resume: "auto" (when the governor says so or `run` names an unfinished run), True, False, or a checkpoint's path.
        grace: seconds given to a SIGTERM.
        strict: what changes during training and cannot be kept is an error, and no warning.

    Raises:
        UsageError: a value that cannot be meant; BudgetError among them.
    """

    def __new__(cls, *args: Any, **kwargs: Any) -> BackpropCallback:
        made: BackpropCallback = super().__new__(at_home(cls))
        return made

    def __init__(
        self,
        budget: Duration | None = None,
        *,
        until: datetime | None = None,
        checkpoint_every: Duration | None = None,
        keep: int = 2,
        keep_every: int | None = None,
        checkpoint_dir: str | PathLike[str] | None = None,
        run: str | None = None,
        name: str | None = None,
        resume: Resume = "auto",
        grace: Duration = DEFAULT_GRACE_S,
        strict: bool = False,
    ) -> None:
        super().__init__()
        self._settings = make_settings(
            budget=budget,
            until=until,
            checkpoint_every=checkpoint_every,
            keep=keep,
            keep_every=keep_every,
            checkpoint_dir=checkpoint_dir,
            run=run,
            name=name,
            resume=resume,
            grace=grace,
            strict=strict,
            origin="BackpropCallback",
            framework="lightning",
        )
        self._fit: PatchedFit | None = None
        self._clock: Clock = SYSTEM

    @classmethod
    def attached(cls) -> BackpropCallback:
        """One that the script did not ask for: it leaves the script alone where it cannot help."""
        callback = cls()
        callback._settings = attached_settings("lightning")
        return callback

    # -- what it tells -----------------------------------------------------------------------------------------

    @property
    def outcome(self) -> Outcome:
        """How the last fit ended; `running` while it has not."""
        return Outcome.RUNNING if self._fit is None else self._fit.outcome

    @property
    def checkpoint(self) -> Path | None:
        """The newest committed checkpoint of the run, a folder, or None."""
        return None if self._fit is None else self._fit.checkpoint

    @property
    def remaining(self) -> float | None:
        """Seconds to the deadline, never negative; None before a fit has begun."""
        return None if self._fit is None else self._fit.remaining_s()

    @property
    def progress(self) -> float:
        """The share of the budget that is used, from 0 to 1, over all boxes of a `--total`; 0 before a training begins."""
        return 0.0 if self._fit is None else self._fit.progress()

    def progress_at(
        self, step: int, name: str = "schedule", replay: str | None = None, owner: object = None
    ) -> float:
        """The progress that step `step` of a schedule has, recorded in the run; see `TimeBox.progress_at`."""
        return 0.0 if self._fit is None else self._fit.progress_at(step, name, replay, owner)

    @property
    def run_id(self) -> str | None:
        """The id of the run; None before a fit has begun."""
        return None if self._fit is None else self._fit.run_id

    @property
    def resumed_from(self) -> Path | None:
        """The checkpoint that this attempt began from, or None."""
        return None if self._fit is None else self._fit.resumed_from

    # -- Lightning's hooks -------------------------------------------------------------------------------------

    def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:
        """The box opens before anything is restored, so that Lightning restores ours."""
        tuning = any(getattr(callback, "_early_exit", False) for callback in trainer.callbacks)
        if stage == "fit" and not trainer.fast_dev_run and not tuning and not self._stands_back(trainer):
            try:
                self._open(trainer)
            except Exception as error:
                if not self._settings.attached:
                    raise
                self._fit = None
                session_opens()  # nobody else watches Lightning's loop in our place
                if not isinstance(error, NotJoinedError) and trainer.is_global_zero:
                    give_up("lightning", error)

    def _open(self, trainer: Any) -> None:
        check_strategy(trainer)
        ranks = ranks_of_process()
        check_needs(trainer)
        if ranks is not None and ranks.rank > 0:
            self._fit = FollowingFit(trainer, self._clock, ranks)
        else:
            self._fit = BoxedFit(self._settings, trainer, self._clock, ranks)
        self._fit.open()

    def _stands_back(self, trainer: Any) -> bool:
        """The script has a callback of its own."""
        return self._settings.attached and any(
            isinstance(other, BackpropCallback) and not other._settings.attached
            for other in trainer.callbacks
        )

    def on_train_batch_end(
        self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """The loss, for the progress."""
        if self._fit is not None:
            self._fit.outputs = outputs

    def on_validation_batch_end(self, trainer: Any, *args: Any, **kwargs: Any) -> None:
        """A long validation can be left in time."""
        if self._fit is not None and self._fit.loop is not None:
            self._fit.faults.run(self._fit.loop.within_validation)

    def on_validation_end(self, trainer: Any, pl_module: Any) -> None:
        """From here on the validation counts as done."""
        if self._fit is not None and self._fit.loop is not None:
            self._fit.faults.run(self._fit.loop.validation_over)

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        """The user's error ends the attempt, and stays the user's error."""
        if self._fit is not None:
            self._fit.faults.run(self._fit.failed, exception)

    def teardown(self, trainer: Any, pl_module: Any, stage: str) -> None:
        """A fit that ended without coming to its loop."""
        if self._fit is not None and stage == "fit":
            self._fit.torn_down_by_others()
