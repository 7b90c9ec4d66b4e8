"""A framework that is not installed, in a sentence that says how it is."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def needs(framework: str, *, by: str, extra: str) -> Iterator[None]:
    """Import a framework inside this context.

    Args:
        framework: its name for people.
        by: our package that needs it.
        extra: the extra of our distribution that brings it.

    Raises:
        ModuleNotFoundError: a module is not installed; as Python's own, with what to do about it.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        if error.name is None or error.name.startswith("backprop"):
            raise
        raise ModuleNotFoundError(
            f"{by} needs {framework}, and {error.name!r} is not installed in this environment. "
            f"Install it with: pip install 'backprop-timebox[{extra}]'",
            name=error.name,
        ) from None
