"""What counts as a piece."""

from __future__ import annotations

from typing import Any

from backprop_core.checkpoints.numpy_arrays import NumpyTranslator
from backprop_core.ports.partial_framework import PartialFramework
from backprop_core.prove.pieces import Digests
from backprop_core.prove.witness import Witness


class Stateless(PartialFramework):
    """A package without a random generator of its own, which a script may import at any time."""

    name = "stateless"
    translator: Any = NumpyTranslator()


def test_a_package_without_a_generator_has_no_piece() -> None:
    """Else the whole run and a resumed one differ where the script imports it at another time."""
    with_it = Digests([Stateless()], []).of(Witness())
    assert with_it.keys() == Digests([], []).of(Witness()).keys()
    assert "random generator python" in with_it
