"""Trainings whose steps no optimizer of torch's takes, although torch is imported: no_optimizer.py SHAPE TRACE PAUSE."""

from __future__ import annotations

import hashlib
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, TensorDataset

SHAPE, TRACE, PAUSE = sys.argv[1], Path(sys.argv[2]), float(sys.argv[3])
torch.manual_seed(3)
X = torch.randn(96, 5)
Y = X.sin().sum(1, keepdim=True)


def note(*values: Any) -> None:
    digest = hashlib.sha256(b"".join(np.asarray(value).tobytes() for value in values)).hexdigest()[:16]
    with TRACE.open("a") as trace:
        trace.write(digest + "\n")
    time.sleep(PAUSE)


def functional() -> None:
    """Weights in a dictionary, gradients by torch.autograd.grad, and an update by hand."""
    weights = {"first": torch.randn(5, 8) * 0.3, "second": torch.randn(8, 1) * 0.3}
    momentum = {name: torch.zeros_like(value) for name, value in weights.items()}
    best = float("inf")
    for step in range(120):
        weights = {name: value.requires_grad_() for name, value in weights.items()}
        pick = torch.randint(96, (8,))
        loss = (torch.tanh(X[pick] @ weights["first"]) @ weights["second"] - Y[pick]).pow(2).mean()
        gradients = torch.autograd.grad(loss, list(weights.values()))
        momentum = {name: 0.9 * momentum[name] + g for name, g in zip(weights, gradients, strict=True)}
        weights = {name: (value - 0.02 * momentum[name]).detach() for name, value in weights.items()}
        best = min(best, float(loss.detach()))
        note(*weights.values(), step, best)


def jax_on_a_loader() -> None:
    """JAX trains on the batches of torch's DataLoader, in epochs."""
    import jax
    import jax.numpy as jnp

    def loss_of(weights: Any, x: Any, y: Any) -> Any:
        return jnp.mean((jnp.tanh(x @ weights["first"]) @ weights["second"] - y) ** 2)

    weights = {"first": jnp.full((5, 8), 0.1), "second": jnp.full((8, 1), 0.2)}
    gradient = jax.jit(jax.value_and_grad(loss_of))
    losses = []
    for _ in range(10):
        for x, y in DataLoader(TensorDataset(X, Y), batch_size=8, shuffle=True):
            loss, found = gradient(weights, x.numpy(), y.numpy())
            weights = jax.tree.map(lambda value, g: value - 0.05 * g, weights, found)
            losses.append(float(loss))
            note(*weights.values(), sum(losses))


{"functional": functional, "jax_on_a_loader": jax_on_a_loader}[SHAPE]()
