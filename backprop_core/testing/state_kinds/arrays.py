"""Kinds of state that are arrays, generators and objects of frameworks; copied beside a program like `state_kinds`."""

from __future__ import annotations

import copy
from collections import deque
from typing import Any

from .plain import StateKind, in_place, peeked

NAMED = frozenset({"array_of_structs", "array_of_objects", "metric_tracker"})
"""Of the kinds below those that cannot be kept, so that they have to be named."""


def numpy_kinds() -> dict[str, StateKind]:
    """Needs numpy."""
    import numpy as np

    def grown(some: Any) -> Any:
        return np.append(some, some[-1] / 3)

    def viewed() -> Any:
        base = np.arange(6.0)
        return [base, base[2:4]]

    def spawned(some: Any) -> None:
        some[1] = some[0].spawn(1)[0].random()

    def seeded(some: Any) -> None:
        some[1] = int(some[0].spawn(1)[0].generate_state(1)[0])

    def replay(some: Any) -> None:
        row, number, score, _ = some[-1]
        some.append((row * 1.1, np.int64(number + 1), np.float32(score + 0.5), bool(number % 2)))

    structured = [("a", "i4"), ("b", "f8")]
    return {
        "numpy_generator": StateKind(
            lambda: np.random.default_rng(1),
            in_place(lambda some: some.normal()),
            lambda some: some.bit_generator.state,
        ),
        "random_state": StateKind(
            lambda: np.random.RandomState(2),
            in_place(lambda some: some.rand()),
            lambda some: some.get_state(legacy=False),
        ),
        "children_of_generator": StateKind(
            lambda: [np.random.default_rng(3), 0.0], in_place(spawned), lambda some: some[1]
        ),
        "children_of_seeds": StateKind(
            lambda: [np.random.SeedSequence(3), 0], in_place(seeded), lambda some: some[1]
        ),
        "bit_generator": StateKind(
            lambda: np.random.PCG64(3),
            in_place(lambda some: np.random.Generator(some).random()),
            lambda some: some.state,
        ),
        "replay_of_arrays": StateKind(
            lambda: deque([(np.ones(3), np.int64(1), np.float32(0.5), False)], maxlen=4),
            in_place(replay),
            lambda some: [
                (row.tobytes(), int(number), float(score), end) for row, number, score, end in some
            ],
        ),
        "generators_in_dict": StateKind(
            lambda: {"a": [np.random.default_rng(5)]},
            in_place(lambda some: some["a"][0].random()),
            lambda some: some["a"][0].bit_generator.state,
        ),
        "array_in_place": StateKind(
            lambda: np.ones(5), in_place(lambda some: some.__iadd__(some / 3)), lambda some: some.tobytes()
        ),
        "array_exchanged": StateKind(lambda: np.ones(1), grown, lambda some: some.tobytes()),
        "array_viewed": StateKind(
            viewed, in_place(lambda some: some[1].__iadd__(some[0][3] / 9)), lambda some: some[0].tobytes()
        ),
        "array_of_structs": StateKind(
            lambda: np.zeros(3, structured),
            in_place(lambda some: some["b"].__iadd__(0.1 + some["b"] / 3)),
            lambda some: some.tobytes(),
        ),
        "numpy_errors": StateKind(
            lambda: np.seterr(under="ignore"),
            in_place(lambda some: np.seterr(under="warn" if np.geterr()["under"] == "ignore" else "ignore")),
            lambda some: np.geterr()["under"],
        ),
        "numpy_number": StateKind(
            lambda: np.float32(1),
            lambda some: np.float32(some * 1.01),
            lambda some: (type(some).__name__, float(some).hex()),
        ),
        "array_of_objects": StateKind(
            lambda: np.array([[1], "a"], object),
            in_place(lambda some: some.__setitem__(1, str(some[1]) + "a")),
            lambda some: repr(some.tolist()),
        ),
    }


