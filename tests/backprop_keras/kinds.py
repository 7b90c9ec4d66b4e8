"""The kinds of `fit` whose cut trainings have to equal the whole ones."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np

from tests.backprop_keras.cutting import Cut

BACKEND = keras.backend.backend()
KINDS: dict[str, Callable[[Cut], dict[str, Any]]] = {}
ON: dict[str, tuple[str, ...]] = {}
SEEDED: set[str] = set()
"""Kinds whose data comes in an order that only the script's own seed decides."""

_ALL = ("tensorflow", "torch", "jax")


def kind(
    *on: str, seeded: bool = False
) -> Callable[[Callable[[Cut], dict[str, Any]]], Callable[[Cut], dict[str, Any]]]:
    """A kind of training, on the backends `on` (all by default)."""

    def add(train: Callable[[Cut], dict[str, Any]]) -> Callable[[Cut], dict[str, Any]]:
        KINDS[train.__name__] = train
        ON[train.__name__] = on or _ALL
        if seeded:
            SEEDED.add(train.__name__)
        return train

    return add


def data(samples: int = 70) -> tuple[Any, Any]:
    """Five batches of 16, the last one partial; the same in every process."""
    generator = np.random.default_rng(3)
    x = generator.normal(size=(samples, 6)).astype("float32")
    return x, (x.sum(axis=1) > 0).astype("int32")


def network(*, dropout: bool = True, norm: bool = True) -> Any:
    layers = [keras.layers.Input((6,)), keras.layers.Dense(8, activation="tanh")]
    layers += [keras.layers.BatchNormalization()] if norm else []
    layers += [keras.layers.Dropout(0.3)] if dropout else []
    return keras.Sequential([*layers, keras.layers.Dense(2)])


def compiled(model: Any, optimizer: Any = None, **keywords: Any) -> Any:
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    keywords.setdefault("metrics", ["accuracy"])
    keywords.setdefault("jit_compile", BACKEND == "jax")  # elsewhere it takes longer than all the steps
    model.compile(optimizer or keras.optimizers.Adam(0.01), loss, **keywords)
    return model


def state(model: Any, history: Any, **more: Any) -> dict[str, Any]:
    """All bits that have to be the same."""
    draws: list[Any] = [
        random.random(),
        float(np.random.random()),
        float(keras.ops.convert_to_numpy(keras.random.uniform(()))),
    ]
    if BACKEND == "torch":
        import torch

        draws.append(torch.rand(()).item())
    return {
        "model": [np.array(v) for v in model.variables],
        "optimizer": [np.array(v) for v in model.optimizer.variables],
        "metrics": [np.array(v) for v in model.metrics_variables],
        "history": dict(history.history),
        "epochs": list(history.epoch),
        "draws": draws,
        "sticks": sorted(
            name
            for name in vars(model)
            if name in ("_should_eval", "_initial_epoch") and vars(model)[name] is not None
        ),
        **more,
    }


@kind()
def arrays_shuffled(cut: Cut) -> dict[str, Any]:
    """Arrays, Dropout and BatchNorm, a learning-rate schedule, validation."""
    x, y = data()
    schedule = keras.optimizers.schedules.ExponentialDecay(0.01, 5, 0.9)
    model = compiled(network(), keras.optimizers.Adam(schedule))
    history = model.fit(
        x, y, batch_size=16, epochs=3, verbose=0, validation_data=(x[:20], y[:20]), callbacks=cut.callbacks()
    )
    return state(model, history)


@kind()
def arrays_in_order(cut: Cut) -> dict[str, Any]:
    """Without shuffling, with sample weights, momentum, gradient clipping; our callback stands first."""
    x, y = data()
    weights = np.linspace(0.5, 1.5, len(x)).astype("float32")
    model = compiled(network(), keras.optimizers.SGD(0.05, momentum=0.9, clipnorm=1.0))
    history = model.fit(
        x,
        y,
        batch_size=16,
        epochs=2,
        verbose=0,
        shuffle=False,
        sample_weight=weights,
        callbacks=cut.callbacks(first=True),
    )
    return state(model, history)


