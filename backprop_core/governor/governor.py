"""The loop outside the script: one thread, one wait, and a decision after each.

It wakes for output, signals, keys and the next due moment, and four times a second for the run's folder.
"""

from __future__ import annotations

import math
import os
import select
import signal
from collections.abc import Callable
from contextlib import nullcontext, suppress

from backprop_core.clock import Clock
from backprop_core.events.kinds import Complained
from backprop_core.governor import kernel
from backprop_core.governor.hearing import Hearing
from backprop_core.governor.keeper import Charge, Keepers
from backprop_core.governor.leftovers import LEFTOVER_GRACE_S, Leftovers
from backprop_core.governor.monitor import DECIDED, Monitor
from backprop_core.governor.observed import EndCause, Ending, View
from backprop_core.governor.order import Observer, Order
from backprop_core.governor.plan import Move
from backprop_core.governor.planner import Planner
from backprop_core.governor.signals import WARNINGS, SignalInbox
from backprop_core.governor.spawn import Child, spawn
from backprop_core.governor.stdout_messages import Heard
from backprop_core.governor.steering import Steering
from backprop_core.governor.streams import Streams, keep_keys
from backprop_core.governor.survivor_commit import Survival
from backprop_core.governor.survivors import Survivors
from backprop_core.governor.tree import Family
from backprop_core.runs.attempt import OUTPUT_FILE

TICK_S = 0.25


