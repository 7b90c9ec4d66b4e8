"""The store through which the processes of a training found each other: words that nobody has to wait for.

A store behind a cut link never answers, so it is asked in threads that nobody joins for long.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from typing import Any

from backprop_core.session import launched_ranks
from backprop_core.session.rank_patience import LOOK_EVERY_S
from backprop_core.session.ranks_error import LostRankError, RankError
from backprop_torch import rank_notes

ALL_COME_S = 600.0
"""Between the first and the last process that comes to a box. One that has not come by then trains without it.

NCCL, too, gives processes ten minutes to come together.
"""
_ANSWER_S = 2.0
_LOOK_FOR_DEAD_S = 1.0
_ALL_ARE_HERE = "all are here"


class Board:
    """Where the processes of one box leave word for each other.

    Args:
        number: of the box among those of a process; the same on all ranks.
    """

    def __init__(self, number: int) -> None:
        self._number = number
        self._asking: threading.Thread | None = None

    def post(self, key: str, text: str) -> None:
        """Leave word for another rank, from any thread, without waiting for it."""
        self._store().set(key, text)

    def posted(self, key: str) -> str | None:
        """What was left under `key`; None while there is nothing, or no answer. From one thread at a time."""
        if self._asking is not None and self._asking.is_alive():
            return None
        answers: list[str | None] = []
        self._asking = _in_passing(lambda: answers.append(self._look_up(key)))
        self._asking.join(_ANSWER_S)
        return answers[0] if answers else None

    def _look_up(self, key: str) -> str | None:
        store = self._store()
        return store.get(key).decode() if store.check([key]) else None

    def _store(self) -> Any:
        from torch.distributed import distributed_c10d

        return distributed_c10d.PrefixStore(f"backprop/{self._number}", _default_store())

    # -- before the first word -----------------------------------------------------------------------------------

    def meet(self, rank: int, count: int) -> None:
        """Return when all processes have come to this box: what follows is a collective, which would wait for ever.

        Raises:
            RankError: one of them steps aside.
            LostRankError: one of them has not come in time.
        """
        verdicts: list[str] = []
        thread = _in_passing(lambda: verdicts.append(self._verdict(rank, count)))
        looks = int((ALL_COME_S + 10.0) / LOOK_EVERY_S)
        while thread.is_alive() and looks:  # in short waits: signals are heard in between
            thread.join(LOOK_EVERY_S)
            looks -= 1
        verdict = verdicts[0] if verdicts else ""
        if not verdict and thread.is_alive():
            raise LostRankError("The store of this process group does not answer.")
        if verdict.startswith("lost "):
            raise LostRankError(verdict.removeprefix("lost "))
        if verdict not in ("", _ALL_ARE_HERE):
            raise RankError(verdict)

    def _verdict(self, rank: int, count: int) -> str:
        """What all ranks read alike, since only the first to write it can; empty where the store knows no such thing."""
        store = self._store()
        store.set(f"here/{rank}", "yes")
        if store.add("come", 1) == count:
            store.compare_set("verdict", "", _ALL_ARE_HERE)
        else:
            looks = int(ALL_COME_S / _LOOK_FOR_DEAD_S)
            while looks and not self._decided():
                looks -= 1
                missing = [one for one in range(count) if one != rank and not store.check([f"here/{one}"])]
                ended = next(filter(self._has_ended, missing), None)
                if ended is not None:
                    why = f"lost Process {ended} has ended before it came to the box."
                    store.compare_set("verdict", "", why)
            if not store.check(["verdict"]):
                missing = [one for one in range(count) if not store.check([f"here/{one}"])]
                why = (
                    f"lost Process {next(iter(missing), rank)} has not come to the box in {ALL_COME_S:.0f} s."
                )
                store.compare_set("verdict", "", why)
        return str(store.get("verdict").decode())

    @staticmethod
    def _has_ended(rank: int) -> bool:
        """Whether it is known to be gone, by its launcher's number or by what it noted when it joined the group."""
        return launched_ranks.has_ended(rank) or rank_notes.has_ended(_default_store(), rank)

    def _decided(self) -> bool:
        """Whether there is a verdict, or comes one within a second."""
        with suppress(RuntimeError):
            self._store().wait(["verdict"], timedelta(seconds=_LOOK_FOR_DEAD_S))
        return bool(self._store().check(["verdict"]))

    def stays_away(self, why: str) -> None:
        """This process will not come to the box: whoever waits for it steps aside as well."""
        _in_passing(lambda: self._store().compare_set("verdict", "", why)).join(_ANSWER_S)


def _default_store() -> Any:
    from torch.distributed import distributed_c10d

    return distributed_c10d._get_default_store()


def _in_passing(what: Callable[[], Any]) -> threading.Thread:
    """Do it in a thread that may hang; an error is no answer."""

    def run() -> None:
        with suppress(Exception):
            what()

    thread = threading.Thread(target=run, name="backprop-ranks-board", daemon=True)
    thread.start()
    return thread