@kind()
def split_and_class_weights(cut: Cut) -> dict[str, Any]:
    """validation_split, class_weight, validation every second epoch, a first epoch of the user's."""
    x, y = data()
    model = compiled(network())
    history = model.fit(
        x, y, batch_size=16, epochs=5, initial_epoch=2, verbose=0, validation_split=0.2, validation_freq=2,
        class_weight={0: 1.0, 1: 2.0}, callbacks=cut.callbacks(),
    )  # fmt: skip
    return state(model, history)


@kind()
def arrays_kept_over_epochs(cut: Cut) -> dict[str, Any]:
    """steps_per_epoch smaller than the data: one iterator serves several epochs."""
    x, y = data(160)
    model = compiled(network())
    history = model.fit(
        x,
        y,
        batch_size=16,
        epochs=5,
        steps_per_epoch=4,
        verbose=0,
        validation_data=(x[:20], y[:20]),
        callbacks=cut.callbacks(),
    )
    return state(model, history)


@kind()
def shuffled_inside_batches(cut: Cut) -> dict[str, Any]:
    """shuffle="batch", no compilation at all."""
    x, y = data()
    model = compiled(network(norm=False), run_eagerly=True)
    history = model.fit(x, y, batch_size=16, epochs=2, verbose=0, shuffle="batch", callbacks=cut.callbacks())
    return state(model, history)


@kind("tensorflow", "jax")
def four_steps_an_execution(cut: Cut) -> dict[str, Any]:
    """steps_per_execution=4 with an epoch of 9 batches: the last execution has one."""
    x, y = data(140)
    model = compiled(network(), steps_per_execution=4)
    history = model.fit(
        x, y, batch_size=16, epochs=3, verbose=0, validation_data=(x[:64], y[:64]), callbacks=cut.callbacks()
    )
    return state(model, history)


@kind("tensorflow", "jax")
def compiled_by_xla(cut: Cut) -> dict[str, Any]:
    """jit_compile on, plain SGD on a model whose Dropout has a seed."""
    x, y = data()
    model = compiled(network(norm=False), keras.optimizers.SGD(0.1), jit_compile=True)
    history = model.fit(x, y, batch_size=16, epochs=2, verbose=0, callbacks=cut.callbacks())
    return state(model, history)


@kind()
def brain_floats(cut: Cut) -> dict[str, Any]:
    """mixed_bfloat16, gradients accumulated over 3 batches, a moving average of the weights that overwrites them."""
    keras.config.set_dtype_policy("mixed_bfloat16")
    x, y = data()
    optimizer = keras.optimizers.Adam(
        0.01, gradient_accumulation_steps=3, use_ema=True, ema_momentum=0.9, ema_overwrite_frequency=2
    )
    model = compiled(network(), optimizer)
    history = model.fit(x, y, batch_size=16, epochs=2, verbose=0, callbacks=cut.callbacks())
    return state(model, history)


@kind()
def half_floats(cut: Cut) -> dict[str, Any]:
    """mixed_float16 with a loss scale that grows every third step."""
    keras.config.set_dtype_policy("mixed_float16")
    x, y = data()
    optimizer = keras.optimizers.LossScaleOptimizer(
        keras.optimizers.Adam(0.01), initial_scale=256.0, dynamic_growth_steps=3
    )
    model = compiled(network(norm=False), optimizer)
    history = model.fit(x, y, batch_size=16, epochs=2, verbose=0, callbacks=cut.callbacks())
    return state(model, history)


