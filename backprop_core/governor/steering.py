"""What is done to a running script from outside: asked to end, paused, let go on, given more time.

Whatever is wanted is also written into the attempt's control file, where a session inside the script reads it. Who wants
something is one of: a person at the keyboard, another terminal (through the same file), the scheduler, the deadline,
or the policy that watches heat and memory.
"""

from __future__ import annotations

import math
import signal
from collections.abc import Callable
from pathlib import Path

from backprop_core.clock import Clock, local_text
from backprop_core.deadline.budget import duration_text
from backprop_core.deadline.scheduler import JobEnd
from backprop_core.errors import StoreError
from backprop_core.events.kinds import Continued, Event, Paused
from backprop_core.governor import kernel
from backprop_core.governor.observed import EndCause, ObservedPause, SessionView
from backprop_core.governor.tree import Family, send
from backprop_core.resources.running import Course, Judgement
from backprop_core.runs.control import (
    CONTROL_FILE,
    SLEPT,
    STARTED_UP,
    Action,
    ControlReader,
    ControlRequest,
    MovedEnds,
    send_control,
)

_CAUSES = {
    signal.SIGINT: EndCause.USER,
    signal.SIGQUIT: EndCause.WARNED,
    signal.SIGTERM: EndCause.TERMINATED,
    signal.SIGHUP: EndCause.HANGUP,
}

SUSPENDED = "You suspended it (Ctrl-Z)."
_CAUSES_IN_CHILD = {"timeboxed": EndCause.DEADLINE, "stopped": EndCause.REQUEST}


