"""scikit-learn's `partial_fit` on a stream of digits, with a scaler that learns as it goes."""

import argparse
import time

import numpy as np
from sklearn.datasets import load_digits
from sklearn.linear_model import SGDClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.preprocessing import StandardScaler


def stream(x, y, rng, size):
    order = rng.permutation(len(x))
    for start in range(0, len(x), size):
        rows = order[start : start + size]
        yield x[rows], y[rows]


parser = argparse.ArgumentParser()
parser.add_argument("--epochs", type=int, default=10)
parser.add_argument("--pause", type=float, default=0.0, help="seconds of extra work in each step")
options = parser.parse_args()

digits = load_digits()
rng = np.random.default_rng(0)
scaler, model = StandardScaler(), SGDClassifier(loss="log_loss", random_state=0)
network = MLPClassifier((24,), random_state=0)
for epoch in range(options.epochs):
    for x, y in stream(digits.data, digits.target, rng, 60):
        scaler.partial_fit(x)
        model.partial_fit(scaler.transform(x), y, classes=np.arange(10))
        network.partial_fit(scaler.transform(x), y, classes=np.arange(10))
        time.sleep(options.pause)
    scores = [one.score(scaler.transform(digits.data), digits.target) for one in (model, network)]
    print(f"epoch {epoch}: accuracy {scores[0]:.6f} and {scores[1]:.6f}", flush=True)
np.savez("result.npz", coefficients=model.coef_, mean=scaler.mean_, steps=model.t_, network=network.coefs_[0])