def torch_kinds() -> dict[str, StateKind]:
    """Needs torch."""
    import torch
    import torch.nn.utils.prune
    from torch import nn

    prune: Any = torch.nn.utils.prune

    def module() -> Any:
        with torch.random.fork_rng():
            torch.manual_seed(7)
            return nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3))

    @torch.no_grad()
    def train(some: Any) -> Any:
        for one in some.parameters():
            one.mul_(1.01).add_(0.1)
        some(torch.ones(2, 3) * next(some.parameters()).flatten()[0])

    def pruned(some: Any) -> None:
        train(some)
        prune.l1_unstructured(some[0], "weight", 0.2)

    def seen(some: Any) -> Any:
        return [(name, one.detach().numpy().tobytes()) for name, one in sorted(some.state_dict().items())]

    def numbers(some: Any) -> Any:
        return some.detach().double().numpy().tobytes()

    def best(some: Any) -> Any:
        return {
            "state": copy.deepcopy(some["model"].state_dict()),
            "model": (train(some["model"]), some["model"])[1],
        }

    def averaged(some: Any) -> None:
        train(some[0])
        some[1].update_parameters(some[0])

    def viewed() -> Any:
        base = torch.arange(6.0)
        return [base, base[2:4]]

    def resize(some: Any) -> None:
        some.resize_(some.numel() + 1)
        some[-1] = some.numel()

    def switch(some: Any) -> None:
        some[1].momentum *= 0.9
        some.train(not some.training)
        some[0].bias.requires_grad_(some.training)

    def switches(some: Any) -> Any:
        flags = [one.training for one in some.modules()], [one.requires_grad for one in some.parameters()]
        return *flags, some[1].momentum

    printed = torch._tensor_str.PRINT_OPTS

    def set_width(columns: int) -> None:
        torch.set_printoptions(linewidth=columns)  # type: ignore[no-untyped-call]

    return {
        "torch_line_width": StateKind(
            lambda: set_width(80),
            in_place(lambda some: set_width(printed.linewidth + 1)),
            lambda some: printed.linewidth,
        ),
        "torch_generator": StateKind(
            lambda: torch.Generator().manual_seed(3),
            in_place(lambda some: torch.rand(1, generator=some)),
            lambda some: numbers(some.get_state()),
        ),
        "tensor_in_place": StateKind(lambda: torch.ones(5), in_place(lambda some: some.mul_(1.01)), numbers),
        "tensor_exchanged": StateKind(
            lambda: torch.ones(1), lambda some: torch.cat([some, some[-1:] / 3]), numbers
        ),
        "tensor_of_16_bits": StateKind(
            lambda: torch.ones(5, dtype=torch.bfloat16), lambda some: some * 1.25 % 3, numbers
        ),
        "tensors_in_dict": StateKind(
            lambda: {"w": torch.zeros(3)},
            in_place(lambda some: some["w"].mul_(0.9).add_(0.3)),
            lambda some: numbers(some["w"]),
        ),
        "tensor_viewed": StateKind(
            viewed, in_place(lambda some: some[1].add_(some[0][3] / 9)), lambda some: numbers(some[0])
        ),
        "tensor_resized": StateKind(lambda: torch.ones(1), in_place(resize), numbers),
        "switches_of_module": StateKind(module, in_place(switch), switches),
        "tensors_in_list": StateKind(
            list,
            in_place(lambda some: some.append(torch.ones(2) * len(some))),
            lambda some: numbers(torch.stack(some)) if some else 0,
            every_epoch=True,
        ),
        "module_of_no_optimizer": StateKind(module, in_place(train), seen),
        "best_weights": StateKind(
            lambda: {"state": None, "model": module()}, best, lambda some: repr(some["state"])
        ),
        "averaged_model": StateKind(
            lambda: [one := module(), torch.optim.swa_utils.AveragedModel(one)],
            in_place(averaged),
            lambda some: seen(some[1]),
        ),
        "pruned_module": StateKind(module, in_place(pruned), seen),
    }


