"""The loop outside the script: one thread, one wait, and a decision after each.

It wakes for output, signals, keys and the next due moment, and four times a second for the run's folder.
"""

from __future__ import annotations

import math
import os
import select
import signal
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from backprop_core.clock import Clock
from backprop_core.errors import StoreError
from backprop_core.governor.running import Course
from backprop_core.runs.attempt import EVENTS_FILE, OUTPUT_FILE
from backprop_core.runs.control import CONTROL_FILE, Action, ControlReader, ControlRequest, send_control
from backprop_core.runs.events import EventTail
from backprop_core.supervision import kernel
from backprop_core.supervision.account import Cause, Ending, Event, Pause, SessionView
from backprop_core.supervision.keeper import Charge, Keeper
from backprop_core.supervision.monitor import Monitor
from backprop_core.supervision.plan import Facts, Move, Plan, next_move
from backprop_core.supervision.signals import SignalInbox
from backprop_core.supervision.spawn import spawn
from backprop_core.supervision.speech import Listener
from backprop_core.supervision.streams import Streams, keep_keys
from backprop_core.supervision.tree import Family, send

TICK_S = 0.25
LEFTOVER_PATIENCE_S = (0.3, 0.7)
"""Seconds that left-over processes get to go by themselves, and then after SIGTERM."""

_SLEPT = "the script was stopped for as long"

_CAUSES = {
    signal.SIGINT: Cause.USER,
    signal.SIGQUIT: Cause.USER,
    signal.SIGTERM: Cause.TERMINATED,
    signal.SIGHUP: Cause.HANGUP,
}


@dataclass(frozen=True, slots=True)
class Order:
    """What to run, and within what.

    Args:
        argv, cwd, env: of the script.
        attempt_dir: the attempt's folder; exists.
        deadline: instant on the monotonic clock; infinity for none.
        budget_s: seconds from the start to the deadline.
        grace_s: seconds between asking and killing.
    """

    argv: Sequence[str]
    cwd: str
    env: Mapping[str, str]
    attempt_dir: Path
    deadline: float
    budget_s: float
    grace_s: float


class Observer(Protocol):
    """Who watches a governor: the command line's display."""

    def before_output(self) -> None:
        """Something of the script's is about to be shown."""

    def event(self, event: Event) -> None:
        """The session inside the script has said something."""

    def say(self, text: str) -> None:
        """The governor has something to tell: one sentence."""

    def tick(self, now: float, deadline: float, session: SessionView, quiet: bool) -> None:
        """Four times a second; `quiet` when the script's output is at the start of a line and nothing
        waits.
        """


