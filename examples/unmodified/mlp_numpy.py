"""A small network in numpy alone, on handwritten digits: no framework, no optimizer object."""

import argparse
import time

import numpy as np
from sklearn.datasets import load_digits

parser = argparse.ArgumentParser()
parser.add_argument("--epochs", type=int, default=20)
parser.add_argument("--pause", type=float, default=0.0, help="seconds of extra work in each step")
options = parser.parse_args()

rng = np.random.default_rng(0)
digits = load_digits()
x, y = digits.data / 16, np.eye(10)[digits.target]
w1, w2 = rng.normal(0, 0.2, (64, 32)), rng.normal(0, 0.2, (32, 10))
v1, v2 = np.zeros_like(w1), np.zeros_like(w2)
losses = []
for epoch in range(options.epochs):
    total = 0.0
    for batch in np.array_split(rng.permutation(len(x)), 30):
        hidden = np.maximum(0, x[batch] @ w1)
        hidden *= rng.random(hidden.shape) > 0.1
        scores = hidden @ w2
        chances = np.exp(scores - scores.max(1, keepdims=True))
        chances /= chances.sum(1, keepdims=True)
        total -= np.log((chances * y[batch]).sum(1)).sum()
        error = (chances - y[batch]) / len(batch)
        g2 = hidden.T @ error
        g1 = x[batch].T @ (error @ w2.T * (hidden > 0))
        v1 = 0.9 * v1 - 0.5 * g1
        v2 = 0.9 * v2 - 0.5 * g2
        w1 += v1
        w2 += v2
        time.sleep(options.pause)
    losses.append(total / len(x))
    print(f"epoch {epoch}: loss {losses[-1]:.6f}", flush=True)
np.savez("result.npz", w1=w1, w2=w2, losses=losses)
