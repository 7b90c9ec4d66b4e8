"""What a framework package tells the core, so that the core need not know any framework.

A package announces itself by an entry point in the group `backprop.frameworks`, named after the module whose presence
in `sys.modules` wakes it. `backprop_torch` is one.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from functools import cache
from types import FrameType
from typing import TYPE_CHECKING, Any, Protocol

from backprop_core.checkpoints.arrays import Translator
from backprop_core.checkpoints.shards import SavedShards, Shards

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

    from backprop_core.loop.resume_report import Place
    from backprop_core.outcome import Outcome

GROUP = "backprop.frameworks"


class Tracked(Protocol):
    """One object whose state goes into every checkpoint."""

    def capture(self) -> object:
        """The state: plain values, arrays and tensors, without copying them."""
        ...

    def mismatch(self, state: object) -> str | None:
        """Why `state` cannot be restored into this object, as half a sentence, or None. Changes nothing."""
        ...

    def restore(self, state: object) -> None:
        """Put `state` back, in place."""
        ...


class LoaderReading(Protocol):
    """One pass over a data loader whose position can be saved and found again."""

    length: int | None
    """Batches in the pass, where the loader knows."""

    batch_size: int | None
    """Samples in each batch, the last perhaps fewer, where the loader knows."""

    caveat: str
    """One sentence on what of this loader cannot come back bit for bit, or empty."""

    def begin(
        self, saved: Any | None, skip: int, resume_randomness: Callable[[], None] | None
    ) -> Iterator[Any]:
        """An iterator that stands behind `skip` batches.

        Args:
            saved: what `position` returned in the earlier process, or None for a new pass.
            skip: batches already trained.
            resume_randomness: sets every random generator to where it was at the boundary, where the first of the batches
                to come had been asked for; to be called last. None: it had not been, so what asking for it draws is still
                to be drawn, and the caller sets the generators.
        """
        ...

    def note_start(self) -> None:
        """A pass begins now, by somebody else's hand: remember what `position` has to tell of it."""
        ...

    def position(self, *, midway: bool) -> Any:
        """What `begin` needs to find back to this pass, as values that a checkpoint can hold.

        Args:
            midway: the boundary lies in a loop inside the batch given last, so that batch is to be given again.
        """
        ...


class StepListener(Protocol):
    """Is told of the optimizer steps of a script whose loops are counted."""

    def before_step(self, *, closure: bool, seldom: bool) -> None:
        """An optimizer is about to step.

        Args:
            closure: it is given a function that evaluates the loss, and may call it any number of times.
            seldom: it has taken few steps so far, so this one may be a whole training.
        """
        ...

    def stepped(self) -> None:
        """It has stepped."""
        ...

    def evaluation(self) -> AbstractContextManager[object]:
        """Around each call of the function that the step was given."""
        ...

    def inside_step(self, *, lowest: bool, seldom: bool) -> None:
        """Behind such a call, once there were many: whether its loss is the lowest so far. May end the process."""
        ...


class TrainedObjects(Protocol):
    """What trains in a script whose loops are counted."""

    sees_steps: bool
    """Whether steps are told; where they are not, an iteration of the innermost training loop is one."""

    grew: bool
    """An optimizer has stepped that `objects` was not asked about yet."""

    def watch(self, listener: StepListener) -> AbstractContextManager[None]:
        """Inside, `listener` is told of each step of an optimizer."""
        ...

    def objects(self, frame: FrameType | None = None) -> Mapping[str, object]:
        """What trains, by the names that the script gives it in `frame` and around it."""
        ...

    def candidates(self, frame: FrameType | None = None) -> Mapping[str, object]:
        """What exists and could train, by the same names."""
        ...

    def awaits_backward(self, value: object) -> bool:
        """Whether `value` is an array at the end of a graph that gradients may still be taken through."""
        ...


class LoaderPasses(Protocol):
    """The passes over loaders that a script begins by itself."""

    def watch(self, randomness: RandomnessKeeper) -> AbstractContextManager[None]:
        """Inside, every pass that begins is remembered."""
        ...

    def made_by(self, iterator: object) -> tuple[Any, LoaderReading] | None:
        """The loader that made `iterator`, and the reading that knows how its pass began."""
        ...

    def given_by(self, iterator: object) -> int | None:
        """Items that `iterator` has given; None where nobody counts them, or where it is over."""
        ...

    def remember(self, iterator: object, loader: object, reading: LoaderReading) -> None:
        """`iterator` was made of `loader` by somebody who knows how its pass began."""
        ...

    def is_loader(self, source: object) -> bool:
        """Whether it is a loader whose passes are remembered."""
        ...


class RandomnessKeeper(Protocol):
    """Takes and sets all global random generators of all frameworks together."""

    def randomness(self) -> dict[str, object]: ...

    def set_randomness(self, states: Any) -> None: ...