@kind()
def stock_callbacks(cut: Cut) -> dict[str, Any]:
    """Callbacks with a memory: patience, plateau, best weights, a multiplying schedule, a log that appends."""
    x, y = data()
    held_x, held_y = x[:32], 1 - y[:32]  # labels that are wrong: the validation soon gets worse
    log = cut.folder / "log.csv"
    appended = cut.folder / "appended.csv"
    best = cut.folder / "best.weights.h5"
    every = cut.folder / "every.weights.h5"
    callbacks = [
        keras.callbacks.EarlyStopping(patience=3, restore_best_weights=True),
        keras.callbacks.ReduceLROnPlateau(factor=0.5, patience=1, cooldown=1),
        keras.callbacks.ModelCheckpoint(str(best), save_best_only=True, save_weights_only=True),
        keras.callbacks.LearningRateScheduler(lambda epoch, rate: rate * 0.9),
        keras.callbacks.CSVLogger(str(log)),
        keras.callbacks.CSVLogger(str(appended), append=True),
        keras.callbacks.ModelCheckpoint(str(every), save_weights_only=True, save_freq=3),
    ]
    model = compiled(network(norm=False), keras.optimizers.Adam(0.05))
    history = model.fit(
        x,
        y,
        batch_size=16,
        epochs=6,
        verbose=0,
        validation_data=(held_x, held_y),
        callbacks=cut.callbacks(*callbacks, first=cut.piece == 1),
    )
    early, plateau, checkpoint = callbacks[:3]
    return state(
        model,
        history,
        memory=[early.wait, early.stopped_epoch, early.best_epoch, plateau.wait, plateau.cooldown_counter],
        best=[None if c.best is None else float(c.best) for c in (early, plateau, checkpoint)],
        every=callbacks[-1]._batches_seen_since_last_saving,
        log=[log.read_text(), appended.read_text()] if cut.at is None else "",
    )


class _WarmUp(keras.callbacks.Callback):  # type: ignore[misc]
    """Counts epochs and batches by itself, decides the learning rate by them, and remembers curves."""

    def __init__(self) -> None:
        super().__init__()
        self.batches = self.epochs = 0
        self.curves: dict[str, list[float]] = {}

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self.epochs += 1
        self.curves[f"epoch {self.epochs}"] = []

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        self.batches += 1
        self.model.optimizer.learning_rate = 0.001 * self.batches / self.epochs
        self.curves[f"epoch {self.epochs}"].append(self.batches / 7)


@kind()
def counting_callback(cut: Cut) -> dict[str, Any]:
    """A callback of the user's own with counters that nothing but its attributes holds."""
    x, y = data()
    model, warm_up = compiled(network()), _WarmUp()
    history = model.fit(
        x, y, batch_size=16, epochs=3, verbose=0, validation_data=(x[:20], y[:20]),
        callbacks=[warm_up, *cut.callbacks()],
    )  # fmt: skip
    seen = [warm_up.batches, warm_up.epochs, list(warm_up.curves), *warm_up.curves.values()]
    return state(model, history, warm_up=seen)


@kind()
def tensorboard_callback(cut: Cut) -> dict[str, Any]:
    """Keras' TensorBoard callback, batch by batch: every scalar at its step, once, over the event files of all pieces."""
    x, y = data()
    board = keras.callbacks.TensorBoard(str(cut.folder / "board"), update_freq=1)
    model = compiled(network(norm=False))
    history = model.fit(
        x, y, batch_size=16, epochs=3, verbose=0, validation_data=(x, y), callbacks=cut.callbacks(board)
    )
    return state(model, history, scalars=_scalars(cut.folder / "board") if cut.at is None else [])


def _scalars(folder: Path) -> list[Any]:
    import tensorflow as tf

    found = []
    for path in folder.rglob("*.tfevents.*"):
        for event in tf.compat.v1.train.summary_iterator(str(path)):
            for value in event.summary.value:
                if value.metadata.plugin_data.plugin_name == "scalars":
                    number = float(tf.make_ndarray(value.tensor))
                    found.append([path.parent.name, value.tag, event.step, number])
    assert len(found) > 30, found
    return sorted(found)


@kind()
def py_dataset(cut: Cut) -> dict[str, Any]:
    """A PyDataset without workers, shuffled by Keras, that draws random numbers for a batch. TensorFlow reads it ahead."""
    model = compiled(network())
    dataset = Batches(workers=1, noisy=True)
    history = model.fit(dataset, epochs=3, verbose=0, shuffle=True, callbacks=cut.callbacks())
    return state(model, history)


