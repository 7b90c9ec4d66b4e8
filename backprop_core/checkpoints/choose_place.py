"""Which kind of place a target is: a folder, or an address of an object store."""

from __future__ import annotations

from pathlib import Path

from backprop_core.clock import Clock

from .local_place import LocalPlace
from .manifest import address_of
from .place import Place


def place_of(target: str, clock: Clock) -> Place:
    """The place that `target` names; an address that went through `Path` and lost a slash is understood."""
    from .remote_place import RemotePlace, is_url

    address = address_of(Path(target)) if not is_url(target) else target
    return RemotePlace(address, clock) if is_url(address) else LocalPlace(Path(target), clock)
