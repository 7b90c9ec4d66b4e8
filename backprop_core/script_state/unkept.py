"""What changes and cannot be kept: its name, why, and what to do."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from backprop_core.quick_dataclass import dataclass

_MOST_IN_A_LINE = 40
_CREATED = "it was created during training, and creating it again would run the script's code"


@dataclass(frozen=True, slots=True)
class Unkept:
    """Something that changes during training and is in no checkpoint.

    Attributes:
        name: how it is reached, `main.replay`.
        type: the name of its class.
        why: half a sentence.
        what_to_do: a sentence.
        certain: it is known to change; otherwise nobody can see whether it does.
    """

    name: str
    type: str
    why: str
    what_to_do: str
    certain: bool = True

    @property
    def is_new_instance(self) -> bool:
        """Whether it is one that was created during training."""
        return self.why == _CREATED

    def __str__(self) -> str:
        short = self.type.rpartition(".")[2]
        changes = "changes" if self.certain else "may change"
        return f"`{self.name}` ({short}) {changes} during training and cannot be kept: {self.why}. {self.what_to_do}"


def in_short(found: list[Unkept]) -> list[Unkept]:
    """Without what lies in something that is named already, and one for all members of a collection."""
    short: dict[str, Unkept] = {}
    for one in found:
        parent, bracket, _ = one.name.rpartition("[")
        name = f"{parent}[...]" if bracket and one.name.endswith("]") else one.name
        inside = any(name != known and name.startswith((f"{known}.", f"{known}[")) for known in short)
        if not inside and not any(
            one.name.startswith(f"{known[:-4]}[") for known in short if known.endswith("[...]")
        ):
            short[name] = replace(one, name=name)
    return list(short.values())


def together(found: Iterable[Unkept], more: Iterable[Unkept]) -> list[Unkept]:
    """`found`, and of `more` what is not known by another name: an object may be reached in two ways."""
    result = list(found)
    known = {(one.type, _last(one.name)) for one in result}
    return [*result, *(one for one in more if (one.type, _last(one.name)) not in known)]


def _last(name: str) -> str:
    word = name.rpartition(".")[2]
    return word if word.isidentifier() else "state"


def in_one_line(found: Sequence[Unkept]) -> str:
    """Names and types alone, of so many that a person reads."""
    names = [f"`{one.name}` ({one.type.rpartition('.')[2]})" for one in found[:_MOST_IN_A_LINE]]
    more = len(found) - len(names)
    return ", ".join(names) + (f" and {more} more" if more else "")


def new_instance(name: str, kind: str) -> Unkept:
    """An object of the script's that did not exist at the first boundary."""
    return Unkept(
        name,
        kind,
        _CREATED,
        f"Create it before training begins, keep plain values instead, or give it state_dict() and load_state_dict() "
        f"and call box.track({_last(name)}=...).",
    )


def replaced(name: str, kind: str) -> Unkept:
    """Another object took the place of one that shows nothing of itself."""
    return Unkept(
        name,
        kind,
        "another object has replaced it, and its state cannot be read",
        f"Keep what matters in plain values, or call box.track({_last(name)}=...) with an object that has "
        "state_dict() and load_state_dict().",
    )


def moved(name: str, kind: str) -> Unkept:
    """An iterator that only the script's own code can bring to its place."""
    return Unkept(
        name,
        kind,
        "it has yielded items, and its position cannot be set in another process",
        "Count the items that it has yielded, and skip as many on a resume; or loop over it inside box.batches(...).",
    )


def hidden(name: str, kind: str) -> Unkept:
    """An iterator of itertools from Python 3.14 on, which tells nobody whether it has been asked."""
    return Unkept(
        name,
        kind,
        "this version of Python does not tell its position",
        "Count the items that it has yielded, and skip as many on a resume; or loop over it inside box.batches(...).",
        certain=False,
    )


