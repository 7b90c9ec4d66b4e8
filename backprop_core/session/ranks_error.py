"""What a process of a training hears when another one cannot go on in a box, does not come, or is gone."""

from __future__ import annotations

from collections.abc import Callable

from backprop_core.errors import BackpropError
from backprop_core.ports.ranks import Ranks


class RankError(BackpropError):
    """Another process of this training cannot go on in the box, so this one does not: all step aside, or none."""


class ToldAsideError(RankError):
    """Another process of this training has said that it cannot go on in the box, and all have been told."""


class LostRankError(RankError):
    """Another process of this training is gone, or has never come; it can have told nobody."""


class LateRankError(LostRankError):
    """Another process of this training has not come to where the others wait for it, and time is over."""


def all_or_none(ranks: Ranks, what: Callable[[], None]) -> None:
    """Do `what` on every rank. Where it fails on one it fails on all: there with its error, elsewhere with its sentence.

    Raises:
        RankError: it failed on another rank.
    """
    try:
        what()
    except Exception as error:
        ranks.agree(described(error))
        raise
    if why := ranks.agree(""):
        raise RankError(why)


def described(error: BaseException) -> str:
    """An error in one sentence, for other ranks."""
    return str(error) if isinstance(error, BackpropError) else f"{type(error).__name__}: {error}"
