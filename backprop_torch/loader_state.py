"""What of a loader changes from pass to pass: in its dataset, its samplers and its collate function.

A sampler that counts its passes, a list that it deals from, a generator in a transform: whatever is reached from the
loader's parts and is not what it was when the loader was first met.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any
from weakref import ref

from backprop_core.checkpoints.numpy_arrays import NumpyTranslator
from backprop_core.clock import SYSTEM
from backprop_core.loop.loader_parts import brought_by_a_pass, made_by_index
from backprop_core.ports.framework import frameworks_in_use
from backprop_core.script_state.arrays import copied
from backprop_core.script_state.namespace import InstanceNamespace
from backprop_core.script_state.state import Root, ScriptState
from backprop_core.script_state.trackables import track
from backprop_core.script_state.unkept import Unkept
from backprop_torch.generators import GeneratorsTracked
from backprop_torch.script_parts import LOADER, stored_with

_LOOKS = 4
"""So many times the whole state is looked at, whether more than generators changes."""
_LONGEST_LOOK_S = 0.005
_PARTS = ("dataset", "sampler", "batch_sampler", "collate_fn")


class LoaderState:
    """The state of one loader, from the moment at which it is first met.

    Args:
        generators: those that the loader's parts hold as attributes; checkpoints of earlier versions hold no more.
    """

    def __init__(self, loader: Any, generators: GeneratorsTracked) -> None:
        frameworks = self._frameworks = frameworks_in_use()
        self._generators = generators
        self._state = ScriptState(
            _roots_of(loader),
            tracked_elsewhere=_stored_by(loader),
            frameworks=frameworks,
            translators=[*(framework.translator for framework in frameworks), NumpyTranslator()],
            read_by_loops=_brought_by_a_pass(loader),
        )
        self._state.baseline()
        self._beginning: Any = None
        self._captures = self._resuming = 0
        self._too_slow = False
        self._changes = False

    def capture(self) -> object:
        """What differs, as a copy: a pass keeps it for as long as it runs."""
        self._captures += 1
        changed = self._state.changed()
        self._changes = any(node["kind"] != "random" for node in changed["nodes"])
        return {"script": copied(changed)}

    def mismatch(self, state: Any) -> str | None:
        """Why `state` cannot be restored."""
        if isinstance(state, Mapping):
            return None
        return self._generators.mismatch(state)

    def restore(self, state: Any) -> None:
        """Put back what `capture` gave."""
        if isinstance(state, Mapping):
            self._restore(state["script"])
        else:
            self._generators.restore(state)

    def _restore(self, difference: Mapping[str, Any]) -> None:
        """A difference is one from the beginning: what an earlier one has put back since is taken back first."""
        is_as_made = all(node["kind"] == "random" for node in self._state.changed()["nodes"])
        self._state.expect(difference)
        if self._beginning is not None:
            self._state.restore(self._beginning)
        elif is_as_made:
            self._state.hold()  # a buffer that drops its oldest items has others in their places from now on
            self._beginning = copied(self._state.changed())
        self._state.restore(difference)

    @contextmanager
    def resuming(self) -> Iterator[None]:
        """Inside, the passes that begin are brought to where an interrupted one stood, and more is put back behind it."""
        self._resuming += 1
        try:
            yield
        finally:
            self._resuming -= 1

    def let_go(self) -> None:
        """A pass begins. If it was not interrupted, nothing earlier is put back any more."""
        if not self._resuming:
            self._state.let_go()

    def before_batch(self) -> dict[str, Any]:
        """What decides the batch that is made next: all state where more than generators changes, else these alone.

        Where looking at all of it takes too long for each batch, it is only noted that there is more: see `lacks_more`.
        """
        if not self._too_slow and (self._changes or self._captures < _LOOKS):
            began = SYSTEM.monotonic()
            whole = {"whole": self.capture()}
            self._too_slow = SYSTEM.monotonic() - began > _LONGEST_LOOK_S and self._captures > _LOOKS
            return whole
        return {"draws": self.draws(), "more": self._changes}

    @staticmethod
    def lacks_more(saved: Mapping[str, Any] | None) -> bool:
        """Whether `before_batch` left out something that changes: then the batches before have to be loaded once more."""
        return saved is not None and bool(saved.get("more"))

    def restore_before_batch(self, saved: Mapping[str, Any] | None) -> None:
        """Put back what `before_batch` gave."""
        if saved is not None and "whole" in saved:
            self.restore(saved["whole"])
        elif saved is not None:
            self.set_draws(saved["draws"])

    def draws(self) -> dict[str, Any]:
        """The states of its random generators alone: cheap, for each batch."""
        return {
            name: copied(track(name, one, self._frameworks).capture())
            for name, one in self._state.generators()
        }

    def set_draws(self, states: Mapping[str, Any] | None) -> None:
        """Put back what `draws` gave."""
        for name, one in self._state.generators():
            if states is not None and name in states:
                track(name, one, self._frameworks).restore(states[name])

    def reached(self) -> frozenset[int]:
        """All objects whose state this is, by identity."""
        return self._state.reached()

    def unkept(self) -> list[Unkept]:
        """What had changed at the last capture and is not in it."""
        return self._state.unkept()


def _stored_by(loader: Any) -> Callable[[object], bool]:
    """A stateful loader stores what its dataset says of itself, and sets it as it goes."""
    stored = stored_with({})
    dataset = getattr(loader, "dataset", None)
    if not (_speaks(loader) and _speaks(dataset)):
        return stored
    its_own = id(dataset)
    return lambda value: id(value) == its_own or stored(value)


def _brought_by_a_pass(loader: Any) -> Callable[[], Collection[int] | None]:
    """A pass that is read again brings all iterators to their places; one that skips by index those of its order."""
    if made_by_index(loader) is None:
        return lambda: None
    parts = [id(part) for part in brought_by_a_pass(loader)]
    return lambda: parts


def _speaks(value: object) -> bool:
    return all(callable(getattr(type(value), name, None)) for name in ("state_dict", "load_state_dict"))


def _roots_of(loader: Any) -> Callable[[], Sequence[Root]]:
    try:
        held: Callable[[], Any] = ref(loader)
    except TypeError:  # it cannot be referred to weakly
        held = lambda: loader  # noqa: E731

    def roots() -> Sequence[Root]:
        loader = held()
        own = InstanceNamespace(loader, "loader", skip=LOADER | frozenset(_PARTS))
        return [*((name, one) for name in _PARTS if (one := getattr(loader, name, None)) is not None), own]

    return roots


_known: dict[int, tuple[Callable[[], Any], LoaderState]] = {}


def loader_state(loader: Any, generators: GeneratorsTracked) -> LoaderState:
    """The state of `loader`, the same object as long as the loader lives."""
    number = id(loader)
    known = _known.get(number)
    if known is not None and known[0]() is loader:
        return known[1]
    state = LoaderState(loader, generators)
    with suppress(TypeError):  # it cannot be referred to weakly
        _known[number] = (ref(loader, lambda gone: _known.pop(number, None)), state)
    return state