def cannot_store(name: str, kind: str, why: str) -> Unkept:
    """It changed, and has no form that could be stored."""
    return Unkept(
        name,
        kind,
        why.rstrip("."),
        f"Replace it by numbers, text, arrays or tensors, or call box.track({_last(name)}=...) with an object that has "
        "state_dict() and load_state_dict().",
    )


def unseen_model(name: str, kind: str) -> Unkept:
    """A model of a library in C, which changes without a trace in Python."""
    return Unkept(
        name,
        kind,
        "its library keeps it in its own memory, which backprop cannot read",
        "Have the script save it, and restore it on a resume: --checkpoint-glob 'out/*' --resume-flag FLAG.",
        certain=False,
    )


def own_place(name: str, kind: str) -> Unkept:
    """A loader of a package that goes on by itself from a state that it is given."""
    return Unkept(
        name,
        kind,
        "it keeps its own position, beside the loop that counts its batches",
        "Read from a torch DataLoader or a StatefulDataLoader, which continue at their batch.",
    )


def by_bucket(name: str, kind: str) -> Unkept:
    """What a communication hook of DistributedDataParallel remembers, such as PowerSGD's error feedback."""
    return Unkept(
        name,
        kind,
        "it is kept by the gradient buckets of this process, and another process has others",
        "A resume starts with an empty one. Without the hook it is bit-identical.",
    )


def cached(name: str) -> Unkept:
    """A function that remembers what it gave, up to a number."""
    return Unkept(
        name,
        "functools.lru_cache",
        "a new process calls the function again",
        "That is harmless if it returns the same for the same arguments. If it does not, use functools.cache, which is "
        "kept.",
        certain=False,
    )


def made_twice(kind: str) -> Unkept:
    """A batch that is fetched ahead of training and has no form that could be stored."""
    return Unkept(
        "the batch fetched ahead",
        kind,
        "it is made again on a resume, so what making it changes outside of the loader's dataset, sampler and collate "
        "function differs",
        "That is harmless where making a batch changes nothing else. Otherwise have the loader return tensors, arrays, "
        "numbers, text, lists, tuples or dictionaries.",
        certain=False,
    )


def read_by_thread(name: str, why: str) -> Unkept:
    """A thread of the script's that reads a loader ahead of training, of which nobody knows how much was trained."""
    return Unkept(
        name,
        "Thread",
        f"it reads a loader ahead of training, and {why}",
        "A resume repeats or leaves out batches. Have the thread do no more than put each batch into one queue.Queue, or "
        "let the loader read ahead with workers (num_workers, prefetch_factor).",
    )


def part_of_a_graph(name: str, kind: str) -> Unkept:
    """A tensor that a backward pass may still go through."""
    return Unkept(
        name,
        kind,
        "gradients still flow through it, and only its numbers can be stored",
        "Detach it (x.detach()) if no gradient is needed, or call backward() before the step ends.",
    )


def changed_in_workers(name: str, kind: str, why: str) -> Unkept:
    """What each of a loader's workers changes in its own copy."""
    return Unkept(
        name,
        kind,
        f"it changes in the workers of a loader, and {why}",
        "A cache that only saves time is not missed. Anything else: change it in the training process, or load the trained "
        "batches again on a resume, with box.batches(loader, replay=True).",
    )


def cut_short(name: str) -> Unkept:
    """More objects than are watched."""
    return Unkept(
        name,
        "object",
        "it is behind too many objects to be watched",
        f"Call box.track({_last(name)}=...) if it changes.",
    )


_in_workers: dict[str, Unkept] = {}


def note_in_workers(found: Iterable[Unkept]) -> None:
    """Other processes of this training change this, and it is not kept."""
    _in_workers.update({one.name: one for one in found})


def forget_in_workers() -> None:
    """Another training begins in this process."""
    _in_workers.clear()


def noted_in_workers() -> list[Unkept]:
    """All of it that was noted in this process."""
    return in_short(list(_in_workers.values()))
