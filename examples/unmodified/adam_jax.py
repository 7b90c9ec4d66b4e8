"""A JAX loop in the manner of optax: parameters and optimizer state go into a compiled update and come out again."""

import argparse
import time

import jax
import jax.numpy as jnp
import numpy as np
from sklearn.datasets import load_digits


def forward(params, x, key):
    hidden = jnp.tanh(x @ params["w1"] + params["b1"])
    hidden = hidden * jax.random.bernoulli(key, 0.9, hidden.shape)
    return hidden @ params["w2"] + params["b2"]


def loss_of(params, x, y, key):
    return -jnp.mean(jax.nn.log_softmax(forward(params, x, key))[jnp.arange(len(y)), y])


@jax.jit
def update(params, state, x, y, key):
    loss, slope = jax.value_and_grad(loss_of)(params, x, y, key)
    count = state["count"] + 1
    first = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, state["first"], slope)
    second = jax.tree.map(lambda v, g: 0.999 * v + 0.001 * g * g, state["second"], slope)

    def moved(p, m, v):
        return p - 0.01 * (m / (1 - 0.9**count)) / (jnp.sqrt(v / (1 - 0.999**count)) + 1e-8)

    return (
        jax.tree.map(moved, params, first, second),
        {"count": count, "first": first, "second": second},
        loss,
    )


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--pause", type=float, default=0.0, help="seconds of extra work in each step")
    options = parser.parse_args()
    digits = load_digits()
    x, y = jnp.asarray(digits.data / 16), jnp.asarray(digits.target)
    key = jax.random.PRNGKey(0)
    params = {
        "w1": jax.random.normal(key, (64, 32)) * 0.2,
        "b1": jnp.zeros(32),
        "w2": jax.random.normal(jax.random.fold_in(key, 1), (32, 10)) * 0.2,
        "b2": jnp.zeros(10),
    }
    zeros = jax.tree.map(jnp.zeros_like, params)
    state = {"count": 0, "first": zeros, "second": zeros}
    shuffle = np.random.RandomState(1)
    for epoch in range(options.epochs):
        losses = []
        for rows in np.array_split(shuffle.permutation(len(x)), 30):
            key, now = jax.random.split(key)
            params, state, loss = update(params, state, x[rows], y[rows], now)
            losses.append(float(loss))
            time.sleep(options.pause)
        print(f"epoch {epoch}: loss {np.mean(losses):.6f}", flush=True)
    np.savez("result.npz", **params)


if __name__ == "__main__":
    main()
