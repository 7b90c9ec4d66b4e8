"""Lightning's training loop with boundaries in it.

A boundary lies before a batch is fetched, at the end of an accumulation window: there every hook of the last batch has run,
validation and schedulers included, and all of Lightning's counters agree. Two more lie behind a batch that a validation or
the end of the epoch follows: training may stop there and come back to exactly that, so that no epoch is recorded as done
which is not. They are reached by taking the place of methods on the Trainer's own loop objects, while it fits.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from typing import Any, Protocol

from torch.optim.optimizer import register_optimizer_step_post_hook

from backprop_core.clock import Clock
from backprop_core.deadline.forecast import Phase
from backprop_core.ports.patches import Patches
from backprop_core.session.own_faults import OwnFaults
from backprop_core.session.proof import noted_calls, recorder_of
from backprop_lightning.dataloader_state import CombinedLoaderWatch
from backprop_lightning.made_loaders import TRAIN, VALIDATION
from backprop_lightning.schedule import batches_of, quiet_until
from backprop_lightning.training_state import LightningState


class BoundaryListener(Protocol):
    """Who is told of boundaries: who has the session, or on the other ranks who follows."""

    faults: OwnFaults

    def due(self) -> bool: ...

    def leave(self) -> None: ...

    def is_debris(self, error: Exception, *, save: bool = True) -> bool: ...

    def mends(self, error: Exception) -> bool: ...

    def least(self, number: int) -> int: ...

    def boundary(self, steps: int, *, phase: Phase = Phase.PLAIN, then: Phase | None = None) -> bool: ...

    def took(self, phase: Phase, seconds: float) -> None: ...

    def arrived(self) -> None: ...


class TrainingLoop:
    """Boundaries in one Trainer's fit.

    Args:
        training_state: takes the Trainer's state.
        boundaries: told of each boundary that is due; its `leave` raises what ends the fit.
        resumed: this rank's part of the restored checkpoint, or None.
    """

    def __init__(
        self,
        training_state: LightningState,
        boundaries: BoundaryListener,
        clock: Clock,
        resumed: Mapping[str, Any] | None,
        *,
        pending: bool = False,
    ) -> None:
        self._training_state = training_state
        self._made = training_state.made
        self._then = ExitStack()
        self._early: CombinedLoaderWatch | None = None
        self._made_again = False  # the loaders that are to go on were made in the middle of the training
        self._makes_first = False
        self._checks_sanity = False
        self._patches = Patches()
        self._ours = boundaries.faults.run
        self._restoring = boundaries.faults
        self._trainer = training_state.trainer
        self._progress = self._trainer.fit_loop.epoch_loop.batch_progress.current
        self._boundaries = boundaries
        self._clock = clock
        self._leave = boundaries.leave
        self._resumed = resumed
        self._pending = pending
        self._quiet_until = 0.0
        self._special = True
        self._step = 0
        self._hook: Any = None
        self._by_hand = 0  # steps of any optimizer since the last boundary, with manual optimization
        self._max_steps: int | None = None
        self._epoch: int | None = None
        self._leaves_validation = True
        self._together = training_state.ranks.count > 1
        self._validation_began: float | None = None
        self._validated = 0  # batches of the running validation
        self._common_batches: int | None = (
            None  # of a validation, so many batches every rank has; 0: nobody knows
        )

    # -- in place ----------------------------------------------------------------------------------------------

    def install(self, early: CombinedLoaderWatch | None) -> None:
        """Take the methods' place.

        Args:
            early: loaders that are there already, and unread.
        """
        fit_loop = self._trainer.fit_loop
        val_loop, replace = fit_loop.epoch_loop.val_loop, self._patches.replace
        self._advance_original = replace(fit_loop.epoch_loop, "advance", self._advance)
        self._loaders_original = replace(fit_loop, "_load_combined_loader_states", self._loaders_ready)
        self._validate_original = replace(val_loop, "run", self._validate)
        if (recorder := recorder_of()) is not None:
            strategy = self._trainer.strategy
            replace(strategy, "training_step", noted_calls(strategy.training_step, 0, recorder))
        self._train_setup_original = replace(fit_loop, "setup_data", self._train_set_up)
        self._setup_original = replace(val_loop, "setup_data", self._validation_set_up)
        self._step = self._trainer.global_step
        if not self._trainer.lightning_module.automatic_optimization:
            self._hook = register_optimizer_step_post_hook(self._stepped)
        if self._resumed is None and self._trainer.enable_validation and self._trainer.num_sanity_val_steps:
            self._checks_sanity = True  # a process that resumes does not, but has what that leaves
            self._training_state.script.begin()
        if self._resumed is not None:
            self._made.put_back(self._resumed.get("made"))
            self._made_again = bool(self._made.notes.get(TRAIN))
        if early is not None:
            self._early = self._training_state.loaders = early
        else:  # a finder may have made the loaders: they are made again, and watched
            fit_loop._combined_loader = None
        if self._resumed is not None:
            fit_loop.epoch_loop.val_loop._has_run = False
            self._pretend_epoch(self._resumed["trainer"]["train_reloaded"])
            if self._pending:  # even at the last step its validation and epoch end are still to come
                self._max_steps, fit_loop.epoch_loop.max_steps = fit_loop.epoch_loop.max_steps, -1

    def uninstall(self) -> None:
        """Lightning's loop is what it was."""
        self._patches.give_all_back()
        if self._hook is not None:
            self._hook.remove()
        self._restore_max_steps()
        self._pretend_epoch(None)
        if self._training_state.loaders is not None:
            self._training_state.loaders.uninstall()
        self._training_state.validation.uninstall()

    def _restore_max_steps(self) -> None:
        if self._max_steps is not None:
            self._trainer.fit_loop.epoch_loop.max_steps, self._max_steps = self._max_steps, None

    # -- loaders -----------------------------------------------------------------------------------------------

    def _train_set_up(self) -> None:
        """In place of the fit loop's `setup_data`, which makes the loaders if there are none, or when they are due again."""
        fit_loop = self._trainer.fit_loop
        early, self._early = self._early, None
        if early is not None:
            self._ours(self._begin_with, early)
        due = fit_loop._combined_loader is None or fit_loop._should_reload_train_dl
        if self._resumed is None and due:
            first = fit_loop._combined_loader is None
            self._ours(lambda: self._made.are_made(TRAIN, first=first))
        elif self._made_again:
            self._made_again = False
            if fit_loop._combined_loader is None and self._made.follow_others(TRAIN):
                self._make_first()
            fit_loop._combined_loader = None
            self._ours(lambda: self._then.enter_context(self._made.as_then(TRAIN)))
        try:
            self._train_setup_original()
        finally:
            self._ours(self._then.close)

    def _make_first(self) -> None:
        """Make the loaders that the first attempt began with: that may have changed what others were made of."""
        assert self._resumed is not None
        self._pretend_epoch(0)
        self._makes_first = True
        try:
            self._train_setup_original()
        finally:
            self._makes_first = False
        self._pretend_epoch(self._resumed["trainer"]["train_reloaded"])

    def _begin_with(self, early: CombinedLoaderWatch) -> None:
        """The loaders were made before; so was their iterator, at the beginning."""
        fit_loop = self._trainer.fit_loop
        self._begin_script()
        if self._resumed is not None and not self._made_again and self._lead(early):
            early.let_workers_go()
            fit_loop._data_fetcher.setup(fit_loop._combined_loader)
            iter(fit_loop._data_fetcher)
            fit_loop._last_train_dl_reload_epoch = self._resumed["trainer"]["train_reloaded"]

    def _loaders_ready(self) -> None:
        """Lightning has made the loaders and makes their iterator next: where they are made again, still as it was then.

        What a pass notes of its dataset is what has changed since the loaders were made.
        """
        self._ours(self._begin_script)
        if self._makes_first or not self._ours(self._watch_loaders, otherwise=False):
            self._loaders_original()

    def _begin_script(self) -> None:
        script = self._training_state.script
        if self._checks_sanity:
            self._checks_sanity = False
            script.begin_anew()
        else:
            script.begin()

    def _watch_loaders(self) -> bool:
        """Watch them, and say whether they stand where the checkpoint was made; otherwise Lightning does what it does."""
        fit_loop = self._trainer.fit_loop
        watch = CombinedLoaderWatch(
            fit_loop._combined_loader,
            self._training_state.randomness,
            self._boundaries.mends,
            self._training_state.say,
        )
        watch.install()
        self._training_state.loaders = watch
        return self._lead(watch)

    def _lead(self, watch: CombinedLoaderWatch) -> bool:
        """In a process that resumes, have the next iterator begin where the checkpoint was made."""
        fit_loop, saved = self._trainer.fit_loop, None
        if self._resumed is not None:
            saved = self._resumed["loaders"]
            if self._epoch is not None:
                self._set_up_validation(self._resumed["trainer"])
        if saved is None or not watch.fits(saved):
            return False
        fit_loop._combined_loader_states_to_load = []
        watch.resume(saved, fit_loop.epoch_progress.current.processed)
        return True

    def _pretend_epoch(self, epoch: float | None) -> None:
        """Loaders may depend on the epoch they are made in: make them in the one they were made in. None: end of it."""
        progress = self._trainer.fit_loop.epoch_progress.current
        if self._epoch is not None:
            progress.completed, self._epoch = self._epoch, None
        if epoch is not None and epoch >= 0:
            self._epoch, progress.completed = progress.completed, int(epoch)

    def _set_up_validation(self, ends: Mapping[str, Any]) -> None:
        """Make the validation loaders, too, if they were there; then it is the resumed epoch again."""
        val_loop = self._trainer.fit_loop.epoch_loop.val_loop
        if ends["val_is_set_up"] and val_loop._combined_loader is None:
            self._pretend_epoch(ends["val_reloaded"])
            self._trainer.validating = True
            with self._made.as_then(VALIDATION):
                val_loop.setup_data()
            self._trainer.training = True
        self._pretend_epoch(None)

    # -- batches -----------------------------------------------------------------------------------------------

    def _advance(self, data_fetcher: Any) -> None:
        """In place of the epoch loop's `advance`: one batch. Most times one comparison and the clock more."""
        if self._special:
            if self._ours(self._at_special, data_fetcher, otherwise=False):
                return
        elif self._boundaries.due():
            self._ours(self._before_batch)
        before = self._progress.ready
        try:
            self._advance_original(data_fetcher)
        except StopIteration:  # the epoch is over
            self._special = True
            raise
        except Exception as error:
            if self._progress.ready == before and self._boundaries.is_debris(error):
                self._leave()
            raise
        if self._progress.ready >= self._quiet_until or self._trainer.should_stop:
            self._ours(self._behind_batch, data_fetcher)

    def _at_special(self, data_fetcher: Any) -> bool:
        """The first batch of a process or an epoch, or one behind a validation. True: what is behind it comes first."""
        if self._resumed is None:
            self._before_batch()
        else:
            self._put_back()
            if self._pending:
                self._pending = False
                self._behind_batch(data_fetcher, resumed=True)
                return True
        self._quiet_until = quiet_until(self._trainer)
        self._special = False
        return False

    def _steps(self) -> int:
        """Optimizer steps since the last boundary."""
        now = self._trainer.global_step
        steps, self._step = int(now - self._step), now
        by_hand, self._by_hand = self._by_hand, 0
        if (
            not steps
        ):  # SAM's two halves, an optimizer without Lightning's wrapper: Lightning counts none of these
            self._training_state.uncounted += by_hand
            steps = by_hand
        return steps

    def _stepped(self, *_: Any) -> None:
        self._by_hand += 1

    def _before_batch(self) -> None:
        self._training_state.pending = False
        if self._validation_began is not None:
            began, self._validation_began = self._validation_began, None
            if self._leaves_validation:
                self._boundaries.took(Phase.VALIDATION, self._clock.monotonic() - began)
        trainer = self._trainer
        if trainer.fit_loop.epoch_loop._should_accumulate() and self._progress.ready:
            return
        steps = self._steps()
        if not steps and not self._special and not trainer.lightning_module.automatic_optimization:
            return  # the module accumulates by itself
        if self._boundaries.boundary(steps):
            self._leave()

    def _behind_batch(self, data_fetcher: Any, *, resumed: bool = False) -> None:
        """A validation or the end of the epoch may follow at once."""
        epoch_loop = self._trainer.fit_loop.epoch_loop
        validates = epoch_loop._should_check_val_fx(data_fetcher)
        if not validates and not epoch_loop._num_ready_batches_reached():
            return
        self._special = True
        self._training_state.pending = True
        decides = not resumed and not epoch_loop._should_accumulate()
        if decides and self._boundaries.boundary(self._steps(), **self._following(validates)):
            self._leave()
        if validates and self._leaves_validation and self._training_state.freeze():
            self._validation_began, self._validated = self._clock.monotonic(), 0
        else:
            self._training_state.pending = False

    def _following(self, validates: bool) -> dict[str, Phase]:
        """What lies between here and the next boundary."""
        if not validates:
            return {"phase": Phase.EPOCH_END}
        if not self._leaves_validation or self._common_batches == 0:
            return {"phase": Phase.VALIDATION}
        return {"phase": Phase.WITHIN_VALIDATION, "then": Phase.VALIDATION}

    # -- validation --------------------------------------------------------------------------------------------

    def _validate(self) -> Any:
        """In place of the validation loop's `run`: a stop signal may have ended the workers of its loaders."""
        try:
            return self._validate_original()
        except Exception as error:
            training_state = self._training_state
            if training_state.frozen and self._boundaries.is_debris(
                error, save=training_state.weights_are_untouched()
            ):
                self._leave_validation()
            raise

    def _validation_set_up(self) -> None:
        """In place of the validation loop's `setup_data`, which every rank comes to: how many batches all of them have."""
        val_loop = self._trainer.fit_loop.epoch_loop.val_loop
        if val_loop._combined_loader is None or val_loop._should_reload_val_dl:
            self._ours(self._made.are_made, VALIDATION)
        self._setup_original()
        self._ours(self._training_state.validation.watch)
        if self._together and self._validation_began is not None:
            self._common_batches = self._boundaries.least(
                batches_of(self._trainer.fit_loop.epoch_loop.val_loop)
            )

    def within_validation(self) -> None:
        """Between two batches of a validation: leave if the rest of it no longer fits."""
        if not self._leaves_validation or self._validation_began is None:
            return
        self._validated += 1
        if self._together:
            self._within_validation_together()
        elif self._boundaries.due():
            if not self._training_state.weights_are_untouched():
                self._leaves_validation = (
                    False  # it validates with other weights than it trains: not a state to save
                )
            elif self._boundaries.boundary(0, phase=Phase.WITHIN_VALIDATION):
                self._leave_validation()

    def _within_validation_together(self) -> None:
        """Ranks talk behind batches that all of them come to, the first of them for certain."""
        if self._common_batches is None or self._validated > self._common_batches:
            return
        first = self._validated == 1
        if first and not self._boundaries.least(int(self._training_state.weights_are_untouched())):
            self._leaves_validation = False
        elif (first or self._boundaries.due()) and self._boundaries.boundary(
            0, phase=Phase.WITHIN_VALIDATION
        ):
            self._leave_validation()

    def validation_over(self) -> None:
        """The validation's own end hooks follow; there is no going back to its beginning."""
        self._training_state.thaw()
        self._training_state.pending = False

    def _leave_validation(self) -> None:
        val_loop = self._trainer.fit_loop.epoch_loop.val_loop
        val_loop._module_mode.restore(self._trainer.lightning_module)
        self._trainer.training = True
        self._leave()

    # -- resuming ----------------------------------------------------------------------------------------------

    def pass_over(self) -> None:
        """The fit was complete: Lightning has run nothing of it, and what follows it finds all that it left."""
        if self._resumed is not None:
            self._put_back()

    def _put_back(self) -> None:
        """All hooks of the start have run: be where the checkpoint was made. Lightning's own restarting is over."""
        resumed, self._resumed = self._resumed, None
        assert resumed is not None
        fit_loop = self._trainer.fit_loop
        self._restore_max_steps()
        fit_loop.epoch_loop.restarting = False
        fit_loop._restarting = False
        self._training_state.put_back(resumed)
        self._restoring.restoring = None
        self._step = self._trainer.global_step
        self._boundaries.arrived()
