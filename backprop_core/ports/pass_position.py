"""Where a pass over a loader stands: one form for all adapters, and how checkpoints hold it.

A pass is decided at several instants. The loader's iterator is made, its first batch is asked for, and in a loader that
fetches ahead the newest batch is made before the one before it is given; random numbers may be drawn at each of them. To
find a pass again all of that is set in its turn.

Checkpoints of different adapters hold the same facts under different names; `before`, say, is three things in three of them.
Those forms stay, so that every checkpoint can be read. They are written and read here, and nowhere else.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from backprop_core.quick_dataclass import dataclass


@dataclass(frozen=True, slots=True)
class Draws:
    """Random generators at one instant, as `capture` gave them.

    Attributes:
        everybodys: all global ones.
        own: what the loader, its samplers, its dataset and its collate function hold; None where that was not noted.
    """

    everybodys: Any
    own: Any = None


@dataclass(frozen=True, slots=True)
class PassPosition:
    """Where a pass is, and all that decides it.

    Attributes:
        begun: before the iterator was made.
        first: before the first batch was asked for; None where none was, or the two are one instant.
        given: batches that the training has got; None where whoever reads the pass counts them itself.
        prefetched: batches beyond those that were made, and are made again.
        newest: before the newest of them was made; None where nothing was noted.
        held: the one that was made ahead, in a form of the framework's; None where it cannot be stored and is made again.
        workers_kept: the pass found the workers of an earlier one running.
        sampler_epoch: what the sampler was told with `set_epoch`, or None.
        sampler_seed: what a sampler drew long before, to seed itself in each pass, or None.
        number: of the pass, where the loader counts them itself.
        state: a stateful loader's own word on its place; None: its batches are made again.
        rest: what the loader's parts held at the boundary, or None.
        premade: what a stateful loader told of the iterator that it had made before the pass began; None: it had made none.
        workers: the random generators of the loader's workers, in a form of the framework's; None: there are none, or they
            are not known.
    """

    begun: Draws
    first: Draws | None = None
    given: int | None = None
    prefetched: int = 0
    newest: Any = None
    held: Any = None
    workers_kept: bool = False
    sampler_epoch: int | None = None
    sampler_seed: int | None = None
    number: int | None = None
    state: Any = None
    rest: Any = None
    premade: Any = None
    workers: Any = None


# -- how a pass begins: a part of most forms -----------------------------------------------------------------------


def start_to_state(position: PassPosition) -> dict[str, Any]:
    """What decided the pass when it began."""
    state = {
        "global": position.begun.everybodys,
        "own": position.begun.own,
        "stayed": position.workers_kept,
        "epoch": position.sampler_epoch,
        "seed": position.sampler_seed,
    }
    more = {"premade": position.premade, "workers": position.workers}
    return {**state, **{name: value for name, value in more.items() if value is not None}}


def start_from_state(saved: Mapping[str, Any]) -> PassPosition:
    """A pass of which nothing has been given. What may be missing is not in the oldest checkpoints."""
    epoch, seed = saved.get("epoch"), saved.get("seed")
    return PassPosition(
        Draws(saved["global"], saved["own"]),
        workers_kept=bool(saved["stayed"]),
        sampler_epoch=epoch if isinstance(epoch, int) else None,
        sampler_seed=seed if isinstance(seed, int) else None,
        premade=saved.get("premade"),
        workers=saved.get("workers"),
    )


# -- loops that count their batches: `box.batches`, and counted loops ------------------------------------------------


def read_to_state(position: PassPosition) -> dict[str, Any]:
    """A pass over a stock loader: `asked` holds the global generators alone."""
    state = start_to_state(position)
    return state if position.first is None else {**state, "asked": position.first.everybodys}


def stateful_to_state(position: PassPosition) -> dict[str, Any]:
    """A pass over a loader that tells its place itself."""
    return {**start_to_state(position), "loader": position.state}


def accelerated_to_state(position: PassPosition) -> dict[str, Any]:
    """A pass over a loader that accelerate has prepared: it counts its passes, and fetches ahead."""
    state = {**start_to_state(position), "iteration": position.number, "newest": position.newest}
    return {**state, "held": position.held}


def read_from_state(saved: Mapping[str, Any]) -> PassPosition:
    """The same. `asked` is not in the oldest checkpoints."""
    asked = saved.get("asked")
    return replace(start_from_state(saved), first=None if asked is None else Draws(asked))


def stateful_from_state(saved: Mapping[str, Any]) -> PassPosition:
    """The same; a pass over a loader of another kind is none of such a loader's."""
    return replace(start_from_state(saved), state=saved["loader"])


