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
from dataclasses import dataclass
from types import FrameType
from typing import Any
from weakref import WeakKeyDictionary, WeakSet

import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook
from torch.utils.data import DataLoader
from torch.utils.data.dataloader import _BaseDataLoaderIter

from backprop_core.framework import LoopListener, RandomnessKeeper
from backprop_torch.discovery import in_use_with, live_objects, named, script_names
from backprop_torch.loaders import generators_of, iterator_behind, loader_length, pass_start, restore_start


@dataclass(slots=True)
class Pass:
    """One pass over a loader that the script makes.

    Attributes:
        loader: what it reads from.
        signature: what the loader looks like, to know it again in another process.
        before: what decided the pass when it began, see `pass_start`.
        length: batches, where known.
        yielded: batches the script has got.
        over: it is exhausted.
    """

    loader: Any
    signature: str
    before: Any
    length: int | None
    yielded: int = 0
    over: bool = False


def _signature(loader: DataLoader[Any]) -> str:
    try:
        size = len(loader.dataset)  # type: ignore[arg-type]
    except TypeError:
        size = -1
    return f"{type(loader.dataset).__name__}:{size}:{loader.batch_size}:{type(loader.sampler).__name__}"


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
        self._to_resume: tuple[Mapping[str, Any], Callable[[], object]] | None = None

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

    def position(self) -> Any:
        number = len(self._earlier)
        if self._by_optimizer:
            return {"kind": "optimizer", "training": number}
        current = self._at
        if current is None or current.over or current.yielded == current.length:
            return {"kind": "between", "training": number}
        return {
            "kind": "loader",
            "training": number,
            "signature": current.signature,
            "yielded": current.yielded,
            "before": current.before,
        }

    def resume(self, position: Any, when_begun: Callable[[], object], *, midway: bool = False) -> None:
        kind = position.get("kind") if isinstance(position, Mapping) else None
        if kind == "loader":
            self._to_resume = (position, when_begun)
        elif kind == "optimizer":
            self._step_to_resume = when_begun
        elif midway:
            self._begin_anew = True

    def training_of(self, position: Any) -> int:
        number = position.get("training", 0) if isinstance(position, Mapping) else 0
        return number if isinstance(number, int) else 0

    def goes_on_at_a_step(self, position: Any) -> bool:
        return isinstance(position, Mapping) and position.get("kind") == "optimizer"

    def step_is_open(self) -> bool:
        """Whether a step was taken since the last boundary."""
        return bool(self._stepped)

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
        if self._nullifying:
            for known in self._active.values():
                known.zero_grad(set_to_none=True)

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
        self._listener.training_begins(len(self._earlier))

    def _after_step(self, optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        self._stepped.add(id(optimizer))
        if self._last_asked is not None:
            self._trained = self._last_asked

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
                if (loop._to_resume is not None or loop._begin_anew) and current is not None:
                    loop._begin_instead(iterator, current)
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
        if trained is not None and trained.yielded == trained.length and current is trained:
            trained.over = (
                True  # what is asked for is the end of the pass: the code behind the loop comes first
            )
            return
        if trained is None or current is None or current.signature == trained.signature:
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
        self._begin_anew = False
        if self._to_resume is not None and self._to_resume[0]["signature"] != current.signature:
            return
        self._inside = True
        try:
            other = self._begin_pass(current.loader)
        finally:
            self._inside = False
        self._instead[iterator] = other
        mine = self._passes.pop(other)
        current.before, current.yielded = mine.before, mine.yielded
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
                return loop._begin_pass(loader)
            finally:
                loop._inside = False

        return begin_pass

    def _begin_pass(self, loader: Any) -> Any:
        signature, generators = _signature(loader), generators_of(loader)
        skip, when_begun = 0, None
        trains = torch.is_grad_enabled()  # an evaluation over the same data is another pass
        if trains and self._to_resume is not None and self._to_resume[0]["signature"] == signature:
            position, when_begun = self._to_resume
            self._to_resume = None
            skip = int(position["yielded"])
            restore_start(loader, self._randomness, generators, position["before"])
        before = pass_start(loader, self._randomness, generators)
        iterator = iterator_behind(loader, skip)
        if when_begun is not None:
            when_begun()
        self._passes[iterator] = Pass(loader, signature, before, loader_length(loader), yielded=skip)
        return iterator


def _loader_classes() -> list[type[Any]]:
    """DataLoader and its subclasses that define `__iter__` themselves."""
    found: list[type[Any]] = []
    queue: list[type[Any]] = [DataLoader]
    while queue:
        kind = queue.pop()
        found.append(kind)
        queue.extend(kind.__subclasses__())
    return found
