"""What others ask of a running attempt, by signal or by the control file, gathered at boundaries."""

from __future__ import annotations

import math
import signal
from collections.abc import Callable
from dataclasses import replace

from backprop_core.clock import Clock
from backprop_core.deadline.budget import Deadlines, duration_text
from backprop_core.deadline.decision import Leave
from backprop_core.events.kinds import Continued, Extended, Paused
from backprop_core.outcome import Outcome
from backprop_core.runs.control import SLEPT, STARTED_UP, Action, ControlReader, ControlRequest
from backprop_core.session.messages import Messages
from backprop_core.session.signal_watch import SignalWatch

CONTROL_EVERY_S = 0.25
GRACE_SHARE = 0.9
"""Of the grace after a signal: whoever waits that long may count from earlier, and kills on the second."""
_PAUSE_POLL_S = 0.1


class Requests:
    """Signals and control requests since the box was opened.

    Attributes:
        leave: the first request to end the attempt, or None.
        save_asked: a checkpoint was asked for and is not yet begun.
        commit_first: a signal came that leaves time to train on, and no checkpoint has been committed since.
        slept_s: seconds since the last `applied` in which the process was held from outside (SIGSTOP), in the middle of a
            step: the budget was extended by as much.
        notes: sentences about signals that are not heard.
        governed: the governor tells people of pauses and extensions, once.
        tell_pause: called when a pause begins, with True, and when it is over.
    """

    def __init__(
        self, control: ControlReader, grace_s: float, clock: Clock, wake: Callable[[], None]
    ) -> None:
        self.leave: Leave | None = None
        self.save_asked = self.commit_first = False
        self.slept_s = 0.0
        self._grace_s = grace_s
        self._control = control
        self._peek = ControlReader(control.path, clock)  # for the guard's thread alone
        self._peeked_s = self._applied_s = 0.0
        self._held_since: float | None = None
        self._clock = clock
        self._next_poll = clock.monotonic()
        self._wake = wake
        self._signals = SignalWatch(clock.monotonic, wake)
        self._signals.start()
        self._signal_obeyed = False
        self.notes = self._signals.notes
        self.governed = False
        self.tell_pause: Callable[[bool], None] = lambda paused: None

    @property
    def signalled(self) -> bool:
        """A stop signal has been heard."""
        return self._signals.received is not None

    def gone_by(self) -> float:
        """When a signal that no boundary has dealt with yet wants the process gone, on the monotonic clock; else never."""
        if not self.pending or self._signals.received is signal.SIGINT:
            return math.inf
        return self._gone_at()

    def _gone_at(self) -> float:
        return self._signals.received_at + GRACE_SHARE * self._grace_s

    @property
    def pending(self) -> bool:
        """A signal came that no boundary has dealt with."""
        return self.signalled and not self._signal_obeyed

    def poll(self, now: float, deadlines: Deadlines, messages: Messages) -> tuple[float, float]:
        """Take in what came since the last call; waits here while the run is paused.

        Returns:
            Seconds the run was paused, and seconds the budget is extended by.
        """
        paused_s = extended_s = 0.0
        if now >= self._next_poll or self.pending:
            self._next_poll = now + CONTROL_EVERY_S
            paused_s, extended_s = self._poll_control(deadlines, messages)
        if self.pending:
            self._obey_signal(deadlines, messages)
        if self._signals.workers_died and self.leave is not None:
            self.leave = replace(self.leave, at_once=True)
        return paused_s, extended_s

    def applied(self, extended_s: float) -> None:
        """The deadlines know now of the pause that is over, and of `extended_s` seconds more."""
        self._held_since = None
        self._applied_s += extended_s
        self.slept_s = 0.0

    def unapplied_s(self, now: float) -> float:
        """Seconds that the deadlines do not know of yet: a pause that lasts, an extension that nobody has read.

        For the guard's thread: after Ctrl-Z and `fg` it may wake before the main thread, past a deadline that has moved.
        """
        self._peeked_s += sum(request.extend_s or 0.0 for request in self._peek.poll())
        held_s = 0.0 if self._held_since is None else now - self._held_since
        return held_s + max(0.0, self._peeked_s - self._applied_s)

    def _obey_signal(self, deadlines: Deadlines, messages: Messages) -> None:
        self._signal_obeyed = True
        number = self._signals.received
        assert number is not None
        if number is signal.SIGINT:
            self.leave = self.leave or Leave(Outcome.STOPPED, "stopped by Ctrl-C", at_once=True)
            messages.say(
                "Ctrl-C: saving a checkpoint, then exiting. Press it again to exit now, without one."
            )
            return
        deadlines.shrink(self._gone_at(), f"{number.name} with a grace of {self._grace_s:g} s")
        if self.leave is None:
            requeues = self._signals.requeues  # whoever requeues the job needs the rest of the time
            self.leave = Leave(Outcome.PREEMPTED, f"{number.name} was received", at_once=requeues)
            self.commit_first = not requeues
            left = deadlines.earliest.at - self._clock.monotonic()
            messages.say(f"{number.name}: exiting within {duration_text(max(0.0, left))}, with a checkpoint.")

    def _poll_control(self, deadlines: Deadlines, messages: Messages) -> tuple[float, float]:
        extended_s = 0.0
        paused = False
        for request in self._control.poll():
            match request.action:
                case Action.STOP:
                    self.leave = Leave(Outcome.STOPPED, request.why or "a stop was requested", at_once=True)
                case Action.CHECKPOINT:
                    self.save_asked = True
                case Action.EXTEND:
                    extended_s += self._extended_s(request, messages)
                case Action.JOB_ENDS:
                    self._move_job_end(request, deadlines)
                case Action.PAUSE:
                    paused = True
                    self._say(messages, f"Paused{': ' + request.why if request.why else ''}.")
                case Action.CONTINUE:
                    paused = False
        if not paused:
            return 0.0, extended_s
        paused_s, late_s = self._wait_out_pause(deadlines, messages)
        return paused_s, extended_s + late_s

    def _extended_s(self, request: ControlRequest, messages: Messages) -> float:
        extended_s = request.extend_s or 0.0
        text = duration_text(extended_s)
        slept = request.why == SLEPT
        self.slept_s += extended_s if slept else 0.0
        messages.event(Extended(extended_s, slept))
        if request.why == STARTED_UP:
            return extended_s  # the governor tells it, once
        if slept:
            messages.say(f"Paused for {text}: the budget waited.")
        else:
            self._say(messages, f"The budget was extended by {text}.")
        return extended_s

    def _say(self, messages: Messages, text: str) -> None:
        if not self.governed:
            messages.say(text)

    def _move_job_end(self, request: ControlRequest, deadlines: Deadlines) -> None:
        """The governor has told it, once."""
        if request.ends is not None:
            ahead_s = self._clock.monotonic() - self._clock.wall()
            ends = request.ends
            deadlines.job_ends(ends.job_wall + ahead_s, request.why, ends.deadline_wall + ahead_s)

    def _wait_out_pause(self, deadlines: Deadlines, messages: Messages) -> tuple[float, float]:
        extended_s = 0.0
        began = self._held_since = self._clock.monotonic()
        messages.event(Paused())
        self.tell_pause(True)
        while not self.signalled and self.leave is None:
            self._clock.sleep(_PAUSE_POLL_S)
            waiting = True
            for request in self._control.poll():
                if request.action is Action.STOP:
                    self.leave = Leave(Outcome.STOPPED, request.why or "a stop was requested", at_once=True)
                elif request.action is Action.CHECKPOINT:
                    self.save_asked = True
                elif request.action is Action.EXTEND:
                    extended_s += self._extended_s(request, messages)
                elif request.action is Action.JOB_ENDS:
                    self._move_job_end(request, deadlines)
                waiting = waiting and request.action is not Action.CONTINUE
            if not waiting:
                break
        self.tell_pause(False)
        paused_s = self._clock.monotonic() - began
        messages.event(Continued(paused_s=paused_s))
        self._say(messages, f"Continuing after a pause of {duration_text(paused_s)}.")
        return paused_s, extended_s

    @property
    def heard(self) -> signal.Signals | None:
        """The first signal that asked to leave, or None."""
        return self._signals.received

    def workers_ended(self) -> None:
        """A loader's workers have ended behind a stop signal: the next boundary is the last."""
        self._signals.workers_died = True
        self._wake()

    def hear_of(self, number: int) -> None:
        """Another process of the same training has received a signal."""
        self._signals.hear_of(number)

    def rest(self) -> None:
        """Put the former signal handlers back, for a framework that is about to install its own."""
        self._signals.stop()

    def listen(self) -> list[str]:
        """Hear signals again, in place of whatever listens now; sentences about those that are left alone."""
        known = len(self.notes)
        self._signals.start()
        return self.notes[known:]

    def stop(self) -> None:
        """Stop listening and put the former signal handlers back."""
        self._signals.stop()

    def pass_on(self) -> None:
        """Give a signal to the handler that was there before, behind our save; see `SignalWatch.pass_on`."""
        self._signals.pass_on()
