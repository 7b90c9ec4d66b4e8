"""What is replaced while a fit is entered and left.

Three methods of the Trainer's own objects are replaced for one call each, on the instance and not on the class: the one that
loads `ckpt_path` (ours is loaded in its place, by Lightning's own code), the one that installs signal handlers, and the one
that runs the loop. Every other hook is an ordinary callback hook.
"""

from __future__ import annotations

import contextlib
import signal
import warnings
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from backprop_core.checkpoints.store import Loaded
from backprop_core.clock import Clock
from backprop_core.deadline.forecast import Phase
from backprop_core.errors import StateMismatchError
from backprop_core.outcome import Outcome
from backprop_core.ports.patches import Patches
from backprop_core.session.leave_process import leave_process
from backprop_core.session.own_faults import OwnFaults
from backprop_core.session.scripts_checkpoint import ScriptsCheckpoint, ours_is_taken
from backprop_lightning import checkpoint_file, scripts_checkpoint, version_folder
from backprop_lightning.boundaries import TrainingLoop
from backprop_lightning.package import early_exit, migrated
from backprop_lightning.training_state import OURS, LightningState, is_ours
from backprop_torch.ranks import TorchRanks


class PatchedFit(ABC):
    """One fit of one process.

    Attributes:
        loop: the training loop with boundaries, once it runs.
        outputs: what the last training step returned.
    """

    def __init__(self, trainer: Any, ranks: TorchRanks, clock: Clock) -> None:
        self.trainer = trainer
        self.ranks = ranks
        self.clock = clock
        self.training_state = LightningState(trainer, ranks, clock)
        self.loop: TrainingLoop | None = None
        self.outputs: Any = None
        self.left = False
        self.patches = Patches()
        self.others_know = False  # of a fault on this rank, so that all step aside together
        self.faults = OwnFaults(
            self.withdraw, meant=lambda: self.left or (ranks.count > 1 and not self.others_know)
        )
        self._ours: Any = None

    # -- what differs from rank to rank ------------------------------------------------------------------------

    @property
    @abstractmethod
    def outcome(self) -> Outcome: ...

    @property
    @abstractmethod
    def run_id(self) -> str: ...

    @property
    @abstractmethod
    def checkpoint(self) -> Path | None: ...

    @property
    @abstractmethod
    def resumed_from(self) -> Path | None: ...

    @abstractmethod
    def remaining_s(self) -> float: ...

    @abstractmethod
    def progress(self) -> float: ...

    @abstractmethod
    def progress_at(self, step: int, name: str, replay: str | None, owner: object = None) -> float: ...

    @abstractmethod
    def open(self) -> None:
        """Find the run and what to go on from, and put our replacements in place."""

    @abstractmethod
    def restored(self) -> Loaded | None:
        """The checkpoint to go on from."""

    @abstractmethod
    def begins_with(self, theirs: ScriptsCheckpoint) -> None:
        """Training goes on from what the script names, and not from what was restored."""

    @abstractmethod
    def tell(self, text: str) -> None:
        """Warn the user."""

    @abstractmethod
    def rest(self) -> None:
        """Hear no signals while Lightning installs its handlers."""

    @abstractmethod
    def listen(self, users: Any) -> None:
        """Listen on top of them. `users` handled SIGTERM before."""

    @abstractmethod
    def due(self) -> bool:
        """Whether a boundary has to be told; asked once for each batch that nothing special follows."""

    @abstractmethod
    def boundary(self, steps: int, *, phase: Phase = Phase.PLAIN, then: Phase | None = None) -> bool:
        """A boundary. True: leave, everything is saved."""

    @abstractmethod
    def took(self, phase: Phase, seconds: float) -> None:
        """How long something took that more than one boundary lies in."""

    @abstractmethod
    def arrived(self) -> None:
        """A resumed fit has everything back."""

    def is_debris(self, error: Exception, *, save: bool = True) -> bool:
        """Whether a stop signal has killed the loaders' workers, which this error is about; then everything is saved.

        Args:
            save: the state is one that can be saved; otherwise the newest checkpoint is what there is.
        """
        return False

    @abstractmethod
    def signalled(self) -> bool:
        """Whether a stop signal has come to this process."""

    def mends(self, error: Exception) -> bool:
        """Whether a loader is to have new workers in place of those that a stop signal has ended.

        One of several ranks cannot leave where it is: it goes on to the boundary that all of them come to.
        """
        return (
            self.ranks.count > 1 and self.signalled() and self.training_state.framework.is_stop_debris(error)
        )

    @abstractmethod
    def least(self, number: int) -> int:
        """The least of the numbers that the ranks give."""

    @abstractmethod
    def completed(self) -> None:
        """The loop has run to its end."""

    @abstractmethod
    def close(self, outcome: Outcome, reason: str) -> None:
        """End the attempt, once."""

    @abstractmethod
    def leaving_outcome(self) -> Outcome:
        """How an attempt that was left is called."""

    @property
    @abstractmethod
    def governed(self) -> bool: ...

    # -- the way in --------------------------------------------------------------------------------------------

    def patch(self) -> None:
        """Wait for Lightning to come by."""
        trainer, loaded = self.trainer, self.restored()
        if loaded is not None and is_ours(loaded.states):
            ours: Any = loaded.states[OURS]
            for sentence in version_folder.restore(trainer, ours["ranks"][0]["trainer"].get("loggers", ())):
                self.tell(sentence)
        replace = self.patches.replace
        replace(trainer._checkpoint_connector, "resume_start", self._resume_start)
        replace(trainer._signal_connector, "register_signal_handlers", self._register_signal_handlers)
        replace(trainer, "_run_stage", self._run_stage)

    def unpatch(self) -> None:
        """Methods that were not called meanwhile are Lightning's own again."""
        self.patches.give_all_back()

    def withdraw(self, error: Exception) -> None:
        """A fault of our own: Lightning trains on alone."""
        if self.loop is not None:
            self.loop.uninstall()
        self.unpatch()
        self.step_aside(error)

    @abstractmethod
    def step_aside(self, error: Exception) -> None:
        """End this process' part in the box, and say why."""

    def _resume_start(self, checkpoint_path: Any = None, *args: Any, **kwargs: Any) -> None:
        """In place of loading `fit(ckpt_path=...)`: ours, unless the one that it names is newer."""
        connector = self.trainer._checkpoint_connector
        self.patches.give_back(connector, "resume_start")
        loaded = self.restored()
        theirs = scripts_checkpoint.found(checkpoint_path)
        if loaded is None or not ours_is_taken(loaded.info, theirs, self.tell, self.least):
            if loaded is not None and theirs is not None:
                self.begins_with(theirs)
            connector.resume_start(checkpoint_path, *args, **kwargs)
            return
        self.faults.restoring = f"Checkpoint {loaded.info.address}"
        self.faults.run(self._load, loaded)

    def _load(self, loaded: Loaded) -> None:
        """Let Lightning find our checkpoint where it would have put its own."""
        connector = self.trainer._checkpoint_connector
        source = str(loaded.info.path)
        if not is_ours(loaded.states):
            raise StateMismatchError(
                f"Checkpoint {source} was not made by a Lightning training.",
                "Resume it with the script that made it, or start from scratch with resume=False (a new run).",
            )
        data: Any = loaded.states[checkpoint_file.NAME]
        self._ours = loaded.states[OURS]
        script = checkpoint_file.ScriptsOwn.of(self.trainer)
        checkpoint = checkpoint_file.read(data, source, script, self.tell)
        connector._loaded_checkpoint = migrated(self.trainer, checkpoint, source)
        connector._ckpt_path = f"{source}/{checkpoint_file.NAME}"
        self._outlive_finders(connector)
        loaded.states.clear()  # twice the model's memory otherwise, for as long as the fit lasts

    def _register_signal_handlers(self) -> None:
        """Lightning's handlers first, ours on top: one of the two saves."""
        connector = self.trainer._signal_connector
        self.patches.give_back(connector, "register_signal_handlers")
        users = signal.getsignal(signal.SIGTERM)
        self.faults.run(self.rest)
        connector.register_signal_handlers()
        self.faults.run(self.listen, users)

    def _run_stage(self) -> Any:
        trainer = self.trainer
        self.patches.give_back(trainer, "_run_stage")
        self.faults.run(self._install)
        try:
            result = trainer._run_stage()
        finally:
            if self.loop is not None:
                self.loop.uninstall()
        self.faults.run(self.completed)
        return result

    def _install(self) -> None:
        """Lead Lightning's loop past our boundaries."""
        ours, self._ours = self._ours, None
        self.loop = TrainingLoop(
            self.training_state,
            self,
            self.clock,
            None if ours is None else self._own_part(ours["ranks"]),
            pending=ours is not None and bool(ours["pending"]),
        )
        self.loop.install()
        if (
            ours is not None
        ):  # Lightning sees a loader that cannot be resumed; it is brought to its place by us
            warnings.filterwarnings(
                "ignore", message="You're resuming from a checkpoint that ended before the epoch"
            )

    def _own_part(self, parts: list[Mapping[str, Any]]) -> Mapping[str, Any]:
        if len(parts) == self.ranks.count:
            return parts[self.ranks.rank]
        self.tell(
            f"The checkpoint was made by {len(parts)} processes and now there are {self.ranks.count}: weights, optimizers "
            "and counters continue, but the order of samples and the random numbers differ."
        )
        return {**parts[0], "loaders": None, "random": None}

    # -- the way out -------------------------------------------------------------------------------------------

    def leave(self) -> None:
        """Everything is saved: make fit return, with nothing but the teardown hooks.

        Raises:
            Exception: Lightning's own early exit.
        """
        trainer = self.trainer
        self.left = True
        self.patches.replace(trainer._signal_connector, "teardown", self._torn_down)
        bar = trainer.progress_bar_callback
        if bar is not None:
            with contextlib.suppress(Exception):  # a bar that cannot be closed is no reason to lose the run
                bar.on_train_end(trainer, trainer.lightning_module)
        raise early_exit(trainer)

    def _torn_down(self) -> None:
        """The last thing that Lightning does in a fit that was left."""
        connector = self.trainer._signal_connector
        self.patches.give_back(connector, "teardown")
        self.close(self.leaving_outcome(), "")
        connector.teardown()
        if self.governed:
            leave_process()

    def failed(self, error: BaseException) -> None:
        """Lightning reports what ended the fit."""
        if isinstance(error, KeyboardInterrupt):
            self.close(Outcome.STOPPED, "interrupted by the keyboard")
        else:
            self.close(Outcome.FAILED, f"{type(error).__name__}: {error}")

    def torn_down_by_others(self) -> None:
        """Lightning's teardown hook: a fit that somebody else left by the early exit ends here."""
        if not self.left:
            self.close(Outcome.STOPPED, "fit ended before the training began")

    def _outlive_finders(self, connector: Any) -> None:
        """Finders of learning rates and batch sizes load a checkpoint of their own, and leave none for the fit itself."""
        ours = connector._loaded_checkpoint

        def restore() -> None:
            loaded = connector._loaded_checkpoint
            if loaded and loaded is not ours:
                type(connector).restore_training_state(connector)
                return
            self.patches.give_back(connector, "restore_training_state")
            connector._loaded_checkpoint = ours
            connector.restore_training_state()

        self.patches.replace(connector, "restore_training_state", restore)
