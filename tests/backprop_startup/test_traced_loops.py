"""A loop in a function that JAX traces runs once in each process, on stand-ins for arrays: it is no training."""

from __future__ import annotations

import pytest

from tests.backprop_cli.commandline import CommandLine

SCRIPT = """
import jax
import jax.numpy as jnp

def stream():
    key = jax.random.PRNGKey(0)
    while True:
        key, one = jax.random.split(key)
        yield jax.random.uniform(one)

def inner(rate, weight, xs):
    for x in xs:
        weight = weight - rate * jax.grad(lambda w: (w * x - 3.0 * x) ** 2)(weight)
    return (weight - 3.0) ** 2, weight

@jax.jit
def outer(rate, weight, xs):
    slope, weight = jax.grad(inner, has_aux=True)(rate, weight, xs)
    return rate - 0.01 * slope, weight

data = stream()
rate, weight, rates = jnp.array(0.1), jnp.array(0.0), []
for _ in range(200):
    rate, weight = outer(rate, weight, [next(data) for _ in range(5)])
    rates.append(rate)
print(rate, weight, len(rates))
"""


@pytest.mark.long
def test_a_loop_in_a_traced_function_is_no_training(backprop: CommandLine) -> None:
    """Its iterations were counted as steps in the first process alone: the random numbers of a resume were others."""
    backprop.script(SCRIPT)
    proof = backprop("prove", "--steps", "12", "--cuts", "2", "-m", "10", "train.py", timeout=600)
    assert proof.returncode == 0, proof.stdout + proof.stderr
    assert "Bit-identical over 12 steps and 2 cuts" in proof.stdout + proof.stderr
