"""One `Trainer.fit` inside a time box: the session around it, and the doors through which Lightning is entered and left.

Three methods of the Trainer's own objects are replaced for one call each, on the instance and not on the class: the one that
loads `ckpt_path` (ours is loaded in its place, by Lightning's own code), the one that installs signal handlers, and the one
that runs the loop. Every other hook is an ordinary callback hook.
"""

from __future__ import annotations

import atexit
import contextlib
import signal
from pathlib import Path
from typing import Any

from backprop_core.clock import SYSTEM, Clock
from backprop_core.errors import StateMismatchError
from backprop_core.forecast import Phase
from backprop_core.outcome import Outcome
from backprop_core.session import Session
from backprop_core.settings import Settings
from backprop_lightning import checkpoint_file
from backprop_lightning.package import early_exit, migrated
from backprop_lightning.ranks import Alone
from backprop_lightning.trainee import OURS, LightningTrainee, is_ours
from backprop_lightning.training_loop import TrainingLoop


class BoxedFit:
    """The session of one fit, and the way in and out.

    Attributes:
        session: the engine.
        loop: the training loop with boundaries, once it runs.
        outputs: what the last training step returned.
    """

    def __init__(self, settings: Settings, trainer: Any, clock: Clock = SYSTEM) -> None:
        self.trainer = trainer
        self.clock = clock
        self.ranks = Alone()
        self.trainee = LightningTrainee(trainer, self.ranks, clock)
        self.session = Session(settings, self.trainee, clock=clock)
        self.loop: TrainingLoop | None = None
        self.outputs: Any = None
        self._ours: Any = None
        self._closed = False
        self._left = False

    # -- what it tells -----------------------------------------------------------------------------------------

    @property
    def outcome(self) -> Outcome:
        return self.session.outcome

    @property
    def checkpoint(self) -> Path | None:
        info = self.session.checkpoint
        return None if info is None else info.path

    def remaining_s(self) -> float:
        return self.session.remaining_s()

    @property
    def run_id(self) -> str:
        return self.session.run_id

    @property
    def resumed_from(self) -> Path | None:
        path = self.session.resumed_from
        return None if path is None else Path(path)

    # -- the way in --------------------------------------------------------------------------------------------

    def open(self) -> None:
        """Open the session, and wait for Lightning to come by.

        Raises:
            UsageError, StoreError: as `Session.open`.
        """
        trainer = self.trainer
        self.session.open()
        atexit.register(self._forgotten)
        trainer._checkpoint_connector.resume_start = self._resume_start
        trainer._signal_connector.register_signal_handlers = self._register_signal_handlers
        trainer._run_stage = self._run_stage

    def _resume_start(self, checkpoint_path: Any = None, *args: Any, **kwargs: Any) -> None:
        """In place of loading `fit(ckpt_path=...)`: ours, unless the user has given one."""
        connector, session = self.trainer._checkpoint_connector, self.session
        del connector.resume_start
        loaded = session.restored
        if checkpoint_path or loaded is None:
            if loaded is not None:
                session.teller.say(
                    f"fit was given ckpt_path={str(checkpoint_path)!r}, so training goes on from there, and not from "
                    f"{session.resumed_from}.",
                    "warning",
                )
            connector.resume_start(checkpoint_path, *args, **kwargs)
            return
        source = str(loaded.info.path)
        if not is_ours(loaded.states):
            raise StateMismatchError(
                f"Checkpoint {source} was not made by a Lightning training.",
                "Resume it with the script that made it, or start afresh with resume=False (a new run).",
            )
        data: Any = loaded.states[checkpoint_file.NAME]
        self._ours = loaded.states[OURS]
        connector._loaded_checkpoint = migrated(self.trainer, checkpoint_file.read(data, source), source)
        connector._ckpt_path = f"{source}/{checkpoint_file.NAME}"
        loaded.states.clear()  # twice the model's memory otherwise, for as long as the fit lasts

    def _register_signal_handlers(self) -> None:
        """Lightning's handlers first, ours on top: one of the two saves."""
        connector, requests = self.trainer._signal_connector, self.session.requests
        del connector.register_signal_handlers
        requests.rest()
        users = signal.getsignal(signal.SIGTERM)
        connector.register_signal_handlers()
        for note in requests.listen():
            if (
                callable(users) or "SIGTERM" not in note
            ):  # Lightning's own would only end the fit without a checkpoint
                self.session.teller.say_once(note)

    def _run_stage(self) -> Any:
        trainer = self.trainer
        del trainer._run_stage
        ours = self._ours
        self._ours = None
        self.loop = TrainingLoop(
            self.trainee,
            self,
            self.clock,
            self._leave,
            None if ours is None else self._own_part(ours),
            pending=ours is not None and bool(ours["pending"]),
        )
        self.loop.install()
        try:
            result = trainer._run_stage()
        finally:
            self.loop.uninstall()
        self.close(Outcome.COMPLETED, "")
        return result

    def _own_part(self, ours: Any) -> Any:
        return ours["ranks"][self.ranks.rank]

    # -- boundaries --------------------------------------------------------------------------------------------

    @property
    def wake(self) -> float:
        return self.session.wake

    def boundary(self, steps: int, *, phase: Phase = Phase.PLAIN, then: Phase | None = None) -> bool:
        """Tell the session, with what the module has logged."""
        values = dict(self.trainer._logger_connector._callback_metrics)
        loss = self.outputs.get("loss") if isinstance(self.outputs, dict) else self.outputs
        if loss is not None:
            values.setdefault("loss", loss)
        self.session.log(values)
        return self.session.boundary(steps, phase=phase, then=then)

    def took(self, phase: Phase, seconds: float) -> None:
        """How long something took that more than one boundary lies in."""
        self.session.forecast.phases[phase].observe(seconds)

    # -- the way out -------------------------------------------------------------------------------------------

    def _leave(self) -> None:
        """Everything is saved: make fit return, with nothing but the teardown hooks.

        Raises:
            Exception: Lightning's own early exit.
        """
        trainer = self.trainer
        self._left = True
        trainer._signal_connector.teardown = self._torn_down
        bar = trainer.progress_bar_callback
        if bar is not None:
            with contextlib.suppress(Exception):  # a bar that cannot be closed is no reason to lose the run
                bar.on_train_end(trainer, trainer.lightning_module)
        raise early_exit(trainer)

    def _torn_down(self) -> None:
        """The last thing that Lightning does in a fit that was left."""
        connector = self.trainer._signal_connector
        vars(connector).pop("teardown", None)
        leaving = self.session.leaving
        self.close(Outcome.PREEMPTED if leaving is None else leaving.outcome, "")
        connector.teardown()
        if self.session.enrolment.governed:
            raise SystemExit(0)

    def failed(self, error: BaseException) -> None:
        """Lightning reports what ended the fit."""
        if isinstance(error, KeyboardInterrupt):
            self.close(Outcome.STOPPED, "interrupted by the keyboard")
        else:
            self.close(Outcome.FAILED, f"{type(error).__name__}: {error}")

    def torn_down_by_others(self) -> None:
        """Lightning's teardown hook: a fit that somebody else left by the early exit ends here."""
        if not self._left:
            self.close(Outcome.STOPPED, "fit was left before the training began")

    def close(self, outcome: Outcome, reason: str) -> None:
        """End the session, once."""
        if self._closed:
            return
        self._closed = True
        atexit.unregister(self._forgotten)
        trainer = self.trainer
        for owner, name in (
            (trainer._checkpoint_connector, "resume_start"),
            (trainer._signal_connector, "register_signal_handlers"),
            (trainer, "_run_stage"),
        ):
            vars(owner).pop(name, None)
        self.session.close(outcome, reason)

    def _forgotten(self) -> None:
        """The process ends and Lightning never came back: the record gets its end all the same."""
        leaving = self.session.leaving
        self.close(Outcome.FAILED if leaving is None else leaving.outcome, "")
