"""Where a session meets `backprop prove`: nothing of it is imported unless the environment says so."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from backprop_core import contract

if TYPE_CHECKING:
    from backprop_core.prove.recorder import Recorder


def recorder_of(environ: Mapping[str, str] = os.environ) -> Recorder | None:
    """What writes down this process for a proof; None where nothing is to be proven."""
    if not environ.get(contract.PROVE):
        return None
    from backprop_core.prove.recorder import recorder

    return recorder()


def noted(items: Iterable[Any], environ: Mapping[str, str] = os.environ) -> Iterable[Any]:
    """What a loop trains on; for a proof each item is noted when it is given."""
    found = recorder_of(environ)
    return items if found is None else found.items(items)