class Governor:
    """Runs one script to its end.

    Args:
        order: what to run.
        clock: the time.
        observer: who is told.
        started: called with the script's pid once it runs; an error from it ends the script.
        checkpoint: called with each path that the script announces on stdout.
        monitor: samples the machine and judges; None for no such watch.
        first_step: called once, when the script is seen to train.
    """

    def __init__(
        self,
        order: Order,
        clock: Clock,
        observer: Observer,
        *,
        started: Callable[[int], None] = lambda pid: None,
        checkpoint: Callable[[str], None] = lambda path: None,
        monitor: Monitor | None = None,
        first_step: Callable[[], None] = lambda: None,
    ) -> None:
        self.order = order
        self.session = SessionView()
        self.deadline = order.deadline
        self.asked_at: float | None = None
        self.cause: Cause | None = None
        self.detail = ""
        self.killed = False
        self.pauses: list[Pause] = []
        self._clock = clock
        self._observer = observer
        self._started = started
        self._announce = checkpoint
        self._monitor = monitor
        self._first_step: Callable[[], None] | None = first_step
        self._heat_pause = False
        self._grace_s = order.grace_s
        self._frozen = False
        self._catches = (-math.inf, True)
        self._events = EventTail(order.attempt_dir / EVENTS_FILE)
        self._control = ControlReader(order.attempt_dir / CONTROL_FILE, clock)
        self._listener = Listener(Path(order.cwd))
        self._tail: deque[bytes] = deque(maxlen=8)

    def run(self) -> Ending:
        """Start the script and return when it and all of its family are gone.

        Raises:
            UsageError: it could not be started.
        """
        kernel.become_subreaper()
        with SignalInbox() as self._inbox:
            began = self._clock.monotonic()
            child = spawn(self.order.argv, cwd=self.order.cwd, env=self.order.env)
            self._process = child.process
            self._family = Family(child.pid, governor=os.getpid())
            log = self.order.attempt_dir / OUTPUT_FILE
            self._streams = Streams(
                child, log, listen=self._listen, keep=self._keep, before=self._observer.before_output
            )
            drains = [stream.fd for stream in self._streams.sources]
            charge = Charge(child.pid, drains, log, self.order.grace_s, self.deadline)
            self._keeper = Keeper.start(charge, self._clock)
            self._family.spare(self._keeper.pid)
            try:
                self._started(child.pid)
                self._watch()
                self._ended_at = self._clock.monotonic()
            finally:
                leftovers = self._finish()
                self._keeper.dismiss()
            now = self._clock.monotonic()
        return self._ending(now - began, self.deadline - now, leftovers)

    # The watch

    def _watch(self) -> None:
        with keep_keys(self._streams.keys):
            looked_at = -math.inf
            while self._process.poll() is None:
                now = self._clock.monotonic()
                if now - looked_at >= TICK_S:
                    looked_at = now
                    self._look()
                plan = self._plan(now)
                if plan.due(now):
                    self._look()  # the script may have joined, or been extended, a moment ago
                    plan = self._plan(now)
                if plan.due(now):
                    self._make(plan.move)
                    plan = self._plan(now)
                self._wait(min(looked_at + TICK_S, plan.at) - self._clock.monotonic())
                for number in self._inbox.take():
                    self._on_signal(number)

    def _plan(self, now: float) -> Plan:
        facts = Facts(
            deadline=math.inf if self._paused else self.deadline,
            budget_s=self.order.budget_s,
            grace_s=self._grace_s,
            joined=self.session.ends_itself,
            catches_term=True,
            asked_at=self.asked_at,
        )
        plan = next_move(facts)
        # Whether it catches SIGTERM is dear to find out, and does not matter before it would be asked if it did.
        if plan.move is Move.ASK and plan.due(now) and not self._catches_term(now):
            plan = next_move(replace(facts, catches_term=False))
        return plan

    def _catches_term(self, now: float) -> bool:
        if now >= self._catches[0]:
            self._catches = (now + TICK_S, kernel.catches(self._process.pid, signal.SIGTERM))
        return self._catches[1]

    def _make(self, move: Move) -> None:
        if self.cause is None:
            self.cause = Cause.DEADLINE
        if move is Move.ASK:
            self._ask(signal.SIGTERM)
        elif move is Move.KILL:
            self.killed = True
            self._family.kill()
            self._wait(0.02)

    def _wait(self, timeout_s: float) -> None:
        poll = select.poll()
        poll.register(self._inbox.fd, select.POLLIN)
        self._streams.register(poll)
        for fd, _ in poll.poll(max(0, math.ceil(timeout_s * 1000))):
            self._streams.ready(fd)

    def _look(self) -> None:
        for event in self._events.poll():
            self.session.take(event)
            self._observer.event(event)
        self._read_requests()
        self._sample()
        if self._first_step is not None and self._trains():
            self._first_step()
            self._first_step = None
        quiet = self._streams.quiet and not self._paused
        self._observer.tick(self._clock.monotonic(), self.deadline, self.session, quiet)

    def _trains(self) -> bool:
        return self.session.progress is not None or self._listener.heard.step is not None

    def _sample(self) -> None:
        monitor, now = self._monitor, self._clock.monotonic()
        if monitor is None or not monitor.due(now):
            return
        family = self._family.alive() if monitor.wants_family() else None
        judgement = monitor.sample(now, family, self._save_s)
        complaint = monitor.complaint()
        if complaint:
            self._note("complaint", complaint)
            self._observer.say(complaint)
        if judgement.course is Course.STOP and self.asked_at is None:
            self._note("stop", judgement.reason)
            self.stop(Cause.MEMORY, judgement.reason)
        elif judgement.course is Course.PAUSE and not self._paused and self.asked_at is None:
            self._note("pause", judgement.reason)
            self._heat_pause = True
            self._request(Action.PAUSE, why=judgement.reason)
            self._pause(judgement.reason)
        elif judgement.course is Course.CONTINUE and self._paused and self._heat_pause:
            self._note("continue", judgement.reason)
            self._request(Action.CONTINUE, why=judgement.reason)
            self._continue()

    def _note(self, kind: str, reason: str) -> None:
        if self._monitor is not None:
            self._monitor.log.append(kind, reason=reason)

    def _read_requests(self) -> None:
        for request in self._control.poll():
            self._obey(request)

    def _listen(self, data: bytes) -> None:
        self._keep(data)
        for path in self._listener.feed(data):
            self._announce(path)

    def _keep(self, data: bytes) -> None:
        self._tail.append(data)

    @property
    def _save_s(self) -> float:
        """What the script's latest checkpoint took, in seconds, with room to spare."""
        return max(5.0, 2.0 * self.session.save_s)

    # Asking to end

    def _on_signal(self, number: signal.Signals) -> None:
        if number in _CAUSES:
            self._on_stop_signal(number)
        elif number is signal.SIGTSTP:
            self._suspend()
        elif number is signal.SIGCONT:
            self._streams.enter_keys()
        elif number is signal.SIGWINCH:
            self._streams.resize()

    def _on_stop_signal(self, number: signal.Signals) -> None:
        now_please = self.asked_at is not None and number in (signal.SIGINT, signal.SIGQUIT)
        if number is signal.SIGQUIT or now_please:
            self._observer.say("Ending it now.")
            self.cause = self.cause or Cause.USER
            self._make(Move.KILL)
        elif self.asked_at is None:
            self.stop(_CAUSES[number], "", number)

    def stop(self, cause: Cause, detail: str, number: signal.Signals = signal.SIGTERM) -> None:
        """Ask the script to save and end: one request, one signal to its main process."""
        self.cause, self.detail = self.cause or cause, detail
        why = f"{detail} " if detail else ""
        self._observer.say(
            f"{why}Asked the script to save and end; it has {self._grace_s:g} s (Ctrl-C again: at once)."
        )
        self._request(Action.STOP, why=detail)
        self._ask(self._gentlest(number))

    def _gentlest(self, number: signal.Signals) -> signal.Signals:
        """SIGTERM, or what Ctrl-C sends without backprop where only that is caught."""
        pid = self._process.pid
        if (
            number is signal.SIGINT
            and self.session.started is None
            and not kernel.catches(pid, signal.SIGTERM)
        ):
            return signal.SIGINT if kernel.catches(pid, signal.SIGINT) else signal.SIGTERM
        return signal.SIGTERM

    def _ask(self, number: signal.Signals) -> None:
        self.asked_at = self._clock.monotonic()
        send(self._process.pid, number)
        if self._paused:
            self._continue()

    def _request(self, action: Action, extend_s: float | None = None, why: str = "") -> bool:
        try:
            send_control(self.order.attempt_dir, action, extend_s=extend_s, why=why, clock=self._clock)
        except StoreError as error:
            self._observer.say(error.what)
            return False
        return True

    def _grant(self, slept_s: float) -> None:
        """Time in which the script was stopped does not count. Its session learns of it in the way it learns
        all else.
        """
        if slept_s > 0 and not self._request(Action.EXTEND, slept_s, why=_SLEPT):
            self._move_deadline(slept_s)
        self._read_requests()

    def _move_deadline(self, by_s: float) -> None:
        self.deadline += by_s
        self._keeper.tell_deadline(self.deadline)

    # Requests from another terminal

    def _obey(self, request: ControlRequest) -> None:
        if request.action is Action.EXTEND and request.extend_s is not None:
            self._move_deadline(request.extend_s)
            if request.why != _SLEPT:
                self._observer.say(f"The time box was extended by {request.extend_s:g} s.")
        elif request.action is Action.STOP and self.asked_at is None:
            self.cause, self.detail = Cause.REQUEST, request.why
            self._observer.say("Asked from outside to stop.")
            self._ask(signal.SIGTERM)
        elif request.action is Action.PAUSE and not self._paused and self.asked_at is None:
            self._pause(request.why or "asked by 'backprop pause'")
        elif request.action is Action.CONTINUE and self._paused:
            self._continue()
        elif request.action is Action.CHECKPOINT and not self.session.ends_itself:
            self._observer.say(
                "A checkpoint was asked for, but this script has no session of backprop to make one."
            )

    @property
    def _paused(self) -> bool:
        return bool(self.pauses) and self.pauses[-1].seconds is None

    def _pause(self, why: str) -> None:
        self._observer.say(f"Paused: {why.rstrip('.')}.")
        self._frozen = not self.session.ends_itself  # a session stops at its own safe point
        self.pauses.append(Pause(why, self._clock.monotonic()))
        if self._frozen:
            self._family.signal_all(signal.SIGSTOP)

    def _continue(self) -> None:
        pause = self.pauses[-1]
        pause.seconds = self._clock.monotonic() - pause.began
        self._heat_pause = False
        if self._frozen:
            self._grant(pause.seconds)
        else:  # the session has been counting by itself
            self._move_deadline(pause.seconds)
        self._family.signal_all(signal.SIGCONT)
        self._observer.say(f"Continued after {pause.seconds:.1f} s; the time box waited.")

    def _suspend(self) -> None:
        """Ctrl-Z: the script sleeps with backprop, and the time box with both."""
        self._observer.before_output()
        self._streams.leave_keys()
        began = self._clock.monotonic()
        self._family.signal_all(signal.SIGSTOP)
        self._inbox.stop_oneself()
        self._grant(self._clock.monotonic() - began)
        self._family.signal_all(signal.SIGCONT)
        self._streams.enter_keys()

    # The end

    def _finish(self) -> int:
        """Leave no process of the script behind; the number of those that had to be ended."""
        if self._process.poll() is None:  # we are here because something went wrong in the governor itself
            self._family.kill()
            self._process.wait()
        self._streams.drain()
        leftovers = self._wait_for_family(0.0)
        if leftovers and not self.killed:
            leftovers = self._wait_for_family(LEFTOVER_PATIENCE_S[0])
            if leftovers:
                self._family.signal_all(signal.SIGTERM)
                self._wait_for_family(LEFTOVER_PATIENCE_S[1])
        self._family.kill()
        self._wait_for_family(2.0)
        self._family.reap_orphans()
        self._streams.drain()
        for event in self._events.poll():
            self.session.take(event)
            self._observer.event(event)
        self._notice_unread_stop()
        self._observer.before_output()
        with suppress(KeyboardInterrupt):
            self._streams.finish()
        return len(leftovers)

    def _notice_unread_stop(self) -> None:
        """The session may have obeyed 'backprop stop' and ended before we looked."""
        told = self.session.finished
        if self.cause is None and told is not None and told.get("outcome") == "stopped":
            stops = [request for request in self._control.poll() if request.action is Action.STOP]
            if stops:
                self.cause, self.detail = Cause.REQUEST, stops[-1].why

    def _wait_for_family(self, patience_s: float) -> set[int]:
        """Those alive after at most `patience_s`, or fewer when the deadline is nearer."""
        end = min(self._clock.monotonic() + patience_s, max(self.deadline - 0.05, self._clock.monotonic()))
        while True:
            self._family.reap_orphans()
            alive = self._family.alive()
            if not alive or self._clock.monotonic() >= end:
                return alive
            self._wait(0.02)
            self._inbox.take()

    def _exit_s(self) -> float | None:
        """What the script took to end after its session was over; the next attempt keeps that much back."""
        finished = self.session.finished
        said_at = None if finished is None else finished.get("monotonic")
        return max(0.0, self._ended_at - said_at) if isinstance(said_at, int | float) else None

    def _ending(self, used_s: float, unused_s: float, leftovers: int) -> Ending:
        return Ending(
            returncode=self._process.returncode,
            cause=self.cause,
            detail=self.detail,
            killed=self.killed,
            session=self.session,
            heard=self._listener.heard,
            used_s=used_s,
            exit_s=self._exit_s(),
            unused_s=unused_s,
            leftovers=leftovers,
            pauses=tuple(self.pauses),
            lost_bytes=self._streams.log.lost_bytes,
            tail=b"".join(self._tail),
        )
