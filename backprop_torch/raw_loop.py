"""An unchanged training loop, watched from outside through torch's own optimizer hooks and its DataLoader.

The safe boundary is the start of the next iteration, before the next batch is fetched: only there have the scheduler, the
scaler and zero_grad had their turn. So the optimizer's hook merely notes that a step was taken, and the next call of a
loader's `__next__` is the boundary. After the last batch of an epoch that is the first batch of the next one, because the
code behind the inner loop (a scheduler, an evaluation, a print of the last loss) belongs to the epoch.

A loop without a DataLoader has no such place; there the boundary is just before the optimizer that began the cycle steps
again, with its gradients. A resume goes on at that very place: what the script has computed until then is replaced.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import FrameType
from typing import Any
from weakref import WeakKeyDictionary, WeakSet, ref

import torch
import torch.distributed as dist
from torch import nn
from torch.optim import Optimizer
from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook
from torch.utils.data import DataLoader
from torch.utils.data.dataloader import _BaseDataLoaderIter

from backprop_core.loop.resume_report import Place
from backprop_core.ports.framework import LoopListener, RandomnessKeeper
from backprop_torch.accelerated import fetched_ahead
from backprop_torch.dataloader_state import (
    generators_of,
    iterator_behind,
    loader_length,
    pass_start,
    restore_start,
)
from backprop_torch.discovery import in_use_with, live_objects, named, script_names
from backprop_torch.mistaken_owners import release_adopted
from backprop_torch.passes import Pass, Passes, Resumption, place_of, signature_of


class RawTorchLoop:
    """Notes steps and passes, finds boundaries, and can begin a pass in the middle."""

    def __init__(
        self, listener: LoopListener, randomness: RandomnessKeeper, caller: FrameType | None
    ) -> None:
        self._listener = listener
        self._randomness = randomness
        self._caller = caller
        self._owner = os.getpid()
        self._active: dict[int, Optimizer] = {}
        self._earlier: list[WeakSet[Optimizer]] = []
        self._retired: WeakSet[nn.Module] = WeakSet()
        self._first_cycle = True
        self._begin_anew = False
        self._stepped: set[int] = set()
        self._passes: WeakKeyDictionary[Any, Pass] = WeakKeyDictionary()
        self._instead: WeakKeyDictionary[Any, Any] = WeakKeyDictionary()
        self._last_asked: Pass | None = None
        self._trained: Pass | None = None
        self._at: Pass | None = None
        self._by_optimizer = False
        self._inside = False
        self._nullifying = False
        self._step_to_resume: Callable[[], object] | None = None
        self._book = Passes()
        self._replacing = False
        self._missed = False

    # -- the RawLoop port --------------------------------------------------------------------------------------

    @contextmanager
    def watch(self) -> Iterator[None]:
        """Hooks and two patched methods inside, exactly what was there before outside."""
        hooks = [
            register_optimizer_step_pre_hook(self._before_step),
            register_optimizer_step_post_hook(self._after_step),
        ]
        loader_iter, iterator_next = DataLoader.__iter__, _BaseDataLoaderIter.__next__
        own_iter = [(kind, vars(kind)["__iter__"]) for kind in _loader_classes() if "__iter__" in vars(kind)]
        for kind, original in own_iter:
            setattr(kind, "__iter__", self._patched_iter(original))  # noqa: B010 - not a method mypy may see assigned
        setattr(_BaseDataLoaderIter, "__next__", self._patched_next(iterator_next))  # noqa: B010
        setattr(DataLoader, "__init_subclass__", self._meet_subclass(own_iter))  # noqa: B010
        try:
            yield
        finally:
            delattr(DataLoader, "__init_subclass__")
            for kind, original in own_iter:
                setattr(kind, "__iter__", original)  # noqa: B010
            setattr(_BaseDataLoaderIter, "__next__", iterator_next)  # noqa: B010
            assert DataLoader.__iter__ is loader_iter
            for hook in hooks:
                hook.remove()
            self._caller = None

    def _meet_subclass(self, own_iter: list[tuple[type[Any], Any]]) -> Any:
        """A loader class that is defined later, with a way of its own to begin a pass, is watched as well."""

        def init_subclass(kind: type[DataLoader[Any]], /, **kwargs: Any) -> None:
            super(DataLoader, kind).__init_subclass__(**kwargs)
            if "__iter__" in vars(kind):
                own_iter.append((kind, vars(kind)["__iter__"]))
                setattr(kind, "__iter__", self._patched_iter(vars(kind)["__iter__"]))  # noqa: B010

        return classmethod(init_subclass)

    def objects(self) -> Mapping[str, object]:
        return self._named(in_use_with(self._active.values(), self._live()))

    def candidates(self) -> Mapping[str, object]:
        live = self._live()
        return self._named(in_use_with(self._active.values() if self._earlier else live[Optimizer], live))

    def _live(self) -> dict[type, list[Any]]:
        """Everything that exists, without the models of earlier trainings: they are no copies of this one's."""
        live = live_objects()
        live[nn.Module] = [module for module in live[nn.Module] if module not in self._retired]
        return live

    def _named(self, values: list[object]) -> Mapping[str, object]:
        if self._caller is not None:
            return named(values, script_names(self._caller))
        return named(values, script_names(sys._getframe(1), outermost_wins=True))

    def repair(self, states: dict[str, Any]) -> None:
        release_adopted(states, self.candidates)

    def position(self) -> Any:
        number = {"training": len(self._earlier)}
        if self._by_optimizer:
            return {"kind": "optimizer", **number}
        at = self._at if self._at is not None and self._at.has_batches else None
        return {**self._book.place(at, self._trained, self._passes.values()), **number}

    def resume(self, position: Any, when_begun: Callable[[], object], *, midway: bool = False) -> bool:
        if not isinstance(position, Mapping):
            return False
        kind = position.get("kind")
        if kind == "optimizer":
            self._step_to_resume = when_begun
            return True
        self._begin_anew = midway and kind == "between"
        self._replacing = midway
        beside = position.get("beside", [])
        self._book.resumptions = [Resumption(place, None) for place in beside]
        if kind == "loader" or (not midway and position.get("signature")):
            self._book.resumptions.append(Resumption(position, when_begun, anew=kind == "between"))
            return True
        return False

    def training_of(self, position: Any) -> int:
        number = position.get("training", 0) if isinstance(position, Mapping) else 0
        return number if isinstance(number, int) else 0

    def place_of(self, position: Any) -> tuple[Place, int]:
        return place_of(position)

    def goes_on_at_a_step(self, position: Any) -> bool:
        return isinstance(position, Mapping) and position.get("kind") == "optimizer"

    def step_is_open(self) -> bool:
        """Whether a step was taken since the last boundary."""
        return bool(self._stepped)

    def forked(self) -> None:
        """This process is a fork of the one that was watched, and is watched in its place."""
        self._owner = os.getpid()

    def nullify_until_boundary(self) -> None:
        """No step has an effect before the next boundary."""
        self._nullifying = True

    # -- hooks -------------------------------------------------------------------------------------------------

    def _before_step(self, optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        if os.getpid() != self._owner:
            return
        if id(optimizer) in self._stepped and self._trained is None:
            self._by_optimizer = True
            self._at_boundary(epoch_end=False)
        self._meet(optimizer)
        if self._step_to_resume is not None:
            go_on, self._step_to_resume = self._step_to_resume, None
            go_on()
        if self._came_too_early():
            if _one_of_several():  # a step that one rank alone takes back would set it apart for good
                self._book.resumptions.clear()
                self._listener.place_lost()
            else:
                self._missed = self._nullifying = True
        if self._nullifying:
            for known in self._active.values():
                known.zero_grad(set_to_none=True)

    def _came_too_early(self) -> bool:
        """Whether this step is of the pass that was to go on, which began with fewer passes before it than it had once."""
        last = self._last_asked
        return last is not None and any(
            one.when_begun is not None and not one.begun and not one.anew
            and one.fits(last.signature, last.number, any_number=True)
            for one in self._book.resumptions
        )  # fmt: skip

    def _meet(self, optimizer: Optimizer) -> None:
        """Which training of the process the step belongs to: another one begins with an optimizer that steps alone."""
        if id(optimizer) in self._active:
            return
        if self._trained is not None and self._last_asked is not self._trained:
            self._stepped.clear()  # the last step of another pass, which ended without a boundary
        if not self._active:
            self._active[id(optimizer)] = optimizer
            self._listener.first_step()
        elif self._stepped:
            self._active[id(optimizer)] = optimizer
            if not self._first_cycle:
                self._listener.objects_joined()
        else:
            self._begin_training(optimizer)

    def _begin_training(self, optimizer: Optimizer) -> None:
        back = [known for known in self._earlier if optimizer in known]
        if back:  # they take turns: one training
            for known in back:
                self._earlier.remove(known)
                self._active |= {id(one): one for one in known}
            self._listener.objects_joined()
            return
        trained = {id(p) for group in optimizer.param_groups for p in group["params"]}
        for value in in_use_with(self._active.values(), self._live()):
            if isinstance(value, nn.Module) and not any(id(p) in trained for p in value.parameters()):
                self._retired.add(value)
        self._earlier.append(WeakSet(self._active.values()))
        self._active = {id(optimizer): optimizer}
        self._first_cycle = True
        self._book.another_training()
        self._listener.training_begins(len(self._earlier))

    def _after_step(self, optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        self._stepped.add(id(optimizer))
        if self._last_asked is not None:
            self._trained = self._last_asked
        if not self._nullifying:
            self._book.step_taken()
            self._replacing = False

    def _at_boundary(self, *, epoch_end: bool) -> None:
        self._stepped.clear()
        self._nullifying = self._first_cycle = False
        self._listener.at_boundary(epoch_end=epoch_end)

    def _patched_next(self, original: Callable[[Any], Any]) -> Callable[[Any], Any]:
        loop = self

        def next_item(iterator: Any) -> Any:
            if loop._inside or os.getpid() != loop._owner:
                return original(iterator)
            current = loop._passes.get(iterator)
            if loop._stepped:
                loop._between(current)
            if current is not None:
                if loop._replacing:
                    loop._begin_instead(iterator, current)
                if torch.is_grad_enabled():
                    loop._book.asked(current)
                if not current.yielded:
                    current.asked = loop._reigns(current.loader)
            loop._last_asked = current
            try:
                data = original(loop._instead.get(iterator, iterator))
            except StopIteration:
                if current is not None:
                    current.over = True
                raise
            if current is not None:
                current.yielded += 1
            return data

        return next_item

    def _between(self, current: Pass | None) -> None:
        """Steps were taken, and a batch of `current` is asked for: a boundary, unless an epoch is not quite over."""
        trained = self._trained
        if self._missed:
            self._replacing = True
            return
        among = current is not None and torch.is_grad_enabled() and self._book.trains(current)
        if current is not None and current.yielded == current.length and (among or current is trained):
            current.over = True  # what is asked for is its end: the code behind the loop comes first
            return
        if trained is None or current is None or among or current.signature == trained.signature:
            self._at = current
            last = (
                current is not None and current.length is not None and current.yielded == current.length - 1
            )
            self._at_boundary(epoch_end=last)
        elif self._listener.must_leave():  # an evaluation: the next epoch is begun anew
            self._at = None
            self._at_boundary(epoch_end=True)

    def _begin_instead(self, iterator: Any, current: Pass) -> None:
        """The state was restored while this pass was running already: go on with the pass that was interrupted."""
        if self._resumption(current.signature, current.number, late=True) is None and not self._begin_anew:
            return
        self._begin_anew = False
        self._inside = True
        try:
            other = self._begin_pass(current.loader, instead_of=current)
        finally:
            self._inside = False
        self._instead[iterator] = other
        mine = self._passes.pop(other)
        current.before, current.asked, current.yielded = mine.before, mine.asked, mine.yielded
        self._passes[iterator] = current

    def _patched_iter(self, original: Callable[[Any], Any]) -> Callable[[Any], Any]:
        loop = self

        def begin_pass(loader: Any) -> Any:
            if loop._inside or os.getpid() != loop._owner:
                return original(loader)
            if torch.is_grad_enabled():
                loop._listener.pass_begins()
            loop._inside = True
            try:
                iterator = loop._begin_pass(loader)
                loop._passes[iterator].ahead = fetched_ahead(sys._getframe(1))
                return iterator
            finally:
                loop._inside = False

        return begin_pass

    def _resumption(self, signature: str, number: int, *, late: bool) -> Resumption | None:
        """Which pass of an earlier process the one goes on with that begins now, or is under way already."""
        return next(
            (
                one
                for one in self._book.resumptions
                if not (late and one.begun) and one.fits(signature, number, any_number=late)
            ),
            None,
        )

    def _begin_pass(self, loader: Any, *, instead_of: Pass | None = None) -> Any:
        signature, generators = signature_of(loader), generators_of(loader)
        found, number = None, 0
        if instead_of is not None:
            number = instead_of.number
            found = self._resumption(signature, number, late=True)
        elif torch.is_grad_enabled():  # an evaluation over the same data is another pass
            number = self._book.next_number(signature)
            found = self._resumption(signature, number, late=False)
        if found is None or found.anew:
            if found is not None:
                self._goes_on(found)
            before = pass_start(loader, self._randomness, generators)
            iterator, skip = iterator_behind(loader, 0), 0
        else:
            skip, now = int(found.saved["yielded"]), self._randomness.randomness()
            restore_start(loader, self._randomness, generators, found.saved["before"])
            before = pass_start(loader, self._randomness, generators)
            asked = found.saved.get("asked")
            iterator = iterator_behind(loader, skip, made=lambda: self._let_reign(loader, asked))
            self._randomness.set_randomness(now)
            self._goes_on(found)
        asked = None if found is None else found.saved.get("asked")
        length = loader_length(loader)
        self._passes[iterator] = Pass(
            loader, signature, number, before, length, ref(iterator), skip, asked=asked
        )
        return iterator

    def _reigns(self, loader: Any) -> dict[str, Any]:
        """All random generators that a loader's sampler may draw from."""
        return {"global": self._randomness.randomness(), "own": generators_of(loader).capture()}

    def _let_reign(self, loader: Any, generators: Mapping[str, Any] | None) -> None:
        if generators is not None:
            self._randomness.set_randomness(generators["global"])
            generators_of(loader).restore(generators["own"])

    def _goes_on(self, found: Resumption) -> None:
        found.begun = True
        if found.when_begun is not None:
            if self._missed:  # the steps so far had no effect
                self._missed = self._nullifying = False
                self._stepped.clear()
            found.when_begun()


def _one_of_several() -> bool:
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def _loader_classes() -> list[type[Any]]:
    """DataLoader and its subclasses that define `__iter__` themselves."""
    found: list[type[Any]] = []
    queue: list[type[Any]] = [DataLoader]
    while queue:
        kind = queue.pop()
        found.append(kind)
        queue.extend(kind.__subclasses__())
    return found
