"""Where a session meets `backprop prove`: nothing of it is imported unless the environment says so."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
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


def noted_calls(function: Callable[..., Any], argument: int, recorder: Recorder) -> Callable[..., Any]:
    """`function`, one call of which trains on its `argument`-th argument; that is noted before it is called."""

    def noting(*arguments: Any, **named: Any) -> Any:
        given = [*arguments, *named.values()]
        recorder.batch(given[argument] if len(given) > argument else None)
        return function(*arguments, **named)

    return noting


def noted(items: Iterable[Any], environ: Mapping[str, str] = os.environ) -> Iterable[Any]:
    """What a loop trains on; for a proof each item is noted when it is given."""
    found = recorder_of(environ)
    return items if found is None else found.items(items)
