"""What a process of a training hears when another one cannot go on in a box."""

from __future__ import annotations

from backprop_core.errors import BackpropError


class RankError(BackpropError):
    """Another process of this training cannot go on in the box, so this one does not: all step aside, or none."""
