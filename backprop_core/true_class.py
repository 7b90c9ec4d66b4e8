"""What an object is, told by its type alone.

`isinstance` also reads `__class__`, which proxies compute: it would make what a lazy one stands for (Django's
SimpleLazyObject, wrapt's LazyObjectProxy), and `is_a` does not.
"""

from __future__ import annotations

from typing import TypeGuard, TypeVar

T = TypeVar("T")


def is_a(value: object, kind: type[T]) -> TypeGuard[T]:
    """Whether `value` was made by `kind` or a class derived from it; none of its own code runs."""
    return issubclass(type(value), kind)