@kind()
def py_dataset_with_workers(cut: Cut) -> dict[str, Any]:
    """A PyDataset read by two threads, whose order a thread draws, and a validation in between."""
    model = compiled(network())
    history = model.fit(
        Batches(workers=2),
        epochs=3,
        verbose=0,
        shuffle=True,
        validation_data=Batches(workers=1),
        callbacks=cut.callbacks(),
    )
    return state(model, history)


class Batches(keras.utils.PyDataset):  # type: ignore[misc]
    """Six batches."""

    def __init__(self, workers: int, *, noisy: bool = False) -> None:
        super().__init__(workers=workers)
        self._x, self._y = data(96)
        self._noisy = noisy

    def __len__(self) -> int:
        return 6

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        part = slice(16 * index, 16 * (index + 1))
        noise = np.random.normal(size=(16, 6)).astype("float32") if self._noisy else 0
        return self._x[part] + noise, self._y[part]


@kind()
def py_dataset_that_shuffles_itself(cut: Cut) -> dict[str, Any]:
    """A PyDataset as tutorials write it: it shuffles in on_epoch_end, by a generator of its own that adds noise, too."""
    model = compiled(network())
    history = model.fit(
        ShufflesItself(workers=1), epochs=4, verbose=0, shuffle=False, callbacks=cut.callbacks()
    )
    return state(model, history)


class ShufflesItself(Batches):
    """Draws its order from its own generator."""

    def __init__(self, workers: int) -> None:
        super().__init__(workers)
        self.indices = np.arange(96)
        self.drawn = np.random.default_rng(5)

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        part = self.indices[16 * index : 16 * (index + 1)]
        noise = self.drawn.normal(size=(16, 6))
        return (self._x[part] + noise).astype("float32"), self._y[part]

    def on_epoch_end(self) -> None:
        self.drawn.shuffle(self.indices)


@kind()
def shuffled_dataset_cut_in_a_validation(cut: Cut) -> dict[str, Any]:
    """The dataset has shuffled for the next epoch already when the validation is interrupted."""
    cut.place = "validation"
    x, y = data()
    model = compiled(network())
    history = model.fit(
        ShufflesItself(workers=1), epochs=4, verbose=0, shuffle=False, validation_data=(x, y),
        validation_batch_size=5, callbacks=cut.callbacks(),
    )  # fmt: skip
    return state(model, history)


@kind(seeded=True)
def generator(cut: Cut) -> dict[str, Any]:
    """A Python generator without an end, steps_per_epoch."""

    def batches() -> Any:
        drawn = np.random.default_rng(11)
        while True:
            x = drawn.normal(size=(16, 6)).astype("float32")
            yield x, (x.sum(axis=1) > 0).astype("int32")

    model = compiled(network())
    history = model.fit(batches(), epochs=3, steps_per_epoch=4, verbose=0, callbacks=cut.callbacks())
    return state(model, history)


@kind()
def generator_that_draws_from_the_script(cut: Cut) -> dict[str, Any]:
    """A Python generator that changes variables of the function around it, and is read ahead by TensorFlow."""
    x, y = data()
    drawn, given = np.random.default_rng(4), [0]

    def batches() -> Any:
        while True:
            for start in range(0, 64, 16):
                given[0] += 1
                noise = drawn.normal(size=(16, 6)) + 1 / given[0]
                yield (x[start : start + 16] + noise).astype("float32"), y[start : start + 16]

    model = compiled(network())
    history = model.fit(batches(), epochs=3, steps_per_epoch=5, verbose=0, callbacks=cut.callbacks())
    return state(model, history)


@kind("torch", "jax")
def sampler_that_counts_its_passes(cut: Cut) -> dict[str, Any]:
    """A DataLoader whose sampler has another order in each pass, by a number of its own."""
    import torch

    class Counting(torch.utils.data.Sampler):  # type: ignore[misc,type-arg]
        passes = 0

        def __len__(self) -> int:
            return 70

        def __iter__(self) -> Any:
            self.passes += 1
            return iter(np.random.default_rng(self.passes).permutation(70).tolist())

    x, y = data()
    dataset = torch.utils.data.TensorDataset(torch.from_numpy(x), torch.from_numpy(y))
    loader: Any = torch.utils.data.DataLoader(dataset, batch_size=16, sampler=Counting())
    model = compiled(network())
    history = model.fit(loader, epochs=4, verbose=0, callbacks=cut.callbacks())
    return state(model, history)