class LoopListener(Protocol):
    """What a framework calls while a script's own loop runs that knows nothing of backprop."""

    def pass_begins(self) -> None:
        """Just before a pass over a loader begins that may be one that trains."""
        ...

    def first_step(self) -> None:
        """Just before the first optimizer step of the block."""
        ...

    def training_begins(self, number: int) -> None:
        """Just before the first optimizer step of a further training, with objects of its own; the process's first is 0."""
        ...

    def objects_joined(self) -> None:
        """Just before the first step of an optimizer that trains beside those that were known."""
        ...

    def place_lost(self) -> None:
        """The pass that was to go on is under way already, and cannot be taken back: its samples come again."""
        ...

    def cannot_follow(self, why: Exception | str, *, entirely: bool) -> None:
        """The script has got what it would have got without us, and is not followed any further.

        Args:
            why: what unforeseen thing went wrong in the watching, or half a sentence on what the script does.
            entirely: nothing is watched any more; otherwise only the place in the data is lost.
        """
        ...

    def at_boundary(self, *, epoch_end: bool) -> None:
        """Between two steps; may raise the private signal that leaves the block."""
        ...

    def inside_step(self, *, lowest: bool, seldom: bool) -> None:
        """Inside of an optimizer step that evaluates its closure many times; may raise the signal that leaves the block.

        Args:
            lowest: the loss is the lowest of the step so far.
            seldom: no regular boundaries come between such steps.
        """
        ...

    def must_leave(self) -> bool:
        """Whether the block has to be left now, even in the middle of an evaluation. Cheap when called often."""
        ...


class Ranks(Protocol):
    """The processes of one training, and how they talk; all come to the same boundaries."""

    count: int
    rank: int

    def share(self, opening: Any) -> Any:
        """What the first rank gives, on every rank."""
        ...

    def hear(self, number: int) -> int:
        """The highest signal number that any rank has received, or 0."""
        ...

    def agree(self, why_not: str) -> str:
        """Each says why it cannot go on, or nothing; the first such sentence on every rank, or nothing."""
        ...

    def ask_for_states(self) -> None:
        """The first rank is about to save: the others take part."""
        ...

    def post(self, key: str, text: str) -> None:
        """Leave word for another rank, from any thread, without waiting for it."""
        ...

    def posted(self, key: str) -> str | None:
        """What was left under `key`; None while there is nothing. From any thread."""
        ...

    def gather(self, own: Any) -> list[Any]:
        """What every rank gave, in the order of ranks, on the first."""
        ...

    def release(self, leave: bool, batches: int, outcome: Outcome) -> None:
        """The first rank lets the others go on for `batches` boundaries, or leave."""
        ...

    def step_aside(self, why: str) -> None:
        """The first rank cannot go on in the box: the others step aside as well."""
        ...

    def follow(self, give: Callable[[], Any]) -> tuple[bool, int, Outcome]:
        """The others do what the first rank says until it lets go: whether to leave, boundaries to the next, outcome.

        Raises:
            RankError: it steps aside.
        """
        ...

    def boundaries_to_next_talk(self, session: Any, talked_s: float) -> int:
        """How many boundaries may pass without a word."""
        ...


class RawLoop(Protocol):
    """An unchanged training loop seen from outside: what it uses, where it is, and when it is between two steps."""

    def watch(self) -> AbstractContextManager[None]:
        """Hooks are in place inside this context and gone after it."""
        ...

    def objects(self) -> Mapping[str, object]:
        """What training uses, by a name that is the same in every process; complete at the first boundary."""
        ...

    def candidates(self) -> Mapping[str, object]:
        """What exists already and could be used, by the same names."""
        ...

    def repair(self, states: dict[str, Any]) -> None:
        """Mend, in place, what an earlier version is known to have stored wrongly, so that it fits the training again."""
        ...

    def position(self) -> Any:
        """Where the running loader stands, as values that a checkpoint can hold, or None."""
        ...

    def resume(self, position: Any, when_begun: Callable[[], object], *, midway: bool = False) -> bool:
        """The next training pass over the matching loader is to start at `position`; `when_begun` is called there, last.

        True: it will be.

        Args:
            midway: a pass is under way already, and goes on as that one.
        """
        ...

    def training_of(self, position: Any) -> int:
        """In which of the process's trainings `position` lies, the first is 0."""
        ...

    def place_of(self, position: Any) -> tuple[Place, int]:
        """What `position` is, for people, and how many batches of an interrupted pass are over in it."""
        ...

    def goes_on_at_a_step(self, position: Any) -> bool:
        """Whether `position` lies just before an optimizer step, with its gradients."""
        ...

    def step_is_open(self) -> bool:
        """Whether a step was taken since the last boundary."""
        ...

    def forked(self) -> None:
        """This process is a fork of the one whose loops were watched: watch it in its place."""
        ...

    def nullify_until_boundary(self) -> None:
        """Restored state came too late for the first forward pass: no step has an effect before the next boundary."""
        ...


