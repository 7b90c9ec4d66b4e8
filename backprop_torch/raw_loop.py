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
from threading import get_ident
from types import FrameType
from typing import Any

import torch.distributed as dist
from torch import nn
from torch.optim import Optimizer
from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook

from backprop_core.errors import BackpropError
from backprop_core.ports.loaders import RandomnessKeeper
from backprop_core.ports.unmodified_loop import LoopListener, ResumePoint
from backprop_core.weak_identity import WeakIdentityMap, weak_set
from backprop_torch.discovery import (
    in_use_with,
    live_objects,
    named,
    objects_in_frames,
    owns_all,
    script_names,
)
from backprop_torch.long_step import REGULAR, LongStep
from backprop_torch.mistaken_owners import release_adopted
from backprop_torch.pass_watch import PassWatch
from backprop_torch.passes import place_of
from backprop_torch.patched_loader import patched_loader
from backprop_torch.trainings import Met, Trainings

OFTEN = 2
"""An optimizer that took another's place so many times is made in each iteration."""


class RawTorchLoop:
    """Notes steps and passes, finds boundaries, and can begin a pass in the middle."""

    def __init__(
        self, listener: LoopListener, randomness: RandomnessKeeper, caller: FrameType | None
    ) -> None:
        self._listener = listener
        self._randomness = randomness
        self._caller = caller
        self._owner = os.getpid()
        self._thread = get_ident()
        self._trainings = Trainings()
        self._step_is_open = False
        self._stepped = weak_set()
        self._taken: WeakIdentityMap[int] = WeakIdentityMap()
        self._watch = PassWatch(listener, randomness, self)
        self._by_optimizer = False
        self._broken = False
        self._nullifying = False
        self._step_to_resume: Callable[[], object] | None = None

    # -- the RawLoop port --------------------------------------------------------------------------------------

    @contextmanager
    def watch(self) -> Iterator[None]:
        """Hooks and patched methods inside, exactly what was there before outside."""
        hooks = [
            register_optimizer_step_pre_hook(self._before_step),
            register_optimizer_step_post_hook(self._after_step),
        ]
        try:
            with patched_loader(self._watch):
                yield
        finally:
            for hook in hooks:
                hook.remove()
            self._watch.close()
            self._caller = None

    def objects(self) -> Mapping[str, object]:
        trainings = self._trainings
        if trainings.replaced:  # many times, perhaps: a look at everything that exists takes 60 ms and more
            found = in_use_with(trainings.active, self._in_frames())
            if owns_all(found, trainings.active):
                return self._named(found)
        return self._named(in_use_with(trainings.active, self._live()))

    def candidates(self) -> Mapping[str, object]:
        live = self._live()
        trainings = self._trainings
        return self._named(in_use_with(trainings.active if trainings.number else live[Optimizer], live))

    def _live(self) -> dict[type, list[Any]]:
        """Everything that exists, without the models of earlier trainings: they are no copies of this one's."""
        live = live_objects()
        return self._without_retired(live)

    def _in_frames(self) -> dict[type, list[Any]]:
        """The same, of what the script's own variables name."""
        return self._without_retired(objects_in_frames(self._caller or sys._getframe(1)))

    def _without_retired(self, live: dict[type, list[Any]]) -> dict[type, list[Any]]:
        live[nn.Module] = [module for module in live[nn.Module] if module not in self._trainings.retired]
        return live

    def _named(self, values: list[object]) -> Mapping[str, object]:
        if self._caller is not None:
            return named(values, script_names(self._caller))
        return named(values, script_names(sys._getframe(1), outermost_wins=True))

    def repair(self, states: dict[str, Any]) -> None:
        release_adopted(states, self.candidates)

    def position(self) -> Any:
        number = {"training": self._trainings.number}
        if self._by_optimizer or self._watch.blind:
            return {"kind": "optimizer", **number}
        return {**self._watch.place(), **number}

    def resume(self, position: Any, when_begun: Callable[[], object], *, midway: bool = False) -> bool:
        if not isinstance(position, Mapping):
            return False
        if position.get("kind") == "optimizer":
            self._step_to_resume = when_begun
            return True
        return self._watch.resume(position, when_begun, midway=midway)

    def training_of(self, position: Any) -> int:
        number = position.get("training", 0) if isinstance(position, Mapping) else 0
        return number if isinstance(number, int) else 0

    def place_of(self, position: Any) -> tuple[ResumePoint, int]:
        return place_of(position)

    def goes_on_at_a_step(self, position: Any) -> bool:
        return isinstance(position, Mapping) and position.get("kind") == "optimizer"

    def step_is_open(self) -> bool:
        """Whether a step was taken since the last boundary."""
        return self._step_is_open

    def forked(self) -> None:
        """This process is a fork of the one that was watched, and is watched in its place."""
        self._owner = os.getpid()
        self._watch.forked()

    def nullify_until_boundary(self) -> None:
        """No step has an effect before the next boundary."""
        self._nullifying = True

    # -- hooks -------------------------------------------------------------------------------------------------

    def is_ours(self) -> bool:
        """Whether this is the process and the thread that trains: nothing is decided, and nothing read, in another."""
        return not self._broken and get_ident() == self._thread and os.getpid() == self._owner

    def _before_step(self, optimizer: Optimizer, args: Any, kwargs: Any) -> tuple[Any, Any] | None:
        if not self._trainings.active:
            self._thread = get_ident()
        if self.is_ours():
            try:
                self._step_comes(optimizer)
                return LongStep(optimizer, lambda lowest: self._inside(optimizer, lowest)).watched(
                    args, kwargs
                )
            except BackpropError:
                raise
            except Exception as error:
                self._broken = True
                self._listener.cannot_follow(error, entirely=True)
        return None

    def _inside(self, optimizer: Optimizer, lowest: bool) -> None:
        """Inside of a step that has evaluated its closure many times."""
        if self.is_ours() and not self._nullifying:
            before, self._by_optimizer = self._by_optimizer, True
            try:
                self._listener.inside_step(lowest=lowest, seldom=(self._taken.get(optimizer) or 0) < REGULAR)
            finally:
                self._by_optimizer = before

    def _step_comes(self, optimizer: Optimizer) -> None:
        without_loader = self._watch.trained is None or self._watch.blind
        seldom = self._trainings.replaced >= OFTEN  # the iteration of such a loop begins with a new optimizer
        if without_loader and optimizer in self._stepped and (not seldom or self._listener.must_leave()):
            self._by_optimizer = True
            self.at_boundary(epoch_end=False)
        self._meet(optimizer, without_loader)
        if self._step_to_resume is not None:
            go_on, self._step_to_resume = self._step_to_resume, None
            go_on()
        if self._watch.came_too_early():
            if _one_of_several():  # a step that one rank alone takes back would set it apart for good
                self._watch.book.resumptions.clear()
                self._listener.place_lost()
            else:
                self._watch.missed = self._nullifying = True
        if self._nullifying:
            for known in self._trainings.active:
                known.zero_grad(set_to_none=True)

    def _meet(self, optimizer: Optimizer, without_loader: bool) -> None:
        """Which training of the process the step belongs to: another one begins with an optimizer that steps alone."""
        trainings = self._trainings
        if (
            optimizer not in trainings.active
            and not without_loader
            and self._watch.last_asked is not self._watch.trained
        ):
            self._step_is_open = False  # the last step of another pass, which ended without a boundary
            self._stepped.clear()
        met = trainings.meet(optimizer, self._step_is_open, self._live)
        if met is Met.FIRST:
            self._listener.first_step()
        elif met is Met.INSTEAD:
            self._listener.objects_joined()
            if without_loader:
                self._by_optimizer = True
                self.at_boundary(epoch_end=False)
        elif met is Met.JOINED and not trainings.first_cycle:
            self._listener.objects_joined()
        elif met is Met.ANOTHER:
            self._step_is_open = False
            self._stepped.clear()
            self._watch.book.another_training()
            self._listener.training_begins(trainings.number)

    def _after_step(self, optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        if not self.is_ours():
            return
        self._step_is_open = True
        self._stepped[optimizer] = True
        self._taken[optimizer] = (self._taken.get(optimizer) or 0) + 1
        self._watch.step_taken(nullified=self._nullifying)

    def forget_steps(self) -> None:
        """The steps so far had no effect."""
        self._step_is_open = self._nullifying = False
        self._stepped.clear()

    def at_boundary(self, *, epoch_end: bool) -> None:
        """Between two steps; may leave the loop."""
        self._stepped.clear()
        self._step_is_open = self._nullifying = self._trainings.first_cycle = False
        if self._watch.read_elsewhere:
            self._listener.cannot_follow("a thread other than the one that trains reads it", entirely=False)
        self._listener.at_boundary(epoch_end=epoch_end)


def _one_of_several() -> bool:
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1
