"""Waits in an unchanged script for the first optimizer or the first pass over a loader, then has the loops watched."""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable
from importlib.util import find_spec
from types import FrameType
from typing import TYPE_CHECKING, Any

from torch.optim import Optimizer
from torch.optim.optimizer import register_optimizer_step_pre_hook
from torch.utils.data import DataLoader, get_worker_info

from backprop_core.session import attach_rules

if TYPE_CHECKING:
    from backprop_core.loop.unmodified_loop import AttachedBox

_waiting = False


class _Waiting:
    def __init__(self) -> None:
        self._owner = os.getpid()
        self._built = False
        self._optimizer_made = False
        self._box: AttachedBox | None = None

    def optimizer_is_made(self) -> None:
        self._optimizer_made = True
        self.build()

    def build(self) -> None:
        """Have loops watched from now on, once, unless the script opens a box of its own."""
        if self._built or os.getpid() != self._owner or attach_rules.counts_loops():
            return
        if get_worker_info() is not None:
            return
        self._built = True
        if (
            "backprop" in sys.modules and not attach_rules.boxes_surround()
        ):  # the package that only users import
            return
        try:
            from backprop_torch.needs import check_needs

            check_needs()
            from backprop_core.loop.unmodified_loop import AttachedBox
            from backprop_torch.framework import TorchFramework

            box = AttachedBox("pytorch")
            box.watch(TorchFramework(), lambda: self._optimizer_made, _in_a_plain_loop)
            self._box = box
        except Exception as error:
            attach_rules.give_up("pytorch", error)

    def forked(self) -> None:
        """In a child that was forked: a training may begin here as well, with objects that exist already. Never raises."""
        try:
            self._optimizer_made = False
            if self._box is None or self._box.forked():
                self._owner = os.getpid()
            else:
                _tell_of_steps()
        except Exception as error:
            attach_rules.give_up("pytorch", error)


def _tell_of_steps() -> None:
    """The process that forked this one trains, and has the session: say it, once, where this one trains as well."""
    owner = os.getpid()

    def step_is_taken(optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        hook.remove()
        if os.getpid() == owner and get_worker_info() is None:
            attach_rules.trains_beside(os.getppid())

    hook = register_optimizer_step_pre_hook(step_is_taken)


def _in_a_plain_loop() -> bool:
    """Whether no Trainer that has an adapter of its own is at work: on a rank that is not the first it opens no session."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        if frame.f_globals.get("__name__", "") == "transformers.trainer" and _has_adapter("transformers"):
            return False
        frame = frame.f_back
    return True


def _has_adapter(framework: str) -> bool:
    return (
        attach_rules.may_attach(framework, every_rank=True) and find_spec(f"backprop_{framework}") is not None
    )


def wait_for_training() -> None:
    """Replace the making of optimizers and the beginning of passes by ones that tell us. Does so once."""
    global _waiting
    if _waiting:
        return
    _waiting = True
    if attach_rules.counts_loops():
        from backprop_torch.framework import TorchFramework
        from backprop_torch.loader_passes import watch_from_the_start

        watch_from_the_start(TorchFramework().reading)
    waiting = _Waiting()
    _telling(Optimizer, "__init__", waiting.optimizer_is_made)
    _telling(DataLoader, "__iter__", waiting.build)
    os.register_at_fork(after_in_child=waiting.forked)


def _telling(kind: type, name: str, tell: Callable[[], None]) -> None:
    original = getattr(kind, name)

    @functools.wraps(original)
    def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        before = getattr(kind, name)
        tell()
        after = getattr(kind, name)
        return (original if after is before else after)(self, *args, **kwargs)

    setattr(kind, name, method)
