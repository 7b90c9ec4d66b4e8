"""Which process each rank is, noted in the store of its group when it joins: so others need not wait for one that has ended.

A rank that dies before it comes to the box has said nothing to the others, and they would wait for it for minutes. No number
in the environment is needed: `multiprocessing`, `mp.spawn` and scripts of their own tell `init_process_group` alone.
"""

from __future__ import annotations

import sys
from contextlib import suppress
from typing import Any

_MODULE = "torch.distributed.distributed_c10d"
_JOINED = "_update_default_pg"
"""Called with the group that this process has joined, with None when it leaves; every way to a group leads through it."""


def note_ranks() -> None:
    """From now on, whenever this process joins a group."""
    c10d = sys.modules.get(_MODULE)  # a torch without torch.distributed has no ranks
    joined = getattr(c10d, _JOINED, None)
    if c10d is None or joined is None:
        return

    def update(group: Any) -> None:
        joined(group)
        with suppress(Exception):  # no store, or no member: nobody waits for this one
            if group is not None:
                _note(c10d._get_default_store(), group.rank())

    setattr(c10d, _JOINED, update)


def _note(store: Any, rank: int) -> None:
    from backprop_core.runs.process import ProcessIdentity  # late: only who joins a group needs it
    from backprop_core.strict_json import encode

    store.set(_key(rank), encode(ProcessIdentity.own().to_json()))


def has_ended(store: Any, rank: int) -> bool:
    """Whether the process of `rank` ran on this machine, and is gone; `store` is that of the group itself."""
    from backprop_core.runs.process import Life, ProcessIdentity
    from backprop_core.strict_json import decode

    if not store.check([_key(rank)]):
        return False
    identity = ProcessIdentity.from_json(decode(store.get(_key(rank))))
    return identity is not None and identity.life() is Life.GONE


def _key(rank: int) -> str:
    return f"backprop/process/{rank}"
