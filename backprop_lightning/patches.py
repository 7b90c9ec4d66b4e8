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
from typing import Any

from backprop_core.checkpoints.store import Loaded
from backprop_core.clock import Clock
from backprop_core.deadline.forecast import Phase
from backprop_core.errors import StateMismatchError
from backprop_core.outcome import Outcome
from backprop_core.ports.patches import Patches
from backprop_core.session.boxed_training import BoxedTraining, how_it_was_left
from backprop_core.session.leave_process import leave_process
from backprop_core.session.own_faults import OwnFaults
from backprop_core.session.ranks import session_among
from backprop_core.session.scripts_checkpoint import ours_is_taken
from backprop_core.session.settings import SessionSettings
from backprop_lightning import checkpoint_file, scripts_checkpoint, version_folder
from backprop_lightning.boundaries import TrainingLoop
from backprop_lightning.late_weights import LateWeights
from backprop_lightning.made_loaders import EarlyLoaders
from backprop_lightning.package import early_exit, migrated
from backprop_lightning.sharded_state import ShardedState, is_sharded, joined
from backprop_lightning.strategies import data_replicas
from backprop_lightning.training_state import OURS, LightningState, is_ours
from backprop_torch.ranks import Alone, Together, TorchRanks

LEAVE_S = 0.15
"""Lightning's own tear-down: workers of loaders, loggers."""


