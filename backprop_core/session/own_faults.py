"""Faults of our own in the middle of a training: our part in it ends with one line, and the training goes on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from backprop_core.errors import BackpropError, StateMismatchError
from backprop_core.session.ranks_error import RankError


class OwnFaults:
    """Runs what an adapter does inside somebody else's training.

    Args:
        withdraw: ends our part, given the error: everything that was replaced is given back, and the session closed.
        meant: whether an error is none, but how the training is left.

    Attributes:
        aside: our part has ended.
        restoring: the checkpoint whose state is being put back: an error then ends the training, because half of a state
            is worse than none. None before and after.
    """

    def __init__(self, withdraw: Callable[[Exception], None], meant: Callable[[], bool]) -> None:
        self._withdraw = withdraw
        self._meant = meant
        self.aside = False
        self.restoring: str | None = None

    def run(self, ours: Callable[..., Any], *args: Any, otherwise: Any = None) -> Any:
        """What `ours` returns; `otherwise` from the first fault on.

        Raises:
            BackpropError: what is meant for the user.
        """
        if self.aside:
            return otherwise
        try:
            return ours(*args)
        except RankError as error:  # a fault on another rank: all step aside
            self.aside = True
            self._withdraw(error)
            return otherwise
        except BackpropError:
            raise
        except Exception as error:
            if self._meant():
                raise
            if self.restoring is not None:
                raise StateMismatchError(
                    f"{self.restoring} could not be restored: {type(error).__name__}: {error}.",
                    "Resume it with the versions that made it, or start from scratch with resume=False (a new run).",
                ) from error
            self.aside = True
            self._withdraw(error)
            return otherwise
