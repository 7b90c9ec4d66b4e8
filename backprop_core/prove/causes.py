"""Which of the pieces that differ is the cause of the others, in words, with the line that mends it."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from backprop_core.prove.comparison import OTHER_NUMBER, Compared, Difference
from backprop_core.prove.pieces import Group
from backprop_core.quick_dataclass import dataclass

_ORDER = list(Group)

_DEPENDS: dict[Group, str] = {
    Group.GENERATOR: "Everything that is drawn from it afterwards: dropout, noise, augmentation, the order of the data.",
    Group.BATCH: "Every later step trains on other samples.",
    Group.SCHEDULER: "The learning rate of every later step.",
    Group.SCALER: "The scale of the gradients, and which steps are skipped.",
    Group.VARIABLE: "Whatever the script does with it: a best value, a counter, an average, a decision.",
    Group.BUFFER: "The model's forward pass wherever it uses the buffer.",
    Group.ARRAY: "Whatever is computed with it: weights that the script trains itself, averaged ones, a history.",
    Group.OPTIMIZER: "The size and direction of every later step.",
    Group.PARAMETER: "The model itself.",
    Group.GRADIENT: "The next step, where gradients of several batches are added up.",
    Group.LOGGED: "What is logged, and callbacks that decide by it, such as early stopping.",
    Group.FILE: "Whoever reads the file.",
}

_MENDS: dict[Group, str] = {
    Group.GENERATOR: "Keep it in a variable of the script, or name it: backprop.timebox({name}=generator).",
    Group.BATCH: "Read the data through a DataLoader, or by a loop over box.batches(loader), so that its place is known.",
    Group.SCHEDULER: "Name it: backprop.timebox(scheduler=scheduler), or box.track(scheduler=scheduler).",
    Group.SCALER: "Name it: box.track(scaler=scaler).",
    Group.VARIABLE: "Hold it in an attribute or variable of the script, or track it: box.track({name}=...).",
    Group.BUFFER: "Register it as a persistent buffer, or track it: box.track({name}=...).",
    Group.ARRAY: "Hold it in an attribute or variable of the script, or track it: box.track({name}=...).",
    Group.OPTIMIZER: "Name it: backprop.timebox(model=model, optimizer=optimizer).",
    Group.PARAMETER: "Name the model that trains: backprop.timebox(model=model, optimizer=optimizer).",
    Group.GRADIENT: "Cut between accumulation windows, or name the optimizer: backprop.timebox(optimizer=optimizer).",
    Group.LOGGED: "Keep what it is made from in a variable of the script.",
    Group.FILE: "Open it for appending, or write it after the training.",
}

_UNREPRODUCIBLE: dict[Group, str] = {
    Group.GENERATOR: (
        "It is not seeded: seed it where it is made, such as numpy.random.default_rng(0) or "
        "torch.Generator().manual_seed(0)."
    ),
    Group.BATCH: (
        "The data comes in a different order each time: a sampler, a worker or a set of strings that is not seeded "
        "(PYTHONHASHSEED), files listed without sorted(...), or threads that race."
    ),
    Group.PARAMETER: (
        "The model starts with other weights, or an operation adds in no fixed order: seed before the model is "
        "made, or try torch.use_deterministic_algorithms(True)."
    ),
}
_SEEDS = {
    "python": "random.seed(0)",
    "numpy": "numpy.random.seed(0)",
    "torch": "torch.manual_seed(0)",
    "keras": "keras.utils.set_random_seed(0)",
}
_GLOBAL = "random generator "
"""So begin the names of those that belong to the process."""
_DRAWN_FROM = (
    "It starts the same, but is used a different number of times: threads share it, or timing decides."
)


@dataclass(frozen=True, slots=True)
class Cause:
    """What is named.

    Attributes:
        difference: the piece, and where it first differed.
        depends: what depends on it, a sentence.
        mend: the line that mends it, a sentence.
        seen_on_arrival: it was other than before right after the resume, before any step.
        others: how many further pieces differed at the same boundary.
    """

    difference: Difference
    depends: str
    mend: str
    seen_on_arrival: bool = False
    others: int = 0

    @property
    def sentence(self) -> str:
        """The piece by its name, and where it first differed."""
        one = self.difference
        rank = f" on rank {one.rank}" if one.rank else ""
        cut = f", first after the cut at step {one.after_cut}" if one.after_cut is not None else ""
        what = f"`{one.name}`" if one.group is not Group.BATCH else "the batches"
        return f"{what} ({one.group.value}){rank} {one.how} at step {one.step}{cut}."


def cause_of(compared: Compared) -> Cause | None:
    """The one that is named: of what differs at the first boundary that differs, the piece that the others follow from.

    A piece that a resume did not bring back, seen before any step, goes before all that was computed since.
    """
    if not compared.differences:
        return None
    first = min(compared.differences, key=lambda one: (one.attempt, one.step))
    together = [one for one in compared.differences if (one.attempt, one.step) == (first.attempt, first.step)]
    arrival = [one for one in compared.at_arrival if one.attempt == first.attempt and one.how != "is missing"]
    later = {one.name for one in compared.differences if one.attempt == first.attempt}
    lost = _first([one for one in arrival if one.name in later])
    window = next((one for one in together if one.how.startswith(OTHER_NUMBER)), None)
    data = next((one for one in together if one.group is Group.BATCH), None)
    # What was right on arrival and differs a step later is computed from what the step was given.
    chosen = window or lost or (data if first.attempt in compared.arrivals_seen else None) or _first(together)
    assert chosen is not None
    step = next((one.step for one in compared.differences if one.name == chosen.name), first.step)
    named = Difference(
        chosen.name,
        chosen.group,
        max(step, first.step),
        chosen.rank,
        first.attempt,
        first.after_cut,
        chosen.how,
    )
    return Cause(
        named,
        _DEPENDS[named.group],
        _MENDS[named.group].format(name=short_name(named.name)),
        chosen is lost,
        len(together) - 1,
    )


def _first(differences: Sequence[Difference]) -> Difference | None:
    if not differences:
        return None
    return min(differences, key=lambda one: (_ORDER.index(one.group), one.rank, len(one.name)))


def why_not_reproducible(compared: Compared, moved: Collection[str], refused: str = "") -> Cause | None:
    """The first difference between two whole runs in what is trained, with its usual causes; None where there is none.

    Args:
        moved: names of the pieces that changed while one of them trained. A generator that is not seeded, and that nobody
            has drawn from, is the cause of nothing.
        refused: what a framework has said of an operation that is not deterministic. That goes before such a generator.
    """
    decisive = [one for one in compared.differences if decides(one.group)]
    if not decisive:
        return None
    step = min(one.step for one in decisive)
    generators = [
        one
        for one in compared.differences
        if one.group is Group.GENERATOR and one.step <= step and (one.name in moved or not (step or refused))
    ]
    together = generators or [one for one in decisive if one.step == step]
    chosen = min(
        together, key=lambda one: (one.step, _ORDER.index(one.group), one.rank, _guess(one), len(one.name))
    )
    mend = _UNREPRODUCIBLE.get(chosen.group, _UNREPRODUCIBLE[Group.PARAMETER])
    if chosen.group is Group.GENERATOR:
        mend = _DRAWN_FROM if chosen.step else _seeds(chosen, generators) or mend
    if refused and chosen.group is not Group.GENERATOR:
        mend = f"An operation is not deterministic: {refused}. Use another one."
    return Cause(chosen, _DEPENDS[chosen.group], mend, False, len(together) - 1)


def _seeds(chosen: Difference, generators: Sequence[Difference]) -> str:
    """The lines that seed those of the process; empty where the chosen one is an object's own."""
    if not chosen.name.startswith(_GLOBAL):
        return ""
    names = {
        one.name.removeprefix(_GLOBAL).split(" ")[0] for one in generators if one.name.startswith(_GLOBAL)
    }
    return f"It is not seeded: call {', '.join(call for name, call in _SEEDS.items() if name in names)} at the top."


def _guess(one: Difference) -> bool:
    """Of several generators that are not seeded, those of Python and numpy are drawn from less often than a framework's."""
    return one.name in ("random generator python", "random generator numpy")


def decides(group: Group) -> bool:
    """Whether a piece of this group is trained, or trained on: a variable may hold the time of day, a batch never does."""
    return group not in (Group.GENERATOR, Group.VARIABLE, Group.LOGGED, Group.FILE)


def short_name(name: str) -> str:
    """The last word of a name, for a line of code."""
    word = name.replace("]", "").replace("'", "").split("[")[0].split(" of ")[0].rpartition(".")[2]
    return word if word.isidentifier() else "name"
