"""The names that rewritten code calls, and who answers."""

from __future__ import annotations

import builtins
import os
from collections.abc import Iterable, Mapping
from typing import Any

from backprop_core.loop.asked_iterators import asked_iterators
from backprop_core.loop.counted_loops import CountedLoops, loops
from backprop_core.loop.counted_training import CountedTraining
from backprop_core.script_state import rewrite
from backprop_core.script_state.rewrite import Site
from backprop_core.session import attach_rules


def install(sites: Iterable[Site]) -> None:
    """Make the names that rewritten code calls known to it, and `sites` to the loops."""
    counted = loops()
    counted.sites.update({site.key: site for site in sites})
    if hasattr(builtins, rewrite.TICKS):
        return
    asked = asked_iterators()
    names: Mapping[str, Any] = {
        rewrite.TICKS: counted.ticks,
        rewrite.OVER: counted.over,
        rewrite.ITEMS: counted.items,
        rewrite.ELSE: counted.ended_by_itself,
        rewrite.MAP: map,
        rewrite.GET: {}.get,
        rewrite.SINK: _Sink(),
        rewrite.ASKED: asked.ask,
        rewrite.LOOPED: asked.counted,
        rewrite.OTHER: asked.other,
    }
    for name, value in names.items():
        setattr(builtins, name, value)
    attach_rules.loops_are_counted()
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=counted.forked)
    counted.makes_training, counted.dormant = _training_of, True


def _training_of(counted: CountedLoops) -> CountedTraining:
    from backprop_core.loop.script_training import (
        ScriptTraining,  # only now is all that a training needs imported
    )

    return ScriptTraining(counted)


class _Sink:
    """Takes the target of a loop that has none: a `while` loop."""

    __slots__ = ("tick",)