class Governor:
    """Runs one script to its end.

    Args:
        order: what to run.
        clock: the time.
        observer: who is told.
        started: called with the script's pid once it runs; an error from it ends the script.
        checkpoint: called with the path of each checkpoint that the session or the script announces.
        monitor: samples the machine and judges; None for no such watch.
        first_step: called once, when the script is seen to train.
        looked: called at each look, four times a second.
        inbox: where signals arrive; open, and what comes after the script's end stays in it. None: one of its own.
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
        looked: Callable[[], None] = lambda: None,
        inbox: SignalInbox | None = None,
    ) -> None:
        self.order = order
        self._hearing = Hearing(order, observer, checkpoint)
        self.session = self._hearing.session
        self.killed = False
        self._parent_ended = order.session_dir is not None
        self.survival: Survival | None = None
        self._clock = clock
        self._observer = observer
        self._started = started
        self._monitor = monitor
        self._first_step: Callable[[], None] | None = first_step
        self._looked = looked
        self._given_inbox = inbox
        self._poll = select.poll()
        self._wanted: list[tuple[int, int]] = []
        self._troubles: set[str] = set()

    @property
    def heard(self) -> Heard:
        """What the script has said on stdout so far."""
        return self._hearing.heard

    @property
    def deadline(self) -> float:
        """The monotonic instant by which the script must be gone; infinity while it is paused."""
        return math.inf if self.steering.paused else self.steering.deadline

    def written_files(self) -> set[str]:
        """What the script and its descendants have open for writing."""
        root = self._process.pid
        return kernel.written_files(kernel.descendants(root) or {root})

    def run(self) -> Ending:
        """Start the script and return when it and all of its family are gone.

        Raises:
            UsageError: it could not be started.
        """
        kernel.become_subreaper()
        given = self._given_inbox
        with SignalInbox(self.order.warnings) if given is None else nullcontext(given) as self._inbox:
            began = self._clock.monotonic()
            self._survivors = Survivors(
                self.order.attempt_dir,
                self._clock,
                told=self._survived,
                changed=lambda: self._keepers.tell_remains(self._survivors.remains),
            )
            try:
                child = spawn(self.order.argv, cwd=self.order.cwd, env=self.order.env)
            except BaseException:
                self._survivors.close()
                raise
            self._take_charge(child)
            try:
                self._started(child.pid)
                self._watch()
                self._ended_at = self._clock.monotonic()
            finally:
                leftovers = self._finish()
                self._survive()
                self._keepers.dismiss()
                if not kernel.childless():
                    leftovers += self._sweep()
        gone_at = self._leftovers.gone_at
        return self._ending(gone_at - began, self.steering.deadline - gone_at, leftovers)

    def _take_charge(self, child: Child) -> None:
        order, say = self.order, self._observer.say
        log = order.attempt_dir / OUTPUT_FILE
        self._process = child.process
        self._family = Family(child.pid, governor=os.getpid())
        self.steering = Steering(
            order.attempt_dir, order.deadline, order.grace_s, self.session, self._clock, say, self._family
        )
        self._streams = Streams(
            child,
            log,
            listen=self._hearing.listen,
            keep=self._hearing.keep,
            before=self._observer.before_output,
            after=self._observer.after_output,
        )
        drains = [stream.fd for stream in self._streams.sources]
        charge = Charge(child.pid, drains, log, order.grace_s, order.deadline)
        self._keepers = Keepers(charge, self._clock, self._family.spare)
        self._survivors.watch_over(child.pid)
        self._planner = Planner(order, child.pid, self.session, self.steering)
        self._leftovers = Leftovers(self._family, self._clock, self._wait, lambda: self.steering.deadline)
        self.steering.fixed_end = order.fixed_end
        self.steering.box_end = order.deadline if order.box_end is None else order.box_end
        self.steering.moved = self._keepers.tell_deadline
        if self._monitor is not None:
            self.steering.note = self._monitor.log.write

    # The watch

    def _watch(self) -> None:
        with keep_keys(self._streams.keys):
            looked_at, stirred = -math.inf, True
            while True:
                now = self._clock.monotonic()
                looks = now - looked_at >= TICK_S
                if (looks or stirred) and self._process.poll() is not None:
                    return
                stirred = False
                if looks:
                    looked_at = now
                    self._look()
                    # Nothing that it rests on changes when there is only output to pass on.
                    plan = self._planner.plan(now)
                if plan.due(now):  # the script may have joined, or been extended, a moment ago
                    self._read_events()
                    self.steering.read_requests()
                    plan = self._planner.plan(now)
                if plan.due(now):
                    self._make(plan.move)
                    plan, stirred = self._planner.plan(now), True
                self._wait(min(looked_at + TICK_S, plan.at) - self._clock.monotonic())
                for number in self._inbox.take():
                    self._on_signal(number)
                    plan, stirred = self._planner.plan(self._clock.monotonic()), True

    def _make(self, move: Move) -> None:
        self.steering.cause = self.steering.cause or EndCause.DEADLINE
        if move is Move.ASK:
            self.steering.ask()
        elif move is Move.KILL:
            self.killed = True
            self._family.kill()
            self._wait(0.02)

    def _wait(self, timeout_s: float) -> None:
        wanted = [(self._inbox.fd, select.POLLIN), *self._streams.waited_for(), *self._survivors.waited_for()]
        if wanted != self._wanted:
            self._wanted, self._poll = wanted, select.poll()
            for fd, events in wanted:
                self._poll.register(fd, events)
        for fd, _ in self._poll.poll(max(0, math.ceil(timeout_s * 1000))):
            if fd == self._inbox.fd:
                self._inbox.drain()
            elif not self._survivors.ready(fd):
                self._streams.ready(fd)

    def _on_signal(self, number: signal.Signals) -> None:
        if number in self._inbox.asks_to_end:
            if self.steering.hear(number):
                self._make(Move.KILL)
        elif number in WARNINGS:
            self.steering.pass_on(number)
        elif number is signal.SIGTSTP:
            self._observer.before_output()
            self._streams.leave_keys()
            self.steering.suspend(self._inbox.stop_oneself)
            self._streams.enter_keys()
        elif number is signal.SIGCONT:
            self._streams.enter_keys()
        elif number is signal.SIGWINCH:
            self._streams.resize()

    # Looking, four times a second
    def _look(self) -> None:
        steering, keepers = self.steering, self._keepers
        checks = (
            self._read_events,
            steering.read_requests,
            keepers.tend,
            self._sample,
            self._looked,
            self._family.reap,
        )
        for part in checks:
            self._unharmed(part)
        if self._first_step is not None and self._hearing.trains():
            self._first_step()
            self._first_step = None
        self._unharmed(lambda: self._observer.tick(self._view()))

    def _unharmed(self, part: Callable[[], None]) -> None:
        """Do a part of a look; whatever a file makes it trip over is said once, and the time box holds."""
        try:
            part()
        except Exception as error:
            text = f"A check failed ({type(error).__name__}: {error}); the time box still applies."
            if text not in self._troubles:
                self._troubles.add(text)
                self._observer.say(text)

    def _view(self) -> View:
        steering, monitor = self.steering, self._monitor
        return View(
            now=self._clock.monotonic(),
            deadline=steering.deadline,
            session=self.session,
            heard=self.heard,
            paused=steering.paused,
            starting=self._hearing.starts_up(),
            quiet=self._streams.quiet,
            in_bar=self._streams.in_bar,
            memory_bytes=monitor.last_bytes if monitor is not None else 0,
            gpus=monitor.own_gpus() if monitor is not None else (),
        )

    def _read_events(self) -> None:
        self._hearing.read_events()
        if self.session.left_in_child and not self._parent_ended:
            self._parent_ended = True
            self.steering.end_parent()

    def _sample(self) -> None:
        monitor, now = self._monitor, self._clock.monotonic()
        if monitor is None or not monitor.due(now):
            return
        family = self._family.near() if monitor.wants_family() else None
        judgement = monitor.sample(now, family, max(5.0, 2.0 * self.session.save_s))
        if self.session.progress is None:
            monitor.heard(self.heard.step, self.heard.loss)
        complaint = monitor.complaint()
        if complaint:
            monitor.log.write(Complained(complaint))
            self._observer.say(complaint)
        if self.steering.follow(judgement):
            monitor.log.write(DECIDED[judgement.course](judgement.reason))

    # The end

    def _finish(self) -> tuple[str, ...]:
        """Leave no process of the script behind; the command lines of those that had to be ended."""
        if self._process.poll() is None:  # we are here because something went wrong in the governor itself
            self._family.kill()
            self._process.wait()
        self._streams.drain()
        leftovers = self._sweep()
        self._streams.drain()
        self._read_events()
        self.steering.notice_unread_stop()
        self._observer.before_output()
        with suppress(KeyboardInterrupt):
            self._streams.finish()
        return leftovers

    def _survive(self) -> None:
        """Commit what trainings that died without a word have left. One whose script ended well by itself is not wanted."""
        finished = self.session.finished
        cut_short = finished is not None and self.session.ends_itself
        if self._process.returncode or self.steering.cause is not None or cut_short:
            self._unharmed(self._survivors.commit_all)
        self._survivors.close()

    def _survived(self, survival: Survival) -> None:
        self.survival = survival
        if self._monitor is not None:
            self._monitor.log.write(survival.event())
        if survival.trouble:
            self._observer.say(survival.trouble)
        if survival.path is not None:
            self.session.checkpoints.append(survival.path)
            self._hearing.announce(survival.path)

    def _sweep(self) -> tuple[str, ...]:
        """A training that its launcher has left behind gets the time that it needs to save."""
        trains = self.session.started is not None and self.session.finished is None
        grace_s = max(LEFTOVER_GRACE_S, self.order.grace_s) if trains else LEFTOVER_GRACE_S
        return self._leftovers.end(killed=self.killed, grace_s=grace_s)

    def _ending(self, used_s: float, unused_s: float, leftovers: tuple[str, ...]) -> Ending:
        steering = self.steering
        return Ending(
            returncode=self._process.returncode,
            cause=steering.cause,
            detail=steering.detail,
            killed=self.killed,
            session=self.session,
            heard=self.heard,
            used_s=used_s,
            exit_s=self.session.exit_s(self._ended_at),
            unused_s=unused_s,
            leftovers=leftovers,
            pauses=steering.pauses_until_now(),
            lost_bytes=self._streams.log.lost_bytes,
            tail=self._hearing.tail,
            survival=self.survival,
            pid=self._process.pid,
        )
