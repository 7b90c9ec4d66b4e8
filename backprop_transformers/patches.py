"""What is replaced while one `train` is entered and left.

While it runs, methods of the Trainer and of its callback handler are replaced, on the instances and not on their classes,
and one function of Trainer's module while a checkpoint is resumed. Trainer resumes by its own code, from a folder with its
`trainer_state.json`; what it would read from other files of the folder is given back from our checkpoint.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from transformers import trainer as trainer_module
from transformers.trainer_callback import TrainerState

from backprop_core.clock import Clock
from backprop_core.errors import CheckpointError, StateMismatchError
from backprop_core.ports.patches import Patches
from backprop_core.session.boxed_training import BoxedTraining
from backprop_core.session.own_faults import OwnFaults
from backprop_core.session.proof import noted_calls, recorder_of
from backprop_core.session.ranks_error import RankError
from backprop_transformers.boundaries import TrainBoundaries
from backprop_transformers.dataloader_state import TrainLoaderWatch
from backprop_transformers.training_state import OURS, Stage, TrainState, is_ours

_STATE_FILE = "trainer_state.json"


class TrainPatches:
    """The replacements of one `train`.

    Attributes:
        boundaries: told by the callback of batches and epochs.
    """

    def __init__(self, box: BoxedTraining, train_state: TrainState, clock: Clock, *, lenient: bool) -> None:
        self._lenient = lenient
        self._box = box
        self._session = session = box.session
        self._train_state = train_state
        self._trainer = train_state.trainer
        self._handler = train_state.trainer.callback_handler
        self._clock = clock
        train_state.say = partial(session.messages.say_once, level="warning")
        train_state.eval_loaders.say = session.messages.say_once
        self.patches = Patches()
        self.faults = OwnFaults(self._withdraw, meant=lambda: train_state.processes > 1)
        self._own: Mapping[str, Any] | None = None
        self._rest: Mapping[str, Any] = {}
        self._ignored_keys: Any = None
        self._skips_epoch_end = False
        self._replays = False
        self.boundaries = TrainBoundaries(
            session, train_state, clock, self._trainer._maybe_log_save_evaluate, self.faults
        )

    # -- in place ----------------------------------------------------------------------------------------------

    def _withdraw(self, error: Exception) -> None:
        """A fault of our own: Trainer trains on alone."""
        self._shut()
        self._box.step_aside(error)

    def _shut(self) -> None:
        self.patches.give_all_back()
        if self._train_state.loader is not None:
            self._train_state.loader.uninstall()
        self._train_state.eval_loaders.uninstall()

    @contextmanager
    def open(self, ignored_keys: Any) -> Iterator[None]:
        """Inside, Trainer passes our boundaries.

        Args:
            ignored_keys: `train(ignore_keys_for_eval=...)`.
        """
        self._ignored_keys = ignored_keys
        trainer, handler, replace = self._trainer, self._handler, self.patches.replace
        replace(trainer, "_maybe_log_save_evaluate", self.boundaries.log_save_evaluate)
        self._get_batch_samples = replace(trainer, "get_batch_samples", self._batches_fetched)
        self._get_eval_dataloader = replace(trainer, "get_eval_dataloader", self._eval_loader)
        if (recorder := recorder_of()) is not None:
            replace(trainer, "training_step", noted_calls(trainer.training_step, 1, recorder))
        self._on_train_begin = replace(handler, "on_train_begin", self._train_begins)
        self._on_epoch_end = replace(handler, "on_epoch_end", self._epoch_ends)
        self._on_train_end = replace(handler, "on_train_end", self._train_ends)
        try:
            yield
        finally:
            self._shut()

    @contextmanager
    def resumed(self, states: dict[str, Any], source: str) -> Iterator[str]:
        """Inside, Trainer goes on from `states` if its `train` is told to resume from the folder that this gives.

        Raises:
            StateMismatchError: they were not made by a Trainer's training.
        """
        if not is_ours(states):
            raise StateMismatchError(
                f"Checkpoint {source} was not made by a training of transformers.Trainer.",
                "Resume it with the script that made it, or start from scratch with resume=False (a new run).",
            )
        own: Any = states[OURS]
        before, now = own.get("processes", 1), self._train_state.processes
        if before != now:
            raise StateMismatchError(
                f"Checkpoint {source} was made by {before} processes and now there are {now}: Trainer's steps, epochs and "
                "schedule would mean something different.",
                f"Resume with {before} (torchrun --nproc-per-node {before}), or take the weights alone: backprop export.",
            )
        self._own = own
        self.faults.restoring = f"Checkpoint {source}"
        trainer, replace = self._trainer, self.patches.replace

        def restore(*args: Any, **kwargs: Any) -> None:
            self._rest = self._train_state.restore(states, f"Checkpoint {source}")
            if not trainer.args.auto_find_batch_size:  # which begins anew when memory runs out
                states.clear()  # twice the model's memory otherwise, for as long as training lasts

        replace(trainer, "_load_from_checkpoint", _nothing)
        replace(trainer, "_load_optimizer_and_scheduler", restore)
        replace(trainer, "_load_scaler", _nothing)
        replace(trainer, "_load_rng_state", self._first_batches_fetched)
        replace(trainer.args, "ignore_data_skip", False)
        replace(trainer.args, "eval_on_start", False)  # it was done when the run began
        self._init_training_state = replace(trainer, "_init_training_state", self._place)
        self._finalize_training = replace(trainer, "_finalize_training", self._finalized)
        self._skip_first_batches = replace(trainer_module, "skip_first_batches", self._skip)
        with TemporaryDirectory(prefix="backprop-") as folder:
            known = {field.name for field in dataclasses.fields(TrainerState)}
            state = {name: value for name, value in own["state"].items() if name in known}
            TrainerState(**state).save_to_json(str(Path(folder) / _STATE_FILE))
            yield folder

    # -- the training loader -----------------------------------------------------------------------------------

    def _watch_loader(self) -> None:
        """Trainer has made its loader, and begins no pass before its `on_train_begin` is over."""
        loader = self._handler.train_dataloader
        if self._train_state.loader is not None:
            self._train_state.loader.uninstall()
        self._train_state.loader = watch = TrainLoaderWatch(
            loader, self._train_state.randomness, self._session.messages.say_once
        )
        if not watch.watching and not watch.dispatches:
            self._session.messages.say_once(
                f"The training loader, a {type(loader).__name__}, cannot be watched: "
                "a resumed epoch starts its data again from the beginning.",
                "warning",
            )

    def _batches_fetched(self, *args: Any, **kwargs: Any) -> Any:
        """A stop signal to the whole process group kills the loader's workers, too: that is a stop, and no error."""
        if not self._train_state.batch:  # every callback has heard that the epoch begins
            self.faults.run(self._train_state.script.note_touched)
        try:
            return self._get_batch_samples(*args, **kwargs)
        except (RuntimeError, OSError, EOFError) as error:
            session = self._session
            if not (session.may_leave_by_itself and self._train_state.framework.is_stop_debris(error)):
                raise
            session.leave_at_once("a stop signal ended the loader's workers")
            self.boundaries.end()
            return [], None

    def _eval_loader(self, *args: Any, **kwargs: Any) -> Any:
        loader = self._get_eval_dataloader(*args, **kwargs)
        self.faults.run(self._train_state.eval_loaders.made)
        return loader

    # -- events ------------------------------------------------------------------------------------------------

    def _train_begins(self, *args: Any, **kwargs: Any) -> Any:
        control = self._on_train_begin(*args, **kwargs)
        self.faults.run(self._begins)
        return control

    def _begins(self) -> None:
        train_state, own = self._train_state, self._own
        self._watch_loader()
        train_state.script.begin()
        train_state.epoch = -1
        if own is not None:
            # Trainer's file has the names in each entry sorted; a table or a print of them shows another order.
            self._trainer.state.log_history[:] = [dict(one) for one in own["state"]["log_history"]]
            train_state.epoch = own["place"]["epoch"] - (own["place"]["stage"] != Stage.OVER)
            train_state.put_back(own, self._rest)
            self.faults.restoring = None
        self._weigh()

    def _weigh(self) -> None:
        try:
            self._session.together(self._session.weigh)
        except RankError:
            if not self._lenient:
                raise
        except CheckpointError as error:
            if not self._lenient:
                raise
            self._session.messages.say_once(f"This training cannot be saved: {error}", "warning")

    def _epoch_ends(self, args: Any, state: Any, control: Any, **kwargs: Any) -> Any:
        self.boundaries.epoch_ends = True
        skips, self._skips_epoch_end = self._skips_epoch_end, False
        if (
            skips or self.boundaries.ending
        ):  # it was told to the others before, or will be by the next attempt
            return control
        return self._on_epoch_end(args, state, control, **kwargs)

    def _train_ends(self, *args: Any, **kwargs: Any) -> Any:
        self.boundaries.ended()
        if not self.boundaries.ending:
            self._train_state.stage = Stage.OVER
        return self._on_train_end(*args, **kwargs)

    # -- resuming ----------------------------------------------------------------------------------------------

    def _place(self, *args: Any, **kwargs: Any) -> tuple[int, int]:
        """In place of Trainer's own reckoning, which does not know where a loader without a length ends."""
        self._init_training_state(*args, **kwargs)
        assert self._own is not None
        place = self._own["place"]
        if place["stage"] == Stage.OVER:
            return sys.maxsize, 0
        return place["epoch"], place["batch"]

    def _skip(self, loader: Any, batches: int = 0) -> Any:
        """In place of accelerate's `skip_first_batches`: in the resumed epoch, before its first batch is asked for."""
        train_state, own = self._train_state, self._own
        if own is None or train_state.loader is None or loader is not train_state.loader.loader:
            return self._skip_first_batches(loader, batches)
        trainer, place = self._trainer, own["place"]
        train_state.batch, train_state.stage = place["batch"], Stage(place["stage"])
        if place["batch"]:  # `on_epoch_begin` has been told of this epoch again
            train_state.put_back_script(own)
        train_state.randomness.set_randomness(own["random"])
        if train_state.stage is not Stage.STEP:
            vars(trainer.control).update(own["control"])
        if train_state.stage is Stage.STEP_PENDING:
            self._run_pending()
        elif train_state.stage is Stage.EPOCH_PENDING:
            self._skips_epoch_end = True
            self.boundaries.resumes_at_epoch_end()
        control = trainer.control
        over = train_state.stage is Stage.EPOCH_PENDING or self.boundaries.epoch_is_over()
        if over or self.boundaries.ending or control.should_training_stop or control.should_epoch_stop:
            return []
        if not train_state.loader.fits(own["loader"]):
            self._replays = True
            return self._skip_first_batches(loader, batches)
        train_state.loader.resume(own["loader"], place["batch"], train_state.kept_meanwhile())
        return loader

    def _first_batches_fetched(self, *args: Any) -> None:
        """In place of Trainer's own: a loader that cannot be watched has drawn for all that it has read again."""
        if self._replays and self._own is not None:
            self._replays = False
            self._train_state.randomness.set_randomness(self._own["random"])
            self._train_state.put_back_script(self._own)
        self._train_state.script.settled()
        self._session.arrived()

    def _run_pending(self) -> None:
        trainer = self._trainer
        self.boundaries.run_pending(
            {
                "tr_loss": trainer._tr_loss,
                "model": trainer.model_wrapped,
                "trial": None,
                "epoch": self._train_state.epoch,
                "ignore_keys_for_eval": self._ignored_keys,
                "start_time": self._clock.wall(),
            }
        )

    def _finalized(self, trial: Any, num_train_samples: Any, start_time: float) -> Any:
        """Trainer tells of the whole training, so its seconds are those of all attempts."""
        assert self._own is not None
        history = self._trainer.state.log_history
        if self._own["place"]["stage"] == Stage.OVER:
            self._trainer._tr_loss.zero_()  # it had been added to the sum that the mean loss is made of
            if history and "train_runtime" in history[-1]:
                history.pop()  # Trainer's last words, which it is about to say again
        return self._finalize_training(trial, num_train_samples, start_time - self._own["elapsed_s"])


def _nothing(*args: Any, **kwargs: Any) -> None:
    """What Trainer would load here is loaded with the rest."""