@kind(seeded=True)
def tf_data(cut: Cut) -> dict[str, Any]:
    """A tf.data pipeline that shuffles anew in every epoch from a seed."""
    import tensorflow as tf

    x, y = data()
    dataset = tf.data.Dataset.from_tensor_slices((x, y)).shuffle(70, seed=5).batch(16)
    model = compiled(network())
    history = model.fit(
        dataset, epochs=4, verbose=0, validation_data=dataset.take(2), callbacks=cut.callbacks()
    )
    return state(model, history)


@kind(seeded=True)
def tf_data_without_end(cut: Cut) -> dict[str, Any]:
    """A tf.data pipeline that repeats, so that one iterator serves all epochs."""
    import tensorflow as tf

    x, y = data()
    dataset = tf.data.Dataset.from_tensor_slices((x, y)).shuffle(70, seed=5).batch(16).repeat()
    model = compiled(network(norm=False))
    history = model.fit(dataset, epochs=3, steps_per_epoch=4, verbose=0, callbacks=cut.callbacks())
    return state(model, history)


def _loader(workers: int, *, own: bool = False) -> Any:
    import torch

    x, y = data()
    dataset = torch.utils.data.TensorDataset(torch.from_numpy(x), torch.from_numpy(y))
    seeded = torch.Generator().manual_seed(23) if own else None
    return torch.utils.data.DataLoader(
        dataset, batch_size=16, shuffle=True, num_workers=workers, generator=seeded
    )


@kind("torch", "jax")
def data_loader(cut: Cut) -> dict[str, Any]:
    """A PyTorch DataLoader that shuffles with torch's global generator."""
    import torch

    if BACKEND != "torch":
        torch.manual_seed(1_000 * cut.piece + 5 if cut.run else 5)
    model = compiled(network())
    history = model.fit(_loader(0), epochs=3, verbose=0, callbacks=cut.callbacks())
    return state(model, history)


@kind("torch")
def data_loader_with_workers(cut: Cut) -> dict[str, Any]:
    """A DataLoader with two processes and a generator of its own, as validation too."""
    model = compiled(network())
    history = model.fit(
        _loader(2, own=True), epochs=3, verbose=0, validation_data=_loader(0), callbacks=cut.callbacks()
    )
    return state(model, history)


class Augmented:
    """Rows that a worker changes at random: with global generators, and with what this copy of the dataset holds."""

    def __init__(self) -> None:
        self.rows = data()
        self.rng = np.random.default_rng(11)
        self.made = 0

    def __len__(self) -> int:
        return len(self.rows[0])

    def __getitem__(self, index: int) -> Any:
        import torch

        self.made += 1
        x, y = (column[index] for column in self.rows)
        noise = self.rng.random() + np.random.random() + random.random() + torch.rand(()).item()
        return (x * noise + self.made / 100).astype("float32"), y


def augmenting_loader(*, workers: int = 2, stay: bool = False) -> Any:
    import torch

    if BACKEND != "torch":
        torch.manual_seed(5)
    return torch.utils.data.DataLoader(
        Augmented(),  # type: ignore[arg-type]
        batch_size=16,
        shuffle=True,
        num_workers=workers,
        persistent_workers=stay,
    )


@kind()
def workers_that_draw(cut: Cut) -> dict[str, Any]:
    """A DataLoader whose two workers draw random numbers and change their copies of the dataset."""
    model = compiled(network())
    history = model.fit(augmenting_loader(), epochs=3, verbose=0, callbacks=cut.callbacks())
    return state(model, history)


@kind("torch")
def workers_that_draw_and_stay(cut: Cut) -> dict[str, Any]:
    """The same workers, one pair for all epochs, and a validation."""
    model = compiled(network())
    x, y = data()
    loader = augmenting_loader(stay=True)
    history = model.fit(
        loader, epochs=3, verbose=0, validation_data=(x[:20], y[:20]), callbacks=cut.callbacks()
    )
    return state(model, history)


