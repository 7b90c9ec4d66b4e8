"""The passes that a script makes over its loaders: noted while they run, and begun in the middle of an interrupted one."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any
from weakref import WeakKeyDictionary

import torch

from backprop_core.errors import BackpropError
from backprop_core.ports.loaders import RandomnessKeeper
from backprop_core.ports.pass_position import Draws
from backprop_core.ports.unmodified_loop import LoopListener
from backprop_core.session.proof import recorder_of
from backprop_torch.accelerated import fetched_ahead
from backprop_torch.dataloader_state import generators_of, pass_start, restore_start
from backprop_torch.held_batch import batch_from_state
from backprop_torch.known_iterators import KnownIterators
from backprop_torch.loader_facts import loader_length, loader_of
from backprop_torch.loader_skip import iterator_behind
from backprop_torch.pass_workers import PassWorkers
from backprop_torch.passes import Pass, Passes, Resumption, signature_of
from backprop_torch.staying_workers import note_end_of_pass, note_workers
from backprop_torch.step_counter import StepCounter
from backprop_torch.worker_states import made_noting


class PassWatch:
    """Notes passes and finds boundaries between their batches. A `LoaderListener`.

    Attributes:
        book: all passes of the process.
        trained: the pass whose batch the last step used; None: no loader is read in this thread.
        last_asked: the pass that was asked for a batch last.
        missed: the pass that was to go on is under way already: no step has an effect until it does.
        replacing: the next pass that is read goes on as the interrupted one.
        begin_anew: the next pass that is read begins anew.
        blind: the place in the data is not followed.
        read_elsewhere: another thread than the one that trains has read a pass.
    """

    def __init__(self, listener: LoopListener, randomness: RandomnessKeeper, loop: StepCounter) -> None:
        self._listener = listener
        self._randomness = randomness
        self._loop = loop
        self._owner = os.getpid()
        known = KnownIterators()
        self._known, self._passes, self._born = known, known.passes, known.born
        self._note, self._torchs_own = known.note, known.torchs_own
        self._instead: WeakKeyDictionary[Any, Any] = WeakKeyDictionary()
        self._held: WeakKeyDictionary[Any, Any] = WeakKeyDictionary()
        self._at: Pass | None = None
        self._inside = False
        self._recorder = recorder_of()
        self.book = Passes()
        self.last_asked: Pass | None = None
        self.trained: Pass | None = None
        self.missed = self.replacing = self.begin_anew = self.blind = False
        self.read_elsewhere = False

    def place(self) -> dict[str, Any]:
        """Where the passes stand, for a checkpoint."""
        at = self._at if self._at is not None and self._at.has_batches else None
        return self.book.place(at, self.trained, self._passes.values())

    def resume(self, position: Mapping[str, Any], when_begun: Callable[[], object], *, midway: bool) -> bool:
        """The next pass over the matching loader is to start at `position`. True: it will."""
        kind = position.get("kind")
        self.begin_anew = midway and kind == "between"
        self.replacing = midway
        self.book.resumptions = [Resumption(place, None) for place in position.get("beside", [])]
        if kind == "loader" or (not midway and position.get("signature")):
            self.book.resumptions.append(Resumption(position, when_begun, anew=kind == "between"))
            return True
        return False

    def forked(self) -> None:
        """This process is a fork of the one that was watched, and is watched in its place."""
        self._owner = os.getpid()

    def close(self) -> None:
        """Hold on to nothing."""
        self.book = Passes()
        self.last_asked = self.trained = self._at = None
        self._known.clear()
        self._instead.clear()

    def step_taken(self, *, nullified: bool) -> None:
        """A step is over."""
        if self.last_asked is not None:
            self.trained = self.last_asked
        if not nullified:
            self.book.step_taken()
            self.replacing = False

    def came_too_early(self) -> bool:
        """Whether this step is of the pass that was to go on, which began with fewer passes before it than it had once."""
        last = self.last_asked
        return last is not None and any(
            one.when_begun is not None and not one.begun and not one.anew
            and one.fits(last.signature, last.number, any_number=True)
            for one in self.book.resumptions
        )  # fmt: skip

    # -- what the loaders' patched methods tell ----------------------------------------------------------------

    def next(self, original: Callable[[Any], Any], iterator: Any) -> Any:
        """A batch is asked for."""
        if self._inside or self.blind:
            return original(iterator)
        if not self._loop.is_ours():
            self._is_read_elsewhere(iterator)
            return original(iterator)
        try:
            current = self._asked(iterator)
        except BackpropError:
            raise
        except Exception as error:
            self._go_blind(error)
            return original(iterator)
        if current is not None and current.ahead:
            current.newest = generators_of(current.loader()).before_batch()
        torchs = self._instead.get(iterator, iterator)
        try:
            data = self._held.pop(torchs) if torchs in self._held else original(torchs)
        except StopIteration:
            if current is not None:
                current.over = True
                current.made.drop()
                if (loader := current.loader()) is not None:
                    note_end_of_pass(loader)
            raise
        if current is not None:
            current.yielded += 1
            loader = current.loader() if current.ahead else None
            if loader is not None and not loader.num_workers:  # what workers change stays with them
                current.made.hold(data)
        if self._recorder is not None and self._recorder.opened and torch.is_grad_enabled():
            self._recorder.batch(data)  # before a session is open another adapter may be about to train
        return data

    def _asked(self, iterator: Any) -> Pass | None:
        """Just before a batch is fetched; the pass that it is of."""
        current = self._passes.get(iterator)
        if current is None and not iterator._num_yielded:
            current = self._meet_iterator(iterator)
        if self._loop.step_is_open():
            self._between(current)
        if current is not None:
            if self.replacing:
                self._begin_instead(iterator, current, late=True)
            elif not current.yielded and torch.is_grad_enabled():
                self._listener.pass_begins()
                if (
                    self.book.resumption(current.signature, current.number, late=False, fresh=True)
                    is not None
                ):
                    self._begin_instead(iterator, current, late=False)
            if torch.is_grad_enabled():
                self.book.asked(current)
            if not current.yielded or (current.cycle and not current.yielded % current.cycle):
                current.asked, current.behind = self._reigns(current.loader()), current.yielded
        self.last_asked = current
        return current

    def _is_read_elsewhere(self, iterator: Any) -> None:
        """Another thread reads, and how much of that is used nobody knows."""
        current = self._passes.get(iterator) if os.getpid() == self._owner else None
        if current is not None and not current.elsewhere:
            self.read_elsewhere = current.elsewhere = True
            current.dropped()

    def _meet_iterator(self, iterator: Any) -> Pass | None:
        """One that was made before the loop was watched, and has given nothing: endless loaders make one for all epochs."""
        loader = loader_of(iterator)
        if loader is None or loader.num_workers:  # workers have asked for their first batches already
            return None
        signature = signature_of(loader)
        number = self.book.next_number(signature) if torch.is_grad_enabled() else 0
        before = pass_start(loader, self._randomness, generators_of(loader))
        return self._note(loader, iterator, type(iterator), signature=signature, number=number, before=before)

    def _go_blind(self, error: Exception) -> None:
        """The place in the data is not followed any more; boundaries come with the optimizer's steps."""
        self.blind = True
        self.book.resumptions.clear()
        self.last_asked = self.trained = self._at = None
        self.replacing = self.missed = False
        self._listener.cannot_follow(error, entirely=False)

    def _between(self, current: Pass | None) -> None:
        """Steps were taken, and a batch of `current` is asked for: a boundary, unless an epoch is not quite over."""
        trained = self.trained
        if self.missed:
            self.replacing = True
            return
        among = current is not None and torch.is_grad_enabled() and self.book.trains(current)
        if current is not None and current.is_used_up and (among or current is trained):
            current.over = True  # what is asked for is its end: the code behind the loop comes first
            return
        alike = trained is None or current is None or current.signature == trained.signature
        if among or (alike and not self.book.in_evaluation()):
            self._at = current
            self._loop.at_boundary(epoch_end=current is not None and current.is_at_last)
        elif self._listener.must_leave():  # an evaluation: the next epoch is begun anew
            self._at = None
            self._loop.at_boundary(epoch_end=True)

    def _begin_instead(self, iterator: Any, current: Pass, *, late: bool) -> None:
        """This pass was begun before its place was known: go on with the one that was interrupted."""
        found = self.book.resumption(current.signature, current.number, late=late)
        loader = current.loader()
        if (found is None and not self.begin_anew) or current.make is None or loader is None:
            return
        self.begin_anew = False
        now = self._randomness.randomness()
        self._inside = True
        try:
            other = self._begin_pass(loader, current.make, found, current.number)
        except BaseException:
            self._randomness.set_randomness(now)
            raise
        finally:
            self._inside = False
        mine = self._passes.pop(self._torchs_own(other))
        self._instead[iterator] = other
        current.before, current.asked, current.yielded = mine.before, mine.asked, mine.yielded
        current.workers = mine.workers
        self._passes[iterator] = current

    def begin(self, original: Callable[[Any], Any], loader: Any) -> Any:
        """A pass over `loader` begins."""
        if self._inside or self.blind or not self._loop.is_ours():
            return original(loader)
        now = None
        try:
            if torch.is_grad_enabled():
                self._listener.pass_begins()
            now = self._randomness.randomness()
            self._inside = True
            found, number = None, 0
            if torch.is_grad_enabled():  # an evaluation over the same data is another pass
                signature = signature_of(loader)
                number = self.book.next_number(signature)
                found = self.book.resumption(signature, number, late=False)
            made = self._begin_pass(loader, original, found, number)
            current = self._passes.get(self._torchs_own(made))
            if current is not None:
                current.ahead = fetched_ahead()
        except BackpropError:
            raise
        except Exception as error:
            if now is not None:
                self._randomness.set_randomness(now)
            made = original(loader)  # where the error is the script's own it is raised here, as without us
            self._go_blind(error)
        finally:
            self._inside = False
        return made

    def born(self, iterator: Any) -> None:
        """Torch has made an iterator, perhaps inside of one of the script's."""
        if self._inside:
            self._born.append(iterator)

    def _begin_pass(
        self, loader: Any, make: Callable[[Any], Any], found: Resumption | None, number: int
    ) -> Any:
        """A new iterator, where `found` has stood; else at the beginning."""
        generators = generators_of(loader)
        self._born.clear()
        asked: Draws | None = None
        workers = PassWorkers(loader)
        if found is None or found.anew:
            if found is not None:
                self._goes_on(found)
                found.put_rest(generators)
            before, skip = pass_start(loader, self._randomness, generators), 0
            iterator = made_noting(make, loader)
        else:
            skip, now = found.batches(loader), self._randomness.randomness()
            there = found.position
            restore_start(loader, self._randomness, generators, there)
            with generators.resuming():
                before, asked = pass_start(loader, self._randomness, generators), there.first
            held = batch_from_state(there.held)
            go_on = workers.resumed(there, skip, loader_length(loader))
            iterator = iterator_behind(
                loader,
                skip + (held is not None),
                made=lambda: self._let_reign(loader, asked),
                make=lambda: made_noting(make, loader),
                inner=self._torchs_own,
                workers=go_on,
            )
            if workers.caveat:
                self._listener.not_exact(workers.caveat)
            self._randomness.set_randomness(now)
            found.put_rest(generators)
            self._goes_on(found)
            if held is None:
                generators.restore_before_batch(
                    there.newest
                )  # a batch that was fetched ahead is loaded again
            elif (inner := self._torchs_own(iterator)) is not None:
                self._held[inner] = held
        torchs = self._torchs_own(iterator)
        self._born.clear()
        if torchs is None:  # an iterator of the script's own, in which there is none of torch's
            return iterator
        note_workers(loader)
        workers.follow(torchs)
        self._note(
            loader,
            torchs,
            make,
            signature=signature_of(loader),
            number=number,
            before=before,
            yielded=skip,
            asked=asked,
            workers=workers,
        )
        return iterator

    def _reigns(self, loader: Any) -> Draws:
        """All random generators that a loader's sampler may draw from."""
        return Draws(self._randomness.randomness(), generators_of(loader).capture())

    def _let_reign(self, loader: Any, generators: Draws | None) -> None:
        if generators is not None:
            self._randomness.set_randomness(generators.everybodys)
            generators_of(loader).restore(generators.own)

    def _goes_on(self, found: Resumption) -> None:
        found.begun = True
        if found.when_begun is not None:
            if self.missed:  # the steps so far had no effect
                self.missed = False
                self._loop.forget_steps()
            found.when_begun()
