"""What an object is, told by its type alone."""

from __future__ import annotations

from typing import Any

from backprop_core.testing.state_kinds.things import Proxy
from backprop_core.true_class import is_a


class _Derived(dict[str, int]):
    """A class of the script's."""


def test_a_proxy_is_not_asked_what_it_stands_for() -> None:
    """What a lazy proxy stands for is not made by a look at its class; `isinstance` makes it."""
    before = Proxy.loaded
    proxy: Any = Proxy()
    assert not is_a(proxy, list)
    assert is_a(proxy, Proxy)
    assert Proxy.loaded == before
    assert isinstance(proxy, list)
    assert Proxy.loaded > before


def test_derived_classes_and_types_are_told() -> None:
    """An object of a derived class is one of its base; a class is a type and no instance of itself."""
    assert is_a(_Derived(), dict)
    assert not is_a({}, _Derived)
    assert is_a(_Derived, type)
    assert not is_a(_Derived, _Derived)