@kind("torch")
def workers_that_draw_in_one_long_pass(cut: Cut) -> dict[str, Any]:
    """The same workers; an epoch is a part of a pass."""
    model = compiled(network())
    loader = augmenting_loader(stay=True)
    history = model.fit(loader, epochs=4, steps_per_epoch=3, verbose=0, callbacks=cut.callbacks())
    return state(model, history)


@kind("torch")
def workers_that_stay_cut_between_epochs(cut: Cut) -> dict[str, Any]:
    """The same workers, cut behind the end of an epoch."""
    cut.place = "epoch end"
    model = compiled(network())
    history = model.fit(augmenting_loader(stay=True), epochs=4, verbose=0, callbacks=cut.callbacks())
    return state(model, history)


@kind()
def model_without_shapes(cut: Cut) -> dict[str, Any]:
    """A subclassed model with a metric of its own, which is built by its first batch."""
    x, y = data()
    model = compiled(Unbuilt())
    history = model.fit(x, y, batch_size=16, epochs=3, verbose=0, callbacks=cut.callbacks())
    return state(model, history)


class Unbuilt(keras.Model):  # type: ignore[misc]
    """Has no variables before it has seen data."""

    def __init__(self) -> None:
        super().__init__()
        self.first = keras.layers.Dense(8, activation="relu")
        self.dropout = keras.layers.Dropout(0.2)
        self.last = keras.layers.Dense(2)
        self.spread = keras.metrics.Mean("spread")

    def call(self, x: Any, training: bool = False) -> Any:
        return self.last(self.dropout(self.first(x), training=training))

    def compute_metrics(self, x: Any, y: Any, y_pred: Any, sample_weight: Any = None) -> Any:
        results = super().compute_metrics(x, y, y_pred, sample_weight)
        self.spread.update_state(keras.ops.std(y_pred))
        return {**results, "spread": self.spread.result()}


@kind()
def custom_train_step(cut: Cut) -> dict[str, Any]:
    """A train_step of the user's with logs that are no metrics of the model."""
    from tests.backprop_keras.train_steps import OwnStep

    x, y = data()
    inputs = keras.Input((6,))
    outputs = keras.layers.Dense(2)(
        keras.layers.Dropout(0.1)(keras.layers.Dense(8, activation="tanh")(inputs))
    )
    model = compiled(OwnStep(inputs, outputs), keras.optimizers.RMSprop(0.01), metrics=None)
    history = model.fit(x, y, batch_size=16, epochs=2, verbose=0, callbacks=cut.callbacks())
    return state(model, history)


@kind("tensorflow", "torch")
def two_optimizers(cut: Cut) -> dict[str, Any]:
    """A GAN: two optimizers that its train_step builds, and applies to a part of the model each; one of them in a list."""
    from tests.backprop_keras.train_steps import Adversaries

    model = Adversaries()
    model.compile(jit_compile=False)
    history = model.fit(data()[0], epochs=3, batch_size=16, verbose=0, callbacks=cut.callbacks())
    optimizers = [model.judge_optimizer, *model.others]
    return state(model, history, optimizers=[[np.array(v) for v in o.variables] for o in optimizers])


@kind()
def cut_in_a_validation(cut: Cut) -> dict[str, Any]:
    """The stop is asked for while a validation runs, which uses the same metrics and generators as training."""
    return _validated(cut, "validation")


@kind()
def cut_behind_a_validation(cut: Cut) -> dict[str, Any]:
    """The stop is asked for when a validation ends: its sums are no part of the next epoch's training metrics."""
    return _validated(cut, "test end")


@kind()
def cut_at_the_end_of_an_epoch(cut: Cut) -> dict[str, Any]:
    """The stop is asked for by a callback that hears of the epoch's end."""
    return _validated(cut, "epoch end")


@kind()
def cut_at_the_begin_of_an_epoch(cut: Cut) -> dict[str, Any]:
    """The stop is asked for by a callback that hears of the next epoch's begin."""
    return _validated(cut, "epoch begin")


