"""Writes down what a training holds at each boundary, and cuts it where the orders say.

One for each process that `backprop prove` has started. Where it fails the proof fails, and no training: an error in here is
written into the stream and said by the command.
"""

from __future__ import annotations

import os
import signal
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol

from backprop_core import contract
from backprop_core.checkpoints.arrays import Translator
from backprop_core.checkpoints.numpy_arrays import NumpyTranslator
from backprop_core.checkpoints.store import Loaded
from backprop_core.launched_rank import launched_rank
from backprop_core.ports.framework import frameworks_in_use
from backprop_core.prove.orders import Orders, orders_here
from backprop_core.prove.pieces import Digests, Group, Pieces
from backprop_core.prove.stream import Moment, StreamWriter
from backprop_core.prove.witness import Witness
from backprop_core.script_state.unkept import Unkept, noted_in_workers

_CUT = "cut here by backprop prove"


class RecordedState(Protocol):
    """What is asked of a training's state."""

    translators: Sequence[Translator]

    def position(self) -> Any: ...

    def witness(self) -> Witness: ...

    def unkept(self) -> Sequence[Unkept]: ...


class RecordedSession(Protocol):
    """What is asked of a session."""

    restored: Loaded | None
    requests: Any
    hands: Any

    @property
    def training_state(self) -> RecordedState: ...

    @property
    def is_cut(self) -> bool: ...

    def cut_here(self, why: str) -> None: ...


class Recorder:
    """Records and cuts one process.

    Attributes:
        opened: a session has come to its first boundary, or has everything back.
    """

    def __init__(self, orders: Orders, environ: Any = os.environ) -> None:
        self.orders = orders
        attempt = int(environ.get(contract.ATTEMPT, "1"))
        self._writer = StreamWriter(orders.stream, attempt, launched_rank(environ) or 0)
        self._digests: Digests | None = None
        self._pending: list[str] = []
        self._logged: dict[str, str] = {}
        self._last = -1
        self._places = 0
        self._unkept: set[str] = set()
        self.opened = self._saved = self._faulty = False

    # -- what is trained on ------------------------------------------------------------------------------------

    def items(self, items: Iterable[Any]) -> Iterable[Any]:
        """The same items; each is noted when it is given."""
        return _Noted(iter(items), self.batch)

    def batch(self, value: object) -> None:
        """A step will be trained on `value`. Its digest is taken now: a script may change it in place."""
        self._guarded(lambda: self._batch(value))

    def _batch(self, value: object) -> None:
        digest = self._known_digests().batch(value)
        if digest:
            self._pending.append(digest)

    def _known_digests(self) -> Digests:
        if self._digests is None:
            frameworks = frameworks_in_use()
            self._digests = Digests(frameworks, [*(one.translator for one in frameworks), NumpyTranslator()])
        return self._digests

    def _guarded(self, what: Callable[[], None]) -> None:
        """A fault of ours ends the proof, and not the script."""
        if self._faulty:
            return
        try:
            what()
        except Exception as error:
            self._faulty = True
            self._writer.told(fault=f"{type(error).__name__}: {error}", where=traceback.format_exc())

    def logged(self, values: Mapping[str, Any]) -> None:
        """The training has logged these since the last boundary."""
        self._guarded(lambda: self._logged.update(self._known_digests().leaves(dict(values), "logged")))

    # -- boundaries --------------------------------------------------------------------------------------------

    def at_boundary(self, session: RecordedSession, *, decides: bool = True) -> None:
        """A boundary: the first of each step is written down, and the orders for it are carried out."""
        step = session.training_state.position().step
        self._guarded(lambda: self._write_down(session, step))
        if decides:
            self._obey(session, step)

    def _write_down(self, session: RecordedSession, step: int) -> None:
        self._open(session)
        if step > self._last:
            self._record(session, step)

    def in_evaluation(self, session: RecordedSession) -> None:
        """A place at which an evaluation could be left."""
        if session.is_cut:
            return
        self._places += 1
        self._writer.told(evaluation=self._last, places=self._places)
        if self.orders.evaluation == (self._last, self._places):
            self._writer.told(left_evaluation=self._last)
            session.cut_here(_CUT)

    def arrived(self, session: RecordedSession) -> None:
        """A resumed attempt has put everything back, and its next step is a new one."""
        self._guarded(lambda: self._write_arrival(session))

    def _write_arrival(self, session: RecordedSession) -> None:
        self._open(session)
        if session.restored is not None:
            self._pending.clear()
            self._logged.clear()
            self._writer.moment(self._moment(session, session.restored.info.step, arrived=True))

    def _open(self, session: RecordedSession) -> None:
        if self.opened:
            return
        self.opened = True
        began_at = None if session.restored is None else session.restored.info.step
        self._last = -1 if began_at is None else began_at
        self._writer.told(began_at=began_at)
        if self.orders.deterministic:
            calls = [framework.refuse_nondeterminism() for framework in frameworks_in_use()]
            self._writer.told(refuses=[one for one in dict.fromkeys(calls) if one])

    def _record(self, session: RecordedSession, step: int) -> None:
        self._last, self._places = step, 0
        self._writer.moment(self._moment(session, step, arrived=False))
        self._logged.clear()
        if step > 0:
            self._pending.clear()

    def _moment(self, session: RecordedSession, step: int, *, arrived: bool) -> Moment:
        state = session.training_state
        witness = state.witness()
        # Adapters wake frameworks as they go, so the list is asked for anew.
        if self._digests is None or self._last <= 0:
            self._digests = Digests(frameworks_in_use(), state.translators)
        pieces: Pieces = self._digests.of(witness)
        pieces |= {name: (Group.LOGGED, digest) for name, digest in self._logged.items()}
        position = state.position()
        batches = list(self._pending) if step > 0 and not arrived else []
        return Moment(step, position.epoch, position.batch, pieces, batches, arrived)

    def stepped_aside(self, text: str) -> None:
        """After a fault of ours the training goes on without us, so nothing can be said of it."""
        self._writer.told(fault=text)

    def name_unkept(self, session: RecordedSession) -> None:
        """A checkpoint was made: what changes and is not in it."""
        for one in (*session.training_state.unkept(), *noted_in_workers()):
            if one.name not in self._unkept:
                self._unkept.add(one.name)
                self._writer.told(unkept=one.name, why=str(one), what_to_do=one.what_to_do)

    # -- orders ------------------------------------------------------------------------------------------------

    def _obey(self, session: RecordedSession, step: int) -> None:
        orders = self.orders
        if orders.save_at is not None and step >= orders.save_at and not self._saved:
            self._saved = True
            session.requests.save_asked = True
        if orders.kill_at is not None and step >= orders.kill_at:
            session.hands.wait()
            self._writer.told(killed=step)
            os.kill(os.getpid(), signal.SIGKILL)
        if orders.stop_at is not None and step >= orders.stop_at:
            session.cut_here(_CUT)


class _Noted:
    """An iterator whose items are noted."""

    def __init__(self, iterator: Iterator[Any], note: Any) -> None:
        self._iterator = iterator
        self._note = note

    def __iter__(self) -> _Noted:
        return self

    def __next__(self) -> Any:
        item = next(self._iterator)
        self._note(item)
        return item


_recorder: Recorder | None = None


def recorder() -> Recorder | None:
    """The one of this process; None where nothing is to be proven."""
    global _recorder
    if _recorder is None:
        orders = orders_here()
        _recorder = None if orders is None else Recorder(orders)
    return _recorder
