"""Probes: each reads one thing, never raises, and says `None` for what it does not know."""

from __future__ import annotations

from backprop_core.clock import Clock
from backprop_core.resources.probes.choice import gpu_probe
from backprop_core.resources.probes.host import Host
from backprop_core.resources.sampler import Sampler

__all__ = ["make_sampler"]


def make_sampler(gpu: str, clock: Clock) -> Sampler:
    """A sampler with the host probe and the GPU probe of that name (auto, nvml, nvidia-smi, rocm, none)."""
    return Sampler(Host(), gpu_probe(gpu), clock)