def _validated(cut: Cut, place: str) -> dict[str, Any]:
    cut.place = place
    x, y = data()
    model = compiled(network())
    history = model.fit(
        x,
        y,
        batch_size=16,
        epochs=4,
        verbose=0,
        validation_data=(x, y),
        validation_batch_size=5,
        callbacks=cut.callbacks(),
    )
    return state(model, history)


@kind()
def own_loop(cut: Cut) -> dict[str, Any]:
    """A loop of the user's own around train_on_batch, with backprop.timebox(model=..., optimizer=...).

    The model and a layer keep numbers of the script's, and a metric that no model has is a variable of it. torch is loaded,
    which knows none of these objects on JAX and TensorFlow.
    """
    import torch  # noqa: F401

    x, y = data(64)
    model = compiled(network())
    model.optimizer.build(model.trainable_variables)
    losses: list[float] = []
    model.counted, model.layers[0].seen, mean = 0, [], keras.metrics.Mean()
    with cut.box(model=model, optimizer=model.optimizer, losses=losses) as box:
        cut.executions = len(losses)
        for _ in box.epochs(3):
            for start in box.batches(range(0, 64, 16)):
                losses.append(float(model.train_on_batch(x[start : start + 16], y[start : start + 16])[0]))
                model.counted += 1
                model.layers[0].seen.append(start)
                mean.update_state(losses[-1])
                cut.step_done()
    return {
        "of the model": model.counted,
        "of a layer": list(model.layers[0].seen),
        "of a metric": float(mean.result()),
        "model": [np.array(v) for v in model.variables],
        "optimizer": [np.array(v) for v in model.optimizer.variables],
        "losses": list(losses),
    }


@kind(seeded=True)
def loop_of_the_backends_own(cut: Cut) -> dict[str, Any]:
    """GradientTape, a JAX step function, backward: over a tf.data pipeline that shuffles anew in every epoch."""
    import tensorflow as tf

    from tests.backprop_keras.train_loops import OwnLoop

    x, y = data()
    dataset = tf.data.Dataset.from_tensor_slices((x, y)).shuffle(70, seed=5).batch(16)
    model, optimizer = network(), keras.optimizers.Adam(0.01)
    metric = keras.metrics.SparseCategoricalAccuracy()
    optimizer.build(model.trainable_variables)
    step, objects = OwnLoop(model, optimizer, metric)
    losses: list[float] = []
    with cut.box(losses=losses, **objects) as box:
        cut.executions = len(losses)
        for _ in box.epochs(3):
            for batch_x, batch_y in box.batches(dataset):
                losses.append(float(step(batch_x.numpy(), batch_y.numpy())))
                cut.step_done()
    held = objects.get("holder")
    kept = [v for part in (model, optimizer, metric) for v in part.variables]
    return {
        "variables": [
            np.array(v) for v in (kept if held is None else [v for part in held["state"] for v in part])
        ],
        "losses": list(losses),
    }


@kind("torch")
def compiled_by_torch(cut: Cut) -> dict[str, Any]:
    """jit_compile on the torch backend, which is torch.compile."""
    x, y = data(64)
    model = compiled(network(norm=False), keras.optimizers.SGD(0.1), jit_compile=True)
    history = model.fit(x, y, batch_size=16, epochs=2, verbose=0, callbacks=cut.callbacks())
    return state(model, history)


@kind("tensorflow", "jax", seeded=True)
def tf_data_of_unknown_length(cut: Cut) -> dict[str, Any]:
    """A pipeline whose length Keras learns with the first epoch, cut in a validation that shuffles anew each time."""
    import tensorflow as tf

    cut.place = "validation"
    x, y = data()
    whole = tf.data.Dataset.from_tensor_slices((x, y))
    dataset = whole.shuffle(70, seed=5).filter(lambda x, y: x[0] < 1.5).batch(16)
    model = compiled(network())
    history = model.fit(
        dataset,
        epochs=4,
        verbose=0,
        validation_data=whole.shuffle(70, seed=6).batch(7),
        callbacks=cut.callbacks(),
    )
    return state(model, history)