class Framework(Protocol):
    """One framework's knowledge: its arrays, objects, randomness and loops."""

    @property
    def name(self) -> str: ...

    @property
    def translator(self) -> Translator: ...

    def adopt(self, value: object) -> Tracked | None:
        """A way to save `value`, if it is one of this framework's objects."""
        ...

    def companion(self, value: object, tracked: Mapping[str, object]) -> Tracked | None:
        """A further state that belongs to `value` but not into its own file, such as pending gradients.

        Args:
            value: a tracked object, or a loader.
            tracked: all tracked objects, a live view.
        """
        ...

    def script_parts(self, kind: type) -> frozenset[str] | None:
        """For a class of the framework's whose attributes are to be looked into: those that are no part of a script's state.

        None: the framework has no opinion on it.
        """
        ...

    def stored_with(self, tracked: Mapping[str, object]) -> Callable[[object], bool]:
        """Whether a value is stored with the `tracked` objects or found again from a position, so no part of a script's."""
        ...

    def randomness(self) -> Tracked:
        """The framework's global random generators."""
        ...

    def environment(self) -> Mapping[str, Any]:
        """Versions and flags that bit-exactness depends on, as plain JSON."""
        ...

    def reading(
        self, loader: object, randomness: RandomnessKeeper, *, replay: bool = False
    ) -> LoaderReading | None:
        """How to read `loader` with a position, or None if it is not one of this framework's.

        Args:
            replay: batches that are already trained are to be loaded again and thrown away.
        """
        ...

    def synchronize(self) -> None:
        """Wait until the accelerator has done what was asked, so that the clock tells the truth."""
        ...

    def watch_steps(self, stepped: Callable[[], None]) -> AbstractContextManager[None]:
        """Call `stepped` after each optimizer step inside this context."""
        ...

    def raw_loop(
        self, listener: LoopListener, randomness: RandomnessKeeper, caller: FrameType | None
    ) -> RawLoop | None:
        """Watch and steer an unchanged loop; `caller` is the frame that opened the block. None: it cannot be watched."""
        ...

    def trained_objects(self) -> TrainedObjects | None:
        """What trains in a script whose loops are counted; None: nothing is known of it beyond what the script names."""
        ...

    def loader_passes(self) -> LoaderPasses | None:
        """The passes over this framework's loaders; None: it has none."""
        ...

    def ranks(self) -> Ranks | None:
        """The processes that this one trains with, None if it is alone. All of them have to ask at the same time."""
        ...

    def knows_ranks(self) -> bool:
        """Whether this process knows of others that it trains with. Asked by one alone: nothing is exchanged."""
        ...

    def is_replicated(self, value: object) -> bool:
        """Whether all of them hold the same `value`, such as a model whose gradients are averaged, so that one saves it."""
        ...

    def refuse_nondeterminism(self) -> None:
        """From now on an operation that is not deterministic raises an error that names it."""
        ...

    def holds_spread(self, values: Iterable[object]) -> bool:
        """Whether one of `values` trains arrays of which each of the processes holds a part."""
        ...

    def divided(self, states: Mapping[str, object]) -> tuple[Mapping[str, object], Shards]:
        """`states` with marks in the place of such arrays, and what this process holds of them.

        Raises:
            UnsavableStateError: one that cannot be stored as it is.
        """
        ...

    def united(
        self,
        states: Mapping[str, Any],
        saved: SavedShards | None,
        here: Mapping[str, object],
        objects: Mapping[str, object],
    ) -> Mapping[str, Any]:
        """`states` of a checkpoint with arrays as this process holds them, whoever saved them.

        Args:
            saved: the parts of the processes that made it, or None.
            here: the same states as they are now.
            objects: what they are states of.

        Raises:
            StateMismatchError: a part of an array is missing.
        """
        ...

    def is_stop_debris(self, error: BaseException) -> bool:
        """Whether `error` is what a stop signal to a whole process group leaves behind (a killed loader worker)."""
        ...


@cache
def _entries() -> tuple[EntryPoint, ...]:
    from importlib.metadata import entry_points  # 20 ms that only a process with a box needs

    return tuple(sorted(entry_points(group=GROUP), key=lambda entry: entry.name))


_loaded: dict[str, Framework] = {}


def frameworks_in_use() -> list[Framework]:
    """The frameworks whose module the process has imported, in the order of their names: that is how they are asked.

    A Keras model on PyTorch is an `nn.Module` too; `keras` comes first.
    """
    found = []
    for entry in _entries():
        if entry.name in sys.modules:
            if entry.name not in _loaded:
                _loaded[entry.name] = entry.load()()
            found.append(_loaded[entry.name])
    return found


def ranks_among(frameworks: Iterable[Framework]) -> Ranks | None:
    """The processes that this one trains with, as one of `frameworks` knows; None if it is alone."""
    return next((ranks for framework in frameworks if (ranks := framework.ranks()) is not None), None)
