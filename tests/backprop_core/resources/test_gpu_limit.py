"""What `-g` puts into the script's environment."""

from __future__ import annotations

import pytest

from backprop_core.resources.gpu_limit import limit_environ, unheld
from backprop_core.resources.samples import GIB, GpuSample


def gpu(total_gib: float | None) -> GpuSample:
    total = None if total_gib is None else round(total_gib * GIB)
    return GpuSample("u", "u", "nvidia", 0, memory_total_bytes=total)


@pytest.mark.parametrize(("limit", "fraction"), [("8", "0.2500"), ("80%", "0.8000"), ("64", "1.0000")])
def test_jax_gets_a_fraction_of_the_gpu(limit: str, fraction: str) -> None:
    """A share as it is, a number of GB by the size of the GPU, never more than all of it."""
    environ = limit_environ(limit, [gpu(32)], {})
    assert environ == {"XLA_PYTHON_CLIENT_MEM_FRACTION": fraction, "BACKPROP_GPU_MEMORY_TOTAL": str(32 * GIB)}


def test_the_smallest_of_several_gpus_counts() -> None:
    """One fraction holds for all devices of a process, so the allowance must be right on the smallest."""
    assert limit_environ("8", [gpu(32), gpu(16)], {})["BACKPROP_GPU_MEMORY_TOTAL"] == str(16 * GIB)


@pytest.mark.parametrize("gpus", [[], [gpu(None)], [gpu(32), gpu(None)]])
def test_an_unknown_size_leaves_out_what_needs_it_and_says_so(gpus: list[GpuSample]) -> None:
    """GB cannot be turned into JAX's fraction, a share cannot be turned into TensorFlow's bytes."""
    assert limit_environ("8", gpus, {}) == {}
    assert "JAX" in unheld("8", gpus)
    assert limit_environ("50%", gpus, {}) == {"XLA_PYTHON_CLIENT_MEM_FRACTION": "0.5000"}
    assert "TensorFlow" in unheld("50%", gpus)
    assert unheld("8", [gpu(32)]) == ""


def test_what_the_user_has_set_for_jax_is_only_made_smaller() -> None:
    """The smaller fraction holds, under the name that is in use (JAX refuses both); preallocation is left alone."""
    old, new = "XLA_PYTHON_CLIENT_MEM_FRACTION", "XLA_CLIENT_MEM_FRACTION"
    assert limit_environ("50%", [], {old: "0.3", "XLA_PYTHON_CLIENT_PREALLOCATE": "false"}) == {old: "0.3000"}
    assert limit_environ("50%", [], {old: "0.9"}) == {old: "0.5000"}
    assert limit_environ("50%", [], {new: ".9"}) == {new: "0.5000"}
    assert limit_environ("50%", [], {old: "much"}) == {old: "0.5000"}


def test_without_a_limit_nothing_is_set() -> None:
    """No -g leaves the environment as it is."""
    assert limit_environ(None, [gpu(32)], {}) == {}
    assert unheld(None, []) == ""
