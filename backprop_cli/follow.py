"""The governor of a task that is not the first: its script belongs to the first one's run, whose attempts it follows."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from pathlib import Path

from backprop_cli.notices import Notices
from backprop_cli.tasks import Task, Word
from backprop_core import contract
from backprop_core.clock import Clock
from backprop_core.config.sources import Settings
from backprop_core.errors import UsageError
from backprop_core.governor.governor import Governor
from backprop_core.governor.observed import Line, View
from backprop_core.governor.order import Observer, Order
from backprop_core.governor.signals import SignalInbox, warning_signals
from backprop_core.quick_dataclass import dataclass
from backprop_startup.path_entry import put_in_front

LOOK_EVERY_S = 0.1
PATIENCE_S = 60.0
"""What the first task gets, beyond the grace, to write down how an attempt ended; its script has ended with ours."""


class _Quiet:
    """Shows what the script prints and what this governor has to say; the first task's shows all else."""

    def __init__(self, observer: Observer, rank: int) -> None:
        self._observer = observer
        self._rank = rank

    def before_output(self, data: bytes = b"\n") -> None:
        self._observer.before_output(data)

    def after_output(self, at_line_start: bool) -> None:
        self._observer.after_output(at_line_start)

    def event(self, event: Line) -> None:
        """The first task's session has said something."""

    def say(self, text: str) -> None:
        self._observer.say(f"task {self._rank}: {text}")

    def tick(self, view: View) -> None:
        """The first task's governor tells."""


@dataclass(frozen=True, slots=True)
class Follower:
    """Follows the first task from attempt to attempt.

    Args:
        task: this one.
        home: where the first task leaves word.
        argv, cwd: how the script is started here.
        settings: of this command.
    """

    task: Task
    home: Path
    argv: Sequence[str]
    cwd: str
    settings: Settings
    clock: Clock
    observer: Observer

    def run(self, own_run: str | None) -> int | None:
        """Follow until the first task ends; its exit status, or that of the script here where it failed.

        Args:
            own_run: the id that this command was given: where the first task's run is another, this one is its own.

        Returns:
            None where there is nothing to follow.

        Raises:
            UsageError: the first task's run was not found.
        """
        warnings = warning_signals(self.settings["warning-signals"])
        with SignalInbox(warnings) as inbox:
            word = self._next(0, inbox, self.settings["wait-minutes"] * 60.0 + PATIENCE_S)
            if word is None:
                raise UsageError(
                    f"Task {self.task.rank} of {self.task.count} found no run of task 0 in {self.home}.",
                    f"Set {contract.HOME} to one folder that all of them share, or give each its own --run-id.",
                )
            if own_run is not None and own_run != word.run_id:
                return None
            self.observer.say(
                f"task {self.task.rank} of {self.task.count}: follows run {word.run_id} of task 0."
            )
            while word.status is None:
                status = self._attempt(word, inbox)
                if status:
                    return status
                after = self._next(word.attempt, inbox, self.settings["grace"] + PATIENCE_S)
                if after is None:
                    return status
                word = after
            return word.status

    def _next(self, attempt: int, inbox: SignalInbox, patience_s: float) -> Word | None:
        """The word on an attempt behind number `attempt`, or on the end of it all; None where none comes."""
        end = self.clock.monotonic() + patience_s
        while self.clock.monotonic() < end:
            word = Word.read(self.task.file(self.home))
            if word is not None and (word.attempt > attempt or word.status is not None):
                return word
            if attempt == 0 and inbox.told_to_leave():
                return None
            self.clock.sleep(LOOK_EVERY_S)
        return None

    def _attempt(self, word: Word, inbox: SignalInbox) -> int:
        """Run the script once; its exit status where it failed, else 0."""
        folder = Path(word.attempt_dir, f"task-{self.task.rank}")
        folder.mkdir(parents=True, exist_ok=True)
        deadline = math.inf if word.left_s is None else self.clock.monotonic() + word.left_s
        order = Order(
            argv=self.argv,
            cwd=self.cwd,
            env=self._environment(word),
            attempt_dir=folder,
            deadline=deadline,
            budget_s=word.budget_s,
            grace_s=self.settings["grace"],
            warnings=warning_signals(self.settings["warning-signals"]),
            session_dir=Path(word.attempt_dir),
        )
        observer = _Quiet(self.observer, self.task.rank)
        notices = Notices(self.settings, None, self.clock, observer.say)
        watch = _Watch(self, word, notices)
        governor = Governor(
            order,
            self.clock,
            observer,
            looked=lambda: watch.look(governor),
            inbox=inbox,
        )
        try:
            ending = governor.run()
        finally:
            notices.close()
        if ending.cause is not None or ending.returncode == 0:
            return 0
        return 128 - ending.returncode if ending.returncode < 0 else ending.returncode

    def _environment(self, word: Word) -> dict[str, str]:
        base = {key: value for key, value in os.environ.items() if key not in contract.OF_ONE_ATTEMPT}
        environment = {**base, **word.told, contract.GOVERNOR_PID: str(os.getpid())}
        put_in_front(environment)
        return environment


class _Watch:
    """Looks at what the first task says while the script runs here."""

    def __init__(self, follower: Follower, word: Word, notices: Notices) -> None:
        self._notices = notices
        self._path = follower.task.file(follower.home)
        self._clock = follower.clock
        self._grace_s = follower.settings["grace"]
        self._word = word
        self._over = False

    def look(self, governor: Governor) -> None:
        self._notices.look(governor)
        word = Word.read(self._path)
        if word is None or word == self._word or self._over:
            return
        now = self._clock.monotonic()
        if word.attempt != self._word.attempt or word.status is not None:
            self._over = True  # the others are gone, and ours has the grace to be
            governor.steering.set_deadline(min(governor.deadline, now + self._grace_s))
        else:
            governor.steering.set_deadline(math.inf if word.left_s is None else now + word.left_s)
        self._word = word
