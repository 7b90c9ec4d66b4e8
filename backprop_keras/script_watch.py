"""What the script's own callbacks change while Keras trains, whatever they call it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import keras

from backprop_core.checkpoints.arrays import Translator
from backprop_core.ports.framework import frameworks_in_use
from backprop_core.script_state.arrays import copied
from backprop_core.script_state.kinds import is_the_scripts
from backprop_core.script_state.state import Missing, Root, ScriptState, Unkept

_KEPT_WITH_THE_MODEL = (keras.Layer, keras.optimizers.Optimizer, keras.metrics.Metric, keras.losses.Loss)
_PACKAGES = frozenset({"keras", "tensorflow", "jax", "jaxlib"})


class CallbackWatch:
    """The state of one fit's callbacks, those of Keras' own excepted: what they remember is known.

    Args:
        callbacks: the fit's list, a live view.
    """

    def __init__(self, callbacks: Sequence[Any], translators: Sequence[Translator]) -> None:
        self._callbacks = callbacks
        self.state = ScriptState(
            self._roots,
            tracked_elsewhere=is_stored,
            frameworks=frameworks_in_use(),
            translators=translators,
        )

    def begin(self) -> None:
        """Training is about to begin, and every `on_train_begin` is over: remember how things are, once."""
        if not self.state.has_baseline:
            self.state.baseline()

    def capture(self) -> Any:
        """What has changed since, as a copy; None before the beginning."""
        return copied(self.state.changed()) if self.state.has_baseline else None

    def restore(self, saved: Any) -> list[Missing]:
        """Put back what `capture` gave; what could not be. Earlier versions stored nothing of it."""
        if not isinstance(saved, Mapping):
            return []
        self.begin()
        return self.state.restore(saved).missing

    def unkept(self) -> list[Unkept]:
        """What had changed when it was last taken, and is not in it."""
        return self.state.unkept()

    def _roots(self) -> Sequence[Root]:
        roots, count = [], dict[str, int]()
        for callback in self._callbacks:
            name = type(callback).__name__
            count[name] = count.get(name, 0) + 1
            name = f"callback {name}" if count[name] == 1 else f"callback {name} {count[name]}"
            if is_the_scripts(type(callback)):
                roots.append((name, callback))
        return roots


def is_stored(value: object) -> bool:
    """Whether it is a model or a part of one, or Keras' own."""
    kind = type(value)
    if issubclass(kind, _KEPT_WITH_THE_MODEL):
        return True
    module = type.__dict__["__module__"].__get__(kind)
    return (
        isinstance(module, str) and module.partition(".")[0] in _PACKAGES and not hasattr(kind, "__array__")
    )