class Steering:
    """The outside's hand on one script.

    Attributes:
        deadline: monotonic instant by which it must be gone; moves with a pause, an extension, the job's end.
        box_end: where it would be without a job.
        fixed_end: it never moves beyond this one: the end of the scheduler's job.
        asked_at: when it was asked to end, or None.
        cause, detail: why it was asked to end, or None and the empty string.
        pauses: when and why it was held up; the last one may still last.
        moved, note: called with each new deadline; and with each beginning and end of a pause, for the books.
    """

    def __init__(
        self,
        attempt_dir: Path,
        deadline: float,
        grace_s: float,
        session: SessionView,
        clock: Clock,
        say: Callable[[str], None],
        family: Family,
    ) -> None:
        self.deadline = self.box_end = deadline
        self.asked_at: float | None = None
        self.cause: EndCause | None = None
        self.detail = ""
        self.pauses: list[ObservedPause] = []
        self.fixed_end = math.inf
        self.moved: Callable[[float], None] = lambda deadline: None
        self.note: Callable[[Event], None] = lambda event: None
        self._attempt_dir = attempt_dir
        self._grace_s = grace_s
        self._session = session
        self._clock = clock
        self._say = say
        self._family = family
        self._control = ControlReader(attempt_dir / CONTROL_FILE, clock)
        self._frozen = self._for_heat = False
        self._interrupts = 0

    @property
    def paused(self) -> bool:
        return bool(self.pauses) and self.pauses[-1].seconds is None

    def pauses_until_now(self) -> tuple[ObservedPause, ...]:
        """All pauses, the last one over: the script may have gone on and ended before the governor looked again."""
        if self.paused:
            self.pauses[-1].seconds = self._clock.monotonic() - self.pauses[-1].began
        return tuple(self.pauses)

    # Asking to end

    def hear(self, number: signal.Signals) -> bool:
        """A signal came that asks to end; True if that means now."""
        self._interrupts += number in (signal.SIGINT, signal.SIGQUIT)
        if self._interrupts > 1:
            self.cause = self.cause or EndCause.USER
            self._say("Ending it now.")
            return True
        if self.asked_at is None:
            self.stop(_CAUSES.get(number, EndCause.WARNED), "", number)
            if self.cause is EndCause.WARNED:
                self.detail = number.name
        elif self._interrupts:
            self._say("It is already stopping (Ctrl-C again: at once).")
        return False

    def pass_on(self, number: signal.Signals) -> None:
        """A signal came that means nothing to us: the script gets it, if it listens for it."""
        if kernel.catches(self._family.root, number):
            send(self._family.root, number)
        else:
            self._say(f"{number.name} received; the script has no handler for it, so nothing was done.")

    def stop(self, cause: EndCause, detail: str, number: signal.Signals = signal.SIGTERM) -> None:
        """Ask the script to save and end: one request, one signal to its main process."""
        self.cause, self.detail = self.cause or cause, detail
        why = f"{detail} " if detail else ""
        again = " (Ctrl-C again: at once)" if cause is EndCause.USER else ""
        self._say(f"{why}Asked the script to save and stop; it has {self._grace_s:g} s{again}.")
        self._request(Action.STOP, why=detail)
        self.ask(self._gentlest(number))

    def ask(self, number: signal.Signals = signal.SIGTERM) -> None:
        """Send the signal that means: save and end."""
        self.asked_at = self._clock.monotonic()
        send(self._trains(), number)
        if self.paused:
            self._go_on()

    def end_for(self, notice: str) -> None:
        """The machine is about to be taken away: have the script save and end.

        Args:
            notice: a sentence that says so.
        """
        if self.asked_at is None:
            self.stop(EndCause.NOTICE, notice)

    def end_parent(self) -> None:
        """The training in a child of the script was cut off and is saved: its main process ends, instead of going on."""
        told = str((self._session.finished or {}).get("outcome"))
        self.cause = self.cause or _CAUSES_IN_CHILD.get(told, EndCause.TERMINATED)
        if self.asked_at is None:
            self.asked_at = self._clock.monotonic()
        send(self._family.root, signal.SIGTERM)

    def _trains(self) -> int:
        """The process whose session saves: the main one, or a child of it that trains in its place."""
        child = self._session.child
        if child is None or self._session.finished is not None:
            return self._family.root
        family = kernel.descendants(self._family.root) or self._family.alive()
        return child if child in family else self._family.root

    def _gentlest(self, number: signal.Signals) -> signal.Signals:
        """SIGTERM, or the signal that came where only that is caught."""
        pid = self._family.root
        unaware = self._session.started is None and not kernel.catches(pid, signal.SIGTERM)
        return number if unaware and kernel.catches(pid, number) else signal.SIGTERM

    # Requests from another terminal, and verdicts of the policy

    def read_requests(self) -> None:
        """Do what has been asked for since the last look."""
        for request in self._control.poll():
            self._obey(request)

    def follow(self, judgement: Judgement) -> bool:
        """Do what the policy wants; True if that changed anything."""
        course, why = judgement.course, judgement.reason
        if course is Course.STOP and self.asked_at is None:
            self.stop(EndCause.MEMORY, why)
        elif course is Course.PAUSE and not self.paused and self.asked_at is None:
            self._for_heat = True
            self._request(Action.PAUSE, why=why)
            self._pause(why)
        elif course is Course.CONTINUE and self.paused and self._for_heat:
            self._request(Action.CONTINUE, why=why)
            self._go_on()
        else:
            return False
        return True

    def notice_unread_stop(self) -> None:
        """The session may have obeyed 'backprop stop' and ended before anybody looked."""
        told = self._session.finished
        if self.cause is None and told is not None and told.get("outcome") == "stopped":
            stops = [request for request in self._control.poll() if request.action is Action.STOP]
            if stops:
                self.cause, self.detail = EndCause.REQUEST, stops[-1].why

    def _obey(self, request: ControlRequest) -> None:
        action = request.action
        if action is Action.EXTEND and request.extend_s is not None:
            by_s = self._move_deadline(request.extend_s)
            if request.why not in (SLEPT, STARTED_UP):
                end = "" if by_s == request.extend_s else ", to the end of the scheduler's job"
                self._say(f"The time box was extended by {duration_text(by_s)}{end}.")
        elif action is Action.STOP and self.asked_at is None:
            self.cause, self.detail = EndCause.REQUEST, request.why
            self._say("A stop was requested.")
            self.ask()
        elif action is Action.PAUSE and not self.paused and self.asked_at is None:
            self._pause(request.why or "requested")
        elif action is Action.CONTINUE and self.paused:
            self._go_on()
        elif action is Action.CHECKPOINT and not self._session.ends_itself:
            self._say("A checkpoint was requested, but backprop is not attached to this script.")

    def _request(
        self, action: Action, extend_s: float | None = None, why: str = "", ends: MovedEnds | None = None
    ) -> bool:
        try:
            send_control(self._attempt_dir, action, extend_s=extend_s, why=why, ends=ends, clock=self._clock)
        except StoreError as error:
            self._say(error.what)
            return False
        return True

    # Pauses

    def _pause(self, why: str) -> None:
        self._say(f"Paused: {why.rstrip('.')}.")
        self._frozen = not self._session.ends_itself  # a session stops at its own safe point
        self.pauses.append(ObservedPause(why, self._clock.monotonic()))
        self.note(Paused(why))
        if self._frozen:
            self._family.signal_all(signal.SIGSTOP)

    def _go_on(self) -> None:
        pause = self.pauses[-1]
        pause.seconds = self._clock.monotonic() - pause.began
        self._for_heat = False
        if self._frozen:
            self._grant(pause.seconds)
        else:  # the session has been counting by itself
            self._move_deadline(pause.seconds)
        self._family.signal_all(signal.SIGCONT)
        self.note(Continued(pause.why))
        self._say(f"Continued after {pause.seconds:.1f} s; the time box waited.")

    def suspend(self, sleep: Callable[[], None]) -> None:
        """The script sleeps as long as `sleep` takes, and the time box with it. Ctrl-Z."""
        began = self._clock.monotonic()
        self._family.signal_all(signal.SIGSTOP)
        asleep = not self.paused
        if asleep:
            self.note(Paused(SUSPENDED))
        sleep()
        if asleep:
            self.note(Continued(SUSPENDED))
        if not self.paused:  # else the pause counts this time already
            slept_s = self._clock.monotonic() - began
            self.pauses.append(ObservedPause(SUSPENDED, began, slept_s))
            self._grant(slept_s)
        if not (self.paused and self._frozen):
            self._family.signal_all(signal.SIGCONT)

    def _grant(self, slept_s: float) -> None:
        """Time asleep does not count. A session learns of it in the way it learns all else."""
        if slept_s > 0 and not self._request(Action.EXTEND, slept_s, why=SLEPT):
            self._move_deadline(slept_s)
        self.read_requests()

    def set_deadline(self, deadline: float) -> None:
        """Another governor of the same run has moved it."""
        self.deadline = deadline
        self.moved(deadline)

    def _move_deadline(self, by_s: float) -> float:
        """Put the deadline off; the seconds by which it could be."""
        self.box_end += by_s
        by_s = max(0.0, min(by_s, self.fixed_end - self.deadline))
        self.deadline += by_s
        self.moved(self.deadline)
        return by_s

    def job_ends(self, at: float, end: JobEnd) -> None:
        """The scheduler has given the job another end: the script must be gone by the monotonic instant `at`.

        Where that is too near for a session to hear of it at a boundary and save, such as when SLURM preempts the job, the
        script is asked to end now: it has the grace, and SLURM kills no sooner than 30 s behind that end (`KillWait`).
        """
        if at < self.fixed_end and at - self._clock.monotonic() < self._grace_s:
            self.end_for(f"The job is about to end: {end.text}.")
            return
        self.fixed_end = at
        self.set_deadline(min(self.box_end, at))
        to_wall = self._clock.wall() - self._clock.monotonic()
        ends = MovedEnds(at + to_wall, self.deadline + to_wall)
        self._say(f"The job's end was moved: {end.text}. This box ends at {local_text(ends.deadline_wall)}.")
        self._request(Action.JOB_ENDS, why=end.text, ends=ends)
