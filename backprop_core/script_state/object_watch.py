"""What a framework's training changes in the script's own objects: its modules, its callbacks, its Trainer.

Remembered before the first epoch begins, so that what a hook makes that is not called for a resumed epoch comes back with
the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from backprop_core.checkpoints.arrays import Translator
from backprop_core.ports.framework import Framework
from backprop_core.script_state.arrays import copied
from backprop_core.script_state.kinds import Kind
from backprop_core.script_state.process_settings import ProcessSettings
from backprop_core.script_state.state import Missing, Root, ScriptState, Unkept

_GO_ON = (Kind.ITERATOR, Kind.PART)


class ObjectWatch:
    """The state of the objects that one training is about.

    Args:
        roots: they, by names that are the same in each process; asked whenever the state is looked at.
        elsewhere: whether the checkpoint has an object in other ways, or it is the framework's own.
        frameworks: they know their generators and the parts of their objects.
        translators: they know arrays.
        refresh: called before the state is looked at: what the checkpoint has by itself may be another by now.
        read_by_loops: see `ScriptState`.
    """

    def __init__(
        self,
        roots: Callable[[], Sequence[Root]],
        elsewhere: Callable[[object], bool],
        frameworks: Sequence[Framework],
        translators: Sequence[Translator],
        refresh: Callable[[], None] = lambda: None,
        read_by_loops: Callable[[], Collection[int] | None] = tuple,
    ) -> None:
        self._refresh = refresh
        self._holds = False
        settings = ProcessSettings(frameworks)
        self.state = ScriptState(
            lambda: [*roots(), settings],
            tracked_elsewhere=elsewhere,
            frameworks=frameworks,
            translators=translators,
            read_by_loops=read_by_loops,
        )

    def begin(self) -> None:
        """Training is about to begin: remember how things are, once."""
        if not self.state.has_baseline:
            self._refresh()
            self.state.baseline()

    def begin_anew(self) -> None:
        """What is there now is how it is when training begins; what has changed before is in every checkpoint."""
        self.note_touched()
        self.state.begin_anew()

    @contextmanager
    def as_it_was(self, saved: Any) -> Iterator[None]:
        """Inside, things are as `capture` has told them, as far as they are there already; outside as before.

        An iterator stays where it is: it cannot go back.
        """
        self.begin()
        self._refresh()
        then = {**saved, "nodes": [node for node in saved["nodes"] if node["kind"] not in _GO_ON]}
        self._hold()
        self.state.expect(then)
        before = copied(self.state.changed())
        self.state.restore(copied(then))
        try:
            yield
        finally:
            self._refresh()
            self.state.restore(before)

    def capture(self) -> Any:
        """What has changed since, as a copy; None before the beginning."""
        if not self.state.has_baseline:
            return None
        self._refresh()
        return copied(self.state.changed())

    def note_touched(self) -> None:
        """What has changed by now is in every later checkpoint, though it may be what it was again: a hook that a resumed
        process runs once more has touched it.
        """
        if self.state.has_baseline:
            self._refresh()
            self.state.changed()

    def restore(self, saved: Any) -> list[Missing]:
        """Put back what `capture` gave; what could not be. Earlier versions stored nothing of it."""
        if not isinstance(saved, Mapping):
            return []
        self.begin()
        self._refresh()
        self._hold()
        return self.state.restore(saved).missing

    def _hold(self) -> None:
        """Until `settled`: what is put back next is found by what it is, wherever this puts it."""
        if not self._holds:
            self._holds = True
            self.state.hold()

    def settled(self) -> None:
        """Nothing more is put back."""
        self._holds = False
        self.state.let_go()

    def unkept(self) -> list[Unkept]:
        """What had changed when it was last taken, and is not in it."""
        return self.state.unkept()


def callbacks_by_name(callbacks: Iterable[Any], ours: Callable[[Any], bool]) -> list[Root]:
    """Those that the script has made, as `callback Name`, `callback Name 2`, ….

    Args:
        callbacks: all of a training, in their order; a name's number counts those of the framework, too.
        ours: whether one is the script's.
    """
    named: list[Root] = []
    count: dict[str, int] = {}
    for callback in callbacks:
        name = type(callback).__name__
        count[name] = count.get(name, 0) + 1
        if ours(callback):
            named.append(
                (f"callback {name}" if count[name] == 1 else f"callback {name} {count[name]}", callback)
            )
    return named


def package_of(value: object) -> str:
    """The top-level package that a value's class is from; nothing of the script's runs."""
    module = type.__dict__["__module__"].__get__(type(value))
    return module.partition(".")[0] if isinstance(module, str) else ""
