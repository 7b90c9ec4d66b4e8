"""One `Trainer.train` inside a time box."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from backprop_core.clock import Clock
from backprop_core.session.boxed_training import BoxedTraining
from backprop_core.session.ranks import session_among
from backprop_core.session.scripts_checkpoint import ours_is_taken
from backprop_core.session.settings import SessionSettings
from backprop_torch.ranks import ranks_of_process
from backprop_transformers import scripts_checkpoint
from backprop_transformers.patches import TrainPatches
from backprop_transformers.training_state import OURS, TrainState, is_ours

LEAVE_S = 0.15
"""Trainer's own last words: loaders' workers, the other callbacks' `on_train_end`."""


class TrainBox(BoxedTraining):
    """Follows one `train` to its end, or ends it.

    Args:
        lenient: a state that cannot be saved is said and no error.

    Attributes:
        patches: what stands in place of the Trainer's own methods meanwhile.
    """

    def __init__(
        self, settings: SessionSettings, trainer: Any, clock: Clock, *, lenient: bool = False
    ) -> None:
        self._clock = clock
        self._trainer = trainer
        self._began = clock.monotonic()
        self._earlier_s = 0.0
        train_state = TrainState(trainer, self._elapsed_s)
        self._ranks = ranks_of_process()
        super().__init__(session_among(self._ranks, settings, train_state, clock, leave_s=LEAVE_S))
        self.patches = TrainPatches(self, train_state, clock, lenient=lenient)

    def _elapsed_s(self) -> float:
        return self._earlier_s + self._clock.monotonic() - self._began

    # -- from the way in to the way out ------------------------------------------------------------------------

    def run(self, train: Callable[[Any], Any], users_checkpoint: Any, ignored_keys: Any) -> Any:
        """What `train` returns, which is given what to resume from.

        Args:
            users_checkpoint: `train(resume_from_checkpoint=...)` of the script.
            ignored_keys: `train(ignore_keys_for_eval=...)` of the script.

        Raises:
            StateMismatchError: the checkpoint does not fit; nothing was restored.
            SystemExit: the box is over and a governor waits for the process to end.
        """
        try:
            with self.patches.open(ignored_keys):
                result = self._resumed(train, users_checkpoint)
        except BaseException as error:
            self.ended(error)
            raise
        if self.session.leaving is not None:
            self.left()
        else:
            self.patches.faults.run(self._completed)
        return result

    def _resumed(self, train: Callable[[Any], Any], users_checkpoint: Any) -> Any:
        loaded = self.session.restored
        if loaded is None:
            return train(users_checkpoint)
        theirs = scripts_checkpoint.found(users_checkpoint, self._trainer.args.output_dir)
        agree = {} if self._ranks is None else {"least": self._ranks.least}
        if not ours_is_taken(loaded.info, theirs, self._warn, **agree):
            if theirs is not None:
                self.session.begins_with(theirs)
            return train(users_checkpoint)
        if is_ours(loaded.states):
            ours: Any = loaded.states[OURS]
            self._earlier_s = float(ours["elapsed_s"])
        with self.patches.resumed(loaded.states, str(self.session.resumed_from)) as folder:
            return train(folder)

    def _completed(self) -> None:
        self.completed(self.patches.boundaries.steps_untold())

    def _warn(self, text: str) -> None:
        self.session.messages.say(text, "warning")