class PatchedFit(ABC):
    """One fit of one process.

    Attributes:
        session: the engine.
        loop: the training loop with boundaries, once it runs.
        outputs: what the last training step returned.
    """

    def __init__(
        self, settings: SessionSettings, trainer: Any, clock: Clock, ranks: Together | None = None
    ) -> None:
        self.trainer = trainer
        self.ranks: TorchRanks = ranks or Alone()
        self.clock = clock
        self.training_state = LightningState(trainer, self.ranks, clock)
        self.session = session_among(ranks, settings, self.training_state, clock, leave_s=LEAVE_S)
        self.box = BoxedTraining(self.session, self.unpatch)
        self.training_state.warn, self.training_state.say = self.tell, self.say
        self.training_state.validation.say = self.say
        self.loop: TrainingLoop | None = None
        self.outputs: Any = None
        self.left = False
        self.patches = Patches()
        self.faults = OwnFaults(self.withdraw, meant=lambda: self.left)
        self._ours: Any = None
        self._early = EarlyLoaders(trainer, self.training_state.randomness, self.mends, self.say)

    def open(self) -> None:
        """Find the run and what to go on from, and put our replacements in place.

        Raises:
            UsageError, StoreError, RankError: as the session's `open`; on all ranks.
        """
        self.box.open()
        try:
            self.faults.run(self.patch)
        except BaseException as error:
            self.box.ended(error)
            raise

    def tell(self, text: str) -> None:
        """Warn the user; only the first rank talks."""
        self.session.messages.say(text, "warning")

    def say(self, text: str) -> None:
        """Tell the user something that is no fault, and never the same again."""
        self.session.messages.say_once(text)

    def took(self, phase: Phase, seconds: float) -> None:
        """How long something took that more than one boundary lies in."""
        self.session.forecast.phases[phase].observe(seconds)

    def arrived(self) -> None:
        """A resumed fit has everything back."""
        self.session.arrived()

    def least(self, number: int) -> int:
        """The least of the numbers that the ranks give."""
        return self.ranks.least(number)

    # -- what differs from rank to rank ------------------------------------------------------------------------

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

    # -- the way in --------------------------------------------------------------------------------------------

    def patch(self) -> None:
        """Wait for Lightning to come by."""
        trainer, loaded = self.trainer, self.session.restored
        if loaded is not None and is_ours(loaded.states):
            ours: Any = loaded.states[OURS]
            for sentence in version_folder.restore(trainer, ours["ranks"][0]["trainer"].get("loggers", ())):
                self.tell(sentence)
        replace = self.patches.replace
        replace(trainer._checkpoint_connector, "resume_start", self._resume_start)
        replace(trainer._signal_connector, "register_signal_handlers", self._register_signal_handlers)
        replace(trainer, "_run_stage", self._run_stage)
        self._early.expect(self.faults.run)

    def unpatch(self) -> None:
        """Methods that were not called meanwhile are Lightning's own again."""
        self.patches.give_all_back()
        if (early := self._early.taken()) is not None:
            early.uninstall()

    def withdraw(self, error: Exception) -> None:
        """A fault of our own: Lightning trains on alone."""
        if self.loop is not None:
            self.loop.uninstall()
        self.box.step_aside(error)

    def _resume_start(self, checkpoint_path: Any = None, *args: Any, **kwargs: Any) -> None:
        """In place of loading `fit(ckpt_path=...)`: ours, unless the one that it names is newer."""
        connector = self.trainer._checkpoint_connector
        self.patches.give_back(connector, "resume_start")
        loaded = self.session.restored
        theirs = scripts_checkpoint.found(checkpoint_path)
        if loaded is None or not ours_is_taken(loaded.info, theirs, self.tell, self.least):
            if loaded is not None and theirs is not None:
                self.session.begins_with(theirs)
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
        sharded = self.training_state.sharded
        if sharded is not None or is_sharded(loaded.states):
            checkpoint = self._joined(checkpoint, loaded.states, sharded)
        connector._loaded_checkpoint = migrated(self.trainer, checkpoint, source)
        if sharded is not None:
            self._load_where_lightning_would_not(sharded, connector._loaded_checkpoint)
        elif not is_sharded(loaded.states):
            self._load_late(connector._loaded_checkpoint)
        connector._ckpt_path = f"{source}/{checkpoint_file.NAME}"
        self._outlive_finders(connector)
        loaded.states.clear()  # twice the model's memory otherwise, for as long as the fit lasts

    def _joined(
        self, checkpoint: dict[str, Any], states: Mapping[str, Any], sharded: ShardedState | None
    ) -> dict[str, Any]:
        """Lightning's checkpoint, and this rank's part of ours, with tensors as this rank holds them."""
        parts = list(self._ours["ranks"])
        mine = self.ranks.rank if len(parts) == self.ranks.count else 0
        framework = self.training_state.framework
        checkpoint, parts[mine] = joined(checkpoint, parts[mine], states, framework, sharded, OURS)
        self._ours = {**self._ours, "ranks": parts}
        return checkpoint

    def _load_where_lightning_would_not(self, sharded: ShardedState, ours: dict[str, Any]) -> None:
        """A strategy that shards has loaded weights and optimizers with its own files, and loads none later: now ours are.

        Finders have checkpoints of their own, which it has loaded.
        """
        strategy = self.trainer.strategy

        def load_model_state_dict(checkpoint: Mapping[str, Any], strict: bool = True) -> None:
            if checkpoint is ours:
                self.patches.give_back(strategy, "load_model_state_dict")
                sharded.load(ours["state_dict"], ours["optimizer_states"], strict)

        self.patches.replace(strategy, "load_model_state_dict", load_model_state_dict)

    def _load_late(self, ours: dict[str, Any]) -> None:
        """Weights and optimizers of a module that hooks have changed, or will change before its first batch."""
        parts = self._ours["ranks"]
        part = parts[self.ranks.rank] if len(parts) == self.ranks.count else parts[0]
        self.training_state.late = late = LateWeights(self.trainer, ours, part)
        strategy = self.trainer.strategy

        def load_model_state_dict(checkpoint: Mapping[str, Any], strict: bool = True) -> None:
            if checkpoint is ours:
                self.patches.give_back(strategy, "load_model_state_dict")
                late.load_weights(strict)
            else:  # a finder's own
                type(strategy).load_model_state_dict(strategy, checkpoint, strict=strict)

        def load_optimizer_state_dict(checkpoint: Mapping[str, Any]) -> None:
            if checkpoint is ours:
                self.patches.give_back(strategy, "load_optimizer_state_dict")
                late.load_optimizers()
            else:
                type(strategy).load_optimizer_state_dict(strategy, checkpoint)

        self.patches.replace(strategy, "load_model_state_dict", load_model_state_dict)
        self.patches.replace(strategy, "load_optimizer_state_dict", load_optimizer_state_dict)

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
        if self.loop is not None:
            self.faults.run(self.loop.pass_over)
        self.faults.run(self.box.completed)
        return result

    def _install(self) -> None:
        """Lead Lightning's loop past our boundaries."""
        ours, self._ours = self._ours, None
        self.loop = TrainingLoop(
            self.training_state,
            self,
            self.clock,
            None if ours is None else self._own_part(ours),
            pending=ours is not None and bool(ours["pending"]),
        )
        self.loop.install(self._early.taken())
        if (
            ours is not None
        ):  # Lightning sees a loader that cannot be resumed; it is brought to its place by us
            warnings.filterwarnings(
                "ignore", message="You're resuming from a checkpoint that ended before the epoch"
            )

    def _own_part(self, ours: Mapping[str, Any]) -> Mapping[str, Any]:
        parts: list[Mapping[str, Any]] = ours["ranks"]
        replicas = data_replicas(self.trainer)
        if len(parts) == self.ranks.count:
            if ours.get("replicas", replicas) == replicas:
                return parts[self.ranks.rank]
            self.tell(
                f"The checkpoint was made with the samples dealt among {ours['replicas']} groups of processes and now "
                f"there are {replicas}: weights, optimizers and counters continue, but the order of samples and the random "
                "numbers differ."
            )
            return {**parts[self.ranks.rank], "loaders": None, "random": None}
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
        self.box.close(how_it_was_left(self.session))
        connector.teardown()
        if self.session.governed:
            leave_process()

    def failed(self, error: BaseException) -> None:
        """Lightning reports what ended the fit."""
        self.box.ended(error)

    def torn_down_by_others(self) -> None:
        """Lightning's teardown hook: a fit that somebody else left by the early exit ends here."""
        if not self.left:
            self.box.close(Outcome.STOPPED, "fit ended before the training began")

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
