"""A file descriptor that is asked whose it is before it is used.

A descriptor is a number. A script that closes it (one `os.close` too many, `os.closerange` as daemons do) gets it for a file
of its own soon after, and whoever goes on using the number writes into that file, cuts it or closes it.
"""

from __future__ import annotations

import contextlib
import os
from weakref import WeakSet


class OwnDescriptor:
    """An open descriptor, ours as long as it leads to what it led to at first.

    Attributes:
        fd: the number; -1 when it is closed or given up.

    Raises:
        OSError: it is not open.
    """

    __slots__ = ("__weakref__", "_led_to", "fd")

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self._led_to = _what(fd)

    @property
    def is_ours(self) -> bool:
        """Whether it still leads there. Takes a microsecond."""
        try:
            return self.fd >= 0 and _what(self.fd) == self._led_to
        except OSError:
            return False

    def close(self) -> None:
        """Close it, unless it is somebody else's by now."""
        if self.is_ours:
            with contextlib.suppress(OSError):
                os.close(self.fd)
        self.fd = -1

    def keep_from_children(self) -> None:
        """Have it closed in forked processes, which inherit it otherwise."""
        _not_for_children.add(self)


_not_for_children: WeakSet[OwnDescriptor] = WeakSet()


def _close_in_child() -> None:
    for descriptor in _not_for_children:
        descriptor.close()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_close_in_child)


def _what(fd: int) -> tuple[int, int]:
    facts = os.fstat(fd)
    return facts.st_dev, facts.st_ino
