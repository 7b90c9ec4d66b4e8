"""A batch that was made ahead of training, in a form that a checkpoint can hold.

A loader that fetches ahead has made a batch at a boundary that nobody has trained. To make it again, everything would have
to be as it was before it was made, the script's variables among it. So the batch itself is kept.
"""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, Final

import torch

from backprop_core.script_state.unkept import Unkept, made_twice

_PLAIN: Final = (type(None), bool, int, float, complex, str, bytes)
_ENCODING: Final = ("transformers.tokenization_utils_base", "BatchEncoding")
_DEEPEST: Final = 20
_NOTHING: Final = object()
_MOST_AHEAD: Final = 16
"""Whoever has more in hand does not give a batch for each batch."""


class NotStoredError(Exception):
    """A batch holds something of a kind that has no form; its text is that kind."""


class HeldBatch:
    """The newest batch of a loader that fetches one ahead."""

    def __init__(self) -> None:
        self._batch: Any = _NOTHING
        self._refused = ""

    def hold(self, batch: Any) -> None:
        """This one is the newest. Whoever fetched it holds it, too."""
        self._batch = batch

    def drop(self) -> None:
        """Hold on to nothing."""
        self._batch = _NOTHING

    def to_state(self) -> dict[str, Any] | None:
        """Its form; None where there is none, or it holds anything but tensors, arrays, plain values and collections."""
        self._refused = ""
        if self._batch is _NOTHING:
            return None
        try:
            return form_of(self._batch)
        except NotStoredError as error:
            self._refused = str(error)
            return None

    def unkept(self) -> list[Unkept]:
        """That it had no form when it was last asked for, if so."""
        return [made_twice(self._refused)] if self._refused else []


class MadeAhead:
    """The batches of one pass that something between loader and loop has fetched, and not given on.

    Args:
        asked: how many items the loop has asked for, the running one included.
    """

    def __init__(self, asked: Callable[[], int]) -> None:
        self._asked = asked
        self._before = asked()
        self._fetched = 0
        self._held: deque[Any] = deque()
        self._instead: dict[int, Any] = {}
        self._regular = True

    def fetched(self, batch: Any) -> Any:
        """A batch was fetched; what is to be given: itself, or the one that it stands for."""
        if self._instead:
            batch = self._instead.pop(self._fetched, batch)
        ahead = self._fetched - (self._asked() - self._before)
        self._fetched += 1
        self._regular = self._regular and ahead <= _MOST_AHEAD
        if ahead > 0 and self._regular:
            self._held.append(batch)
        while len(self._held) > max(0, ahead) or (self._held and not self._regular):
            self._held.popleft()
        return batch

    def to_state(self) -> dict[str, Any] | None:
        """The numbers and forms of those that were not given; None where there are none, or one has no form."""
        ahead = self._fetched - (self._asked() - self._before + 1)
        if not 0 < ahead <= len(self._held):
            return None
        try:
            forms = [form_of(batch) for batch in list(self._held)[-ahead:]]
        except NotStoredError:
            return None
        return {"first": self._fetched - ahead, "batches": forms}

    def restore(self, state: Mapping[str, Any] | None) -> None:
        """The pass begins anew, and gives the batches that were kept when it comes to them."""
        if state is not None:
            first = int(state["first"])
            self._instead = {first + n: _value(form) for n, form in enumerate(state["batches"])}


def batch_from_state(state: Any) -> Any | None:
    """The batch again, with tensors of its own; None where none was kept."""
    return None if state is None else _value(state)


def form_of(value: Any, depth: int = 0) -> dict[str, Any]:
    """The form of a batch.

    Raises:
        NotStoredError: it holds anything but tensors, arrays, plain values and collections.
    """
    kind = type(value)
    if kind in _PLAIN or kind is torch.Tensor:
        if kind is torch.Tensor and value.layout is not torch.strided:
            raise NotStoredError(f"{value.layout} tensor")
        return {"is": value.detach() if kind is torch.Tensor else value}
    if depth > _DEEPEST:  # it holds itself
        raise NotStoredError(kind.__name__)
    if kind is list or kind is tuple:
        return {"tuple" if kind is tuple else "list": [form_of(one, depth + 1) for one in value]}
    if kind is dict or _is_encoding(kind):
        members: Mapping[Any, Any] = value if kind is dict else value.data
        if kind is not dict and value.encodings is not None:
            raise NotStoredError(kind.__name__)
        return {
            "dict" if kind is dict else "encoding": [
                [form_of(key, depth + 1), form_of(one, depth + 1)] for key, one in members.items()
            ]
        }
    numpy = sys.modules.get("numpy")
    if numpy is not None and kind is numpy.ndarray and value.dtype.kind in "biufc":
        return {"is": value}
    raise NotStoredError(kind.__name__)


def _value(form: Mapping[str, Any]) -> Any:
    ((kind, content),) = form.items()
    if kind == "is":
        return content.clone() if isinstance(content, torch.Tensor) else content
    if kind in ("list", "tuple"):
        members = [_value(one) for one in content]
        return tuple(members) if kind == "tuple" else members
    made = {_value(key): _value(one) for key, one in content}
    if kind == "dict":
        return made
    return getattr(sys.modules[_ENCODING[0]], _ENCODING[1])(made)


def _is_encoding(kind: type) -> bool:
    """What transformers' collate functions give: a dictionary with methods."""
    return (kind.__module__, kind.__qualname__) == _ENCODING