def accelerated_from_state(saved: Mapping[str, Any]) -> PassPosition:
    """The same. `newest` and `held` are not in the oldest checkpoints."""
    begun = start_from_state(saved)
    return replace(begun, number=int(saved["iteration"]), newest=saved.get("newest"), held=saved.get("held"))


# -- loops that are watched from outside ----------------------------------------------------------------------------


def watched_to_state(position: PassPosition) -> dict[str, Any]:
    """One of the passes that an unmodified loop makes."""
    return {
        "yielded": position.given,
        "before": start_to_state(position),
        "asked": None if position.first is None else draws_to_state(position.first),
        "rest": position.rest,
        "newest": position.newest,
        "held": position.held,
    }


def watched_from_state(saved: Mapping[str, Any]) -> PassPosition:
    """The same. What came after the first release is not in the oldest checkpoints."""
    asked = saved.get("asked")
    return replace(
        start_from_state(saved["before"]),
        first=None if asked is None else draws_from_state(asked),
        given=int(saved["yielded"]),
        newest=saved.get("newest"),
        held=saved.get("held"),
        rest=saved.get("rest"),
    )


# -- Lightning -------------------------------------------------------------------------------------------------------


def lightning_to_state(position: PassPosition) -> dict[str, Any]:
    """One loader of a CombinedLoader: `before` and `first` hold global and own generators alike."""
    return {
        "before": draws_to_state(position.begun),
        "first": None if position.first is None else draws_to_state(position.first),
        "kept_workers": position.workers_kept,
        "yielded": position.given,
        "rest": position.rest,
        "state": position.state,
        **({} if position.workers is None else {"workers": position.workers}),
    }


def lightning_from_state(saved: Mapping[str, Any]) -> PassPosition:
    """The same. `rest` and `workers` are not in the oldest checkpoints."""
    first = saved["first"]
    return PassPosition(
        draws_from_state(saved["before"]),
        first=None if first is None else draws_from_state(first),
        given=int(saved["yielded"]),
        workers_kept=bool(saved["kept_workers"]),
        rest=saved.get("rest"),
        state=saved["state"],
        workers=saved.get("workers"),
    )


# -- transformers ----------------------------------------------------------------------------------------------------


def transformers_to_state(position: PassPosition) -> dict[str, Any]:
    """Trainer's loader: `before` is of the newest batch, which accelerate has fetched ahead."""
    newest: Draws | None = position.newest
    return {
        "start": start_to_state(position),
        "ahead": position.prefetched,
        "before": None if newest is None else newest.everybodys,
        "own_before": None if newest is None else newest.own,
        "held": position.held,
    }


def transformers_from_state(saved: Mapping[str, Any]) -> PassPosition:
    """The same. `own_before` and `held` are not in the oldest checkpoints."""
    before = saved["before"]
    return replace(
        start_from_state(saved["start"]),
        prefetched=int(saved["ahead"]),
        newest=None if before is None else Draws(before, saved.get("own_before")),
        held=saved.get("held"),
    )


# -- Keras -----------------------------------------------------------------------------------------------------------


def keras_to_state(position: PassPosition | None) -> dict[str, Any]:
    """Keras' iterator of an epoch; None: there is none. Its own generators lie among the global ones."""
    if position is None:
        return {"seen": 0, "opening": None, "first": None}
    first = position.first
    return {
        "seen": position.given,
        "opening": _with_own(position.begun),
        "first": None if first is None else _with_own(first),
    }


def keras_from_state(saved: Mapping[str, Any]) -> PassPosition | None:
    """The same."""
    if saved["opening"] is None:
        return None
    first = saved["first"]
    return PassPosition(
        _without_own(saved["opening"]),
        first=None if first is None else _without_own(first),
        given=int(saved["seen"]),
    )


def _with_own(draws: Draws) -> dict[str, Any]:
    return {**draws.everybodys, "loader": draws.own}


def _without_own(randomness: Mapping[str, Any]) -> Draws:
    """All of Keras' generators at one instant."""
    return Draws({key: value for key, value in randomness.items() if key != "loader"}, randomness["loader"])


# -- generators at one instant ------------------------------------------------------------------------------------------


def draws_to_state(draws: Draws) -> dict[str, Any]:
    """As two parts."""
    return {"global": draws.everybodys, "own": draws.own}


def draws_from_state(saved: Mapping[str, Any]) -> Draws:
    """The same."""
    return Draws(saved["global"], saved["own"])
