"""How torch's random generators are saved and given back: one by one, those of a loader, and those of the process."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from backprop_core.ports.framework import Tracked
from backprop_core.quick_dataclass import dataclass
from backprop_core.script_state.trackables import NumpyGeneratorTracked, PythonRandomTracked


def cuda_in_use() -> bool:
    """Whether this process has begun to use a CUDA device; asking does not begin it."""
    return torch.cuda.is_available() and bool(torch.cuda.is_initialized())  # type: ignore[no-untyped-call]


@dataclass(frozen=True, slots=True)
class GeneratorTracked:
    """A `torch.Generator`."""

    generator: torch.Generator

    def capture(self) -> object:
        return self.generator.get_state()

    def mismatch(self, state: object) -> str | None:
        return None if isinstance(state, torch.Tensor) else "is not the state of a torch.Generator"

    def restore(self, state: Any) -> None:
        self.generator.set_state(state.clone())


class GeneratorsTracked:
    """The generators that a loader, its samplers and its dataset draw from: torch's, numpy's and python's."""

    def __init__(self, generators: Sequence[Any]) -> None:
        self.generators = [_holder(generator) for generator in generators]

    def capture(self) -> object:
        return [holder.capture() for holder in self.generators]

    def mismatch(self, state: Any) -> str | None:
        if len(state) != len(self.generators):
            return f"has {len(state)} generators, not {len(self.generators)}"
        reasons = (holder.mismatch(saved) for holder, saved in zip(self.generators, state, strict=True))
        return next((why for why in reasons if why is not None), None)

    def restore(self, state: Any) -> None:
        for holder, saved in zip(self.generators, state, strict=True):
            holder.restore(saved)


def _holder(generator: Any) -> Tracked:
    if isinstance(generator, torch.Generator):
        return GeneratorTracked(generator)
    return (
        PythonRandomTracked(generator)
        if isinstance(generator, random.Random)
        else NumpyGeneratorTracked(generator)
    )


class TorchRandomness:
    """The global generators of the CPU and of every accelerator in use."""

    def capture(self) -> object:
        state: dict[str, Any] = {"cpu": torch.get_rng_state()}
        if cuda_in_use():
            state["cuda"] = list(torch.cuda.get_rng_state_all())
        if torch.backends.mps.is_available():
            state["mps"] = torch.mps.get_rng_state()
        return state

    def mismatch(self, state: object) -> str | None:
        return None if isinstance(state, Mapping) else "is not a state of torch's generators"

    def restore(self, state: Any) -> None:
        torch.set_rng_state(state["cpu"].clone())
        cuda = state.get("cuda")
        if cuda is not None and torch.cuda.is_available() and len(cuda) == torch.cuda.device_count():
            torch.cuda.set_rng_state_all([saved.clone() for saved in cuda])
        if state.get("mps") is not None and torch.backends.mps.is_available():
            torch.mps.set_rng_state(state["mps"].clone())
