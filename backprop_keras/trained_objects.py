"""What trains in a script whose loops are counted: Keras models, optimizers and metrics that its variables hold."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from types import FrameType

import keras

from backprop_core.ports.trained_objects import StepListener

_KINDS = (keras.Model, keras.optimizers.Optimizer, keras.metrics.Metric)


class KerasTrainedObjects:
    """Implements the port `TrainedObjects`. A compiled train step hides its optimizer, so no step is seen."""

    sees_steps = False
    steps = 0

    def __init__(self) -> None:
        self.grew = True

    def may_step(self) -> bool:
        """Never: no step is told."""
        return False

    def watch(self, listener: StepListener) -> AbstractContextManager[None]:
        """Nothing is watched: an iteration of the innermost training loop is a step."""
        return nullcontext()

    def objects(self, frame: FrameType | None = None) -> Mapping[str, object]:
        """Of several names for one object, the outermost in the script."""
        self.grew = False
        found: dict[str, object] = {}
        known: set[int] = set()
        for name, value in _variables(frame):
            if id(value) not in known and name not in found:
                known.add(id(value))
                found[name] = value
        return found

    def candidates(
        self, frame: FrameType | None = None, wanted: Collection[str] = ()
    ) -> Mapping[str, object]:
        """The same, whether it trains or not; of several names for one object, one that is `wanted`."""
        found = dict(self.objects(frame))
        known = {id(value): name for name, value in found.items()}
        for name, value in _variables(frame):
            if name in wanted and known.get(id(value)) not in wanted:
                found.pop(known.pop(id(value), name), None)
                found[name] = value
                known[id(value)] = name
        return found

    def were_trained(self, values: Iterable[object]) -> None:
        """Those that have trained are not told from others."""

    def is_idle(self, value: object, since: int) -> bool:
        """Nobody sees what steps."""
        return False

    def steers(self, value: object) -> bool:
        """Nobody sees what another has replaced."""
        return False

    def awaits_backward(self, value: object) -> bool:
        """Keras keeps no graph from one step to the next."""
        return False

    def computes_again(self, owner: object, attribute: str) -> bool:
        """Nothing of Keras' does."""
        return False


def held_by_script(frame: FrameType | None) -> list[object]:
    """Models, optimizers and metrics that variables of the script's functions around `frame` hold."""
    return [value for _, value in _variables(frame)]


def _variables(frame: FrameType | None) -> Iterator[tuple[str, object]]:
    frames = []
    while frame is not None:
        if not frame.f_globals.get("__name__", "").startswith(("backprop_", "keras.", "tensorflow.")):
            frames.append(frame)
        frame = frame.f_back
    for one in reversed(frames):
        for scope in (one.f_globals, dict(one.f_locals)):
            for name, value in list(scope.items()):
                if name.startswith("_"):
                    continue
                if isinstance(value, _KINDS):
                    yield name, value
                elif type(value).__module__ not in ("builtins", "types") and hasattr(value, "__dict__"):
                    for inner, held in list(vars(value).items()):
                        if not inner.startswith("_") and isinstance(held, _KINDS):
                            yield inner, held
