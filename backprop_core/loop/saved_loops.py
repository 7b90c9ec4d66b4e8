"""Loops as a checkpoint's data: those that were running, and those that had ended around them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from backprop_core.loop.running_loop import EndedLoop, RunningLoop, SavedLoop
from backprop_core.ports.loaders import LoaderPasses


def loop_to_state(
    loop: RunningLoop,
    asked: Callable[[object], Any],
    passes: Sequence[LoaderPasses],
    *,
    innermost: bool,
) -> dict[str, Any]:
    """A running loop.

    Args:
        asked: the state of an iterator that it asks.
        passes: they know how many batches an iterator has given.
        innermost: the checkpoint is made between two of its iterations.
    """
    opening = None
    if loop.random is not None:
        opening = {
            "random": loop.random,
            "readings": [reading.position(midway=not innermost) for reading in loop.readings],
            "given": [_given_by(one, passes) for one in loop.iterators],
            "asked": [asked(one) for one in loop.asked],
            "sizes": [reading.batch_size for reading in loop.readings],
        }
    return {
        "key": loop.site.key,
        "where": loop.site.where,
        "index": loop.index,
        "ended": [] if innermost else [ended_to_state(one) for one in loop.ended],
        "opening": opening,
        "entry": None if innermost else loop.entry,
        "steps_before": loop.steps_before,
        "counts": None if loop.counts is None else list(loop.counts),
    }


def _given_by(iterator: object, passes: Sequence[LoaderPasses]) -> int | None:
    given = (one.given_by(iterator) for one in passes)
    return next((number for number in given if number is not None), None)


def ended_to_state(ended: EndedLoop) -> dict[str, Any]:
    """A loop that has ended."""
    return {"key": ended.key, "by_itself": ended.by_itself, "effect": ended.effect, "again": ended.again}


def ended_from_state(state: Mapping[str, Any]) -> EndedLoop:
    """What `ended_to_state` has made."""
    return EndedLoop(state["key"], bool(state["by_itself"]), state["effect"], bool(state.get("again")))


def loop_from_state(state: Mapping[str, Any]) -> SavedLoop:
    """What `loop_to_state` has made."""
    ended = [ended_from_state(one) for one in state["ended"]]
    before = state.get("steps_before")
    counts = state.get("counts")
    return SavedLoop(
        state["key"],
        int(state["index"]),
        ended,
        state["opening"],
        state["entry"],
        before,
        None if counts is None else (int(counts[0]), int(counts[1])),
    )
