"""Which framework is told of which tracked object."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from backprop_core.ports.framework import stored_by
from backprop_core.ports.partial_framework import PartialFramework


class Model:
    """What one framework looks into."""


class _LooksInto(PartialFramework):
    def __init__(self, kind: type | None) -> None:
        self._kind = kind

    def script_parts(self, kind: type) -> frozenset[str] | None:
        return frozenset() if kind is self._kind else None

    def stored_with(self, tracked: Mapping[str, object]) -> Callable[[object], bool]:
        whole = [one for one in tracked.values() if type(one) is not self._kind]
        return lambda value: any(value is one for one in whole)


def test_no_framework_stores_as_a_whole_what_another_looks_into() -> None:
    """A Keras model on JAX keeps its attributes though torch is loaded; what nobody looks into is stored."""
    model, losses = Model(), [1.0]
    tracked = {"model": model, "losses": losses}
    for frameworks in ([_LooksInto(Model), _LooksInto(None)], [_LooksInto(None), _LooksInto(Model)]):
        stored = stored_by(frameworks, tracked)
        assert not any(one(model) for one in stored)
        assert any(one(losses) for one in stored)
    assert stored_by([_LooksInto(None)], tracked)[0](model)
