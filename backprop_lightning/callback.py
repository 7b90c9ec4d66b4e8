"""The callback: Lightning's hooks in, calls of the boxed fit out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Unpack

from backprop_core.clock import SYSTEM, Clock
from backprop_core.deadline.budget import Duration
from backprop_core.session.attach_rules import session_opens
from backprop_core.session.box_callback import BoxCallback, BoxKeywords, lists_keywords
from backprop_core.session.boxed_training import Teller, begun
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


class BackpropCallback(BoxCallback, Callback):  # type: ignore[misc]
    """Gives `Trainer.fit` a time budget: `Trainer(callbacks=[BackpropCallback()])`.

    Args:
        budget: "90s", "10m", "1h30m", "00:10:00", a timedelta or a number of seconds; None: 10 minutes, or the box of
            `backprop run`.
        keywords: those of `backprop.timebox`: `until`, `checkpoint_every`, `keep`, `keep_every`, `checkpoint_dir`, `run`,
            `name`, `resume`, `grace`, `strict`.

    Raises:
        UsageError: a value is not allowed. Its subclass BudgetError: a duration is not.
    """

    framework_name = "lightning"

    def __new__(cls, *args: Any, **kwargs: Any) -> BackpropCallback:
        made: BackpropCallback = super().__new__(at_home(cls))
        return made

    @lists_keywords
    def __init__(self, budget: Duration | None = None, **keywords: Unpack[BoxKeywords]) -> None:
        super().__init__()
        self._set_up(budget, keywords)
        self._fit: PatchedFit | None = None
        self._clock: Clock = SYSTEM

    def _teller(self) -> Teller | None:
        return None if self._fit is None else self._fit.session

    # -- Lightning's hooks -------------------------------------------------------------------------------------

    def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:
        """The box opens before anything is restored, so that Lightning restores ours."""
        tuning = any(getattr(callback, "_early_exit", False) for callback in trainer.callbacks)
        if stage == "fit" and not trainer.fast_dev_run and not tuning and not self._stands_back(trainer):
            says = trainer.is_global_zero
            self._fit = None
            self._fit = begun(
                lambda: self._opens(lambda: self._opened(trainer)),
                name="lightning",
                attached=self.is_attached,
                says=says,
            )
            if self._fit is None:
                session_opens()  # nobody else watches Lightning's loop in our place

    def _opened(self, trainer: Any) -> PatchedFit:
        check_strategy(trainer)
        ranks = ranks_of_process()
        check_needs(trainer)
        fit: PatchedFit
        if ranks is not None and ranks.rank > 0:
            fit = FollowingFit(self._settings, trainer, self._clock, ranks)
        else:
            fit = BoxedFit(self._settings, trainer, self._clock, ranks)
        fit.open()
        return fit

    def _stands_back(self, trainer: Any) -> bool:
        """The script has a callback of its own."""
        return self.is_attached and any(
            isinstance(other, BackpropCallback) and not other.is_attached for other in trainer.callbacks
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