def torchmetrics_kinds() -> dict[str, StateKind]:
    """Needs torchmetrics."""
    import torch
    import torchmetrics
    from torchmetrics.wrappers import MetricTracker, MinMaxMetric, Running

    def value(some: Any) -> Any:
        return torch.tensor(float(some.update_count * 7 % 5))

    def update(some: Any) -> None:
        some(value(some))

    def higher(some: Any) -> None:
        some(some.max_val * 1.25 + 1 if some.max_val.isfinite() else torch.tensor(1.0))

    def track(some: Any) -> None:
        if not some.n_steps or some[-1].update_count == 3:
            some.increment()
        some.update(torch.tensor(float(some.n_steps + some[-1].update_count)))

    def attributes(some: Any) -> Any:
        shown = {
            k: v
            for k, v in vars(some).items()
            if isinstance(v, int | float | torch.Tensor) and k != "training"
        }
        return repr(sorted(shown.items())), repr(some.compute()), some.update_count

    return {
        "mean_metric": StateKind(torchmetrics.MeanMetric, in_place(update), attributes),
        "smallest_and_largest": StateKind(
            lambda: MinMaxMetric(torchmetrics.MeanMetric()),
            in_place(higher),
            lambda some: repr(sorted(some.compute().items())),
        ),
        "running_metric": StateKind(
            lambda: Running(torchmetrics.SumMetric(), window=3),
            in_place(lambda some: some(torch.tensor(float(some._num_vals_seen)))),
            lambda some: (repr(some.compute()), some._num_vals_seen),
        ),
        "metric_tracker": StateKind(
            lambda: MetricTracker(torchmetrics.MeanMetric(), maximize=True),
            in_place(track),
            lambda some: (some.n_steps, repr(some.compute_all())),
        ),
    }


def jax_kinds() -> dict[str, StateKind]:
    """Needs jax."""
    import jax
    import numpy as np

    def looked(some: Any) -> Any:
        return np.asarray(some).tobytes()

    return {
        "jax_key": StateKind(
            lambda: jax.random.key(3),
            lambda some: jax.random.split(some)[0],
            lambda some: looked(jax.random.key_data(some)),
        ),
        "old_jax_key": StateKind(
            lambda: jax.random.PRNGKey(3), lambda some: jax.random.split(some)[0], looked
        ),
        "jax_array": StateKind(lambda: jax.numpy.ones(3), lambda some: some * 1.01, looked),
        "jax_tree": StateKind(
            lambda: {"a": [jax.numpy.ones(3)], "b": (jax.numpy.zeros(1),)},
            lambda some: jax.tree.map(lambda one: one * 1.01 + 0.1, some),
            lambda some: [looked(one) for one in jax.tree.leaves(some)],
        ),
    }


def tensorflow_kinds() -> dict[str, StateKind]:
    """Needs TensorFlow."""
    import tensorflow as tf

    return {
        "tf_variable": StateKind(
            lambda: tf.Variable([1.0, 2.0]),
            in_place(lambda some: some.assign(some * 1.01)),
            lambda some: some.numpy().tobytes(),
        ),
        "tf_tensor": StateKind(
            lambda: tf.constant([1.0]),
            lambda some: tf.concat([some, some[-1:] / 3], 0),
            lambda some: some.numpy().tobytes(),
        ),
        "tf_generator": StateKind(
            lambda: tf.random.Generator.from_seed(3),
            in_place(lambda some: some.normal([1])),
            lambda some: some.state.numpy().tobytes(),
        ),
    }


def loader_kinds() -> dict[str, StateKind]:
    """Needs torch: an iterator of a loader that a program asks by itself."""
    from torch.utils.data import DataLoader

    numbers: Any = range(999)

    return {
        "loader_iterator": StateKind(
            lambda: iter(DataLoader(numbers, batch_size=2)),
            in_place(peeked),
            lambda some: some._num_yielded,
        ),
    }
