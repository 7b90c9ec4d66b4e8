"""Every global random generator together."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

from backprop_core.ports.framework import Tracked
from backprop_core.script_state.trackables import NumpyGlobalRandomTracked, PythonRandomTracked
from backprop_torch.generators import TorchRandomness


class Randomness:
    """Python's, numpy's and torch's generators."""

    def __init__(self) -> None:
        self._kinds: dict[str, Tracked] = {
            "python": PythonRandomTracked(random),
            "numpy": NumpyGlobalRandomTracked(),
            "torch": TorchRandomness(),
        }

    def randomness(self) -> dict[str, object]:
        """Where each of them is now."""
        return {name: kind.capture() for name, kind in self._kinds.items()}

    def set_randomness(self, states: Mapping[str, Any]) -> None:
        """Put each of them where it was."""
        for name, kind in self._kinds.items():
            if states.get(name) is not None:
                kind.restore(states[name])
