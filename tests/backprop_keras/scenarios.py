"""Scenarios that run in one process for each backend."""

from __future__ import annotations

import gc
import json
import os
import shutil
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import patch

import keras
import numpy as np
import pytest

import backprop
from backprop_core.clock import SYSTEM
from backprop_core.errors import StateMismatchError, UsageError
from backprop_core.export import export_checkpoint
from backprop_core.runs.home import backprop_home
from backprop_core.runs.store import RunStore
from backprop_keras import BackpropCallback
from tests.backprop_keras.cutting import LeapingClock
from tests.backprop_keras.kinds import augmenting_loader, compiled, data, network
from tests.noted import Noted

SCENARIOS: list[Callable[[Path], None]] = []


def scenario(check: Callable[[Path], None]) -> Callable[[Path], None]:
    SCENARIOS.append(check)
    return check


class StopAt(keras.callbacks.Callback):  # type: ignore[misc]
    """Asks for the stop behind the batch `at` of the first epoch it sees."""

    def __init__(self, at: int) -> None:
        super().__init__()
        self._at: int | None = at

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        if batch + 1 == self._at:
            self._at = None
            os.kill(os.getpid(), signal.SIGTERM)


_HEARD = Noted()
"""What each has heard in this process: attributes of a callback would come back from the checkpoint."""


class Heard(keras.callbacks.Callback):  # type: ignore[misc]
    """Writes down which hooks were called."""

    def __init__(self) -> None:
        super().__init__()
        _HEARD.append([])
        self._number = len(_HEARD) - 1

    @property
    def hooks(self) -> list[str]:
        hooks: list[str] = _HEARD[self._number]
        return hooks

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self.hooks.append(f"epoch {epoch} ended")

    def on_test_begin(self, logs: Any = None) -> None:
        self.hooks.append("validation")

    def on_train_end(self, logs: Any = None) -> None:
        self.hooks.append("training ended")


def begin(run: str, *, at: int = 2, model: Any = None, **keywords: Any) -> tuple[Any, BackpropCallback, Any]:
    """A run that was asked to stop behind batch `at`: its model, callback and history."""
    model = model or compiled(network())
    x, y = data()
    callback = BackpropCallback("1h", run=run, grace=0)
    callbacks = [callback, StopAt(at), *keywords.pop("callbacks", [])]
    history = model.fit(x, y, batch_size=16, epochs=2, verbose=0, callbacks=callbacks, **keywords)
    return model, callback, history


@scenario
def an_order_that_no_process_repeats_is_said_once(folder: Path) -> None:
    """Unseeded shuffling by TensorFlow is named with the line that ends it. Comes first: the seed is set behind it."""
    import tensorflow as tf

    def said(data: Any, **keywords: Any) -> list[str]:
        callback = BackpropCallback("1h")
        compiled(network()).fit(data, **keywords, epochs=2, verbose=0, callbacks=[callback])
        return [text for text in callback._box.session.messages._said if "set_random_seed(1)" in text]

    x, y = data()
    pipeline = tf.data.Dataset.from_tensor_slices((x, y))
    on_tensorflow = keras.backend.backend() == "tensorflow"
    assert len(said(x, y=y, batch_size=35)) == on_tensorflow
    assert said(x, y=y, batch_size=35, shuffle=False) == []
    assert len(said(pipeline.shuffle(70).batch(35).prefetch(2))) == 1
    assert said(pipeline.shuffle(70, seed=0).batch(35)) == []
    keras.utils.set_random_seed(1)
    assert said(x, y=y, batch_size=35) == []
    assert said(pipeline.shuffle(70).batch(35)) == [] or not on_tensorflow


@scenario
def what_is_read_ahead_by_others_is_named(folder: Path) -> None:
    """A dataset's own number is kept without workers and named with them, its order and generator are kept in both."""

    class Counts(keras.utils.PyDataset):  # type: ignore[misc]
        def __init__(self, workers: int) -> None:
            super().__init__(workers=workers)
            self.indices, self.drawn, self.read = list(range(4)), np.random.default_rng(1), 0

        def __len__(self) -> int:
            return 4

        def __getitem__(self, index: int) -> Any:
            self.read += 1
            return self.drawn.normal(size=(16, 6)).astype("float32"), np.zeros(16, "int32")

        def on_epoch_end(self) -> None:
            self.indices.reverse()

    def named(dataset: Any) -> list[str]:
        callback = BackpropCallback("1h")
        compiled(network()).fit(dataset, epochs=2, verbose=0, callbacks=[callback])
        said = callback._box.session.messages._said
        return [text.partition("`")[2].partition("`")[0] for text in said if "cannot be kept" in text]

    def pipeline() -> list[str]:
        import tensorflow as tf

        read = [0]

        def batches() -> Any:
            for _ in range(4):
                read[0] += 1
                yield np.ones((16, 6), "float32"), np.zeros(16, "int32")

        signature = tf.TensorSpec((16, 6), tf.float32), tf.TensorSpec((16,), tf.int32)
        made = tf.data.Dataset.from_generator(batches, output_signature=signature)
        return named(made)

    def loader() -> list[str]:
        import torch

        read = [0]

        def together(rows: Any) -> Any:
            read[0] += 1
            return torch.ones(16, 6), torch.zeros(16, dtype=torch.int64)

        return named(torch.utils.data.DataLoader(list(range(64)), batch_size=16, collate_fn=together))  # type: ignore[arg-type]

    assert named(Counts(1)) == []
    assert named(Counts(2)) == ["data.read"]
    assert pipeline() == ["pipeline().read"]
    if keras.backend.backend() == "jax":
        import jax

        with patch.object(jax, "default_backend", lambda: "gpu"):  # Keras asks a batch ahead there
            assert loader() == ["loader().read"]
    else:
        assert loader() == (["loader().read"] if keras.backend.backend() == "tensorflow" else [])


@scenario
def a_dataset_keeps_its_order_in_one_list_of_its_class_and_its_generator_is_named(folder: Path) -> None:
    """An order that is known by two names stays one list of the script's class, and an iterator in the data is named."""

    class Own(list[int]):
        pass

    class Rows(keras.utils.PyDataset):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__(workers=1)
            self.order = self.also = [0, 1, 2, 3]
            self.own, self.drawn = Own(), (number for number in range(99))

        def __len__(self) -> int:
            return 4

        def __getitem__(self, index: int) -> Any:
            self.own = Own([*self.own, index])
            return np.full((16, 6), next(self.drawn), "float32"), np.zeros(16, "int32")

        def on_epoch_end(self) -> None:
            self.order.append(self.order.pop(0))

    def fit(*callbacks: Any) -> Rows:
        rows = Rows()
        compiled(network()).fit(rows, epochs=3, shuffle=False, verbose=0, callbacks=[*callbacks])
        return rows

    def piece(*others: Any) -> tuple[Rows, list[str]]:
        ours = BackpropCallback("1h", run="one_list", grace=0)
        return fit(*others, ours), list(ours._box.session.messages._said)

    whole = fit()
    _, said = piece(StopAt(3))
    assert [text.partition("`")[2].partition("`")[0] for text in said if "cannot be kept" in text] == [
        "data.drawn"
    ]
    rows, said = piece()
    assert not [text for text in said if "The checkpoint holds data" in text], said
    assert rows.also is rows.order
    assert rows.order == whole.order
    assert type(rows.own) is Own
    assert rows.own == whole.own


@scenario
def the_stop_pretends_nothing(folder: Path) -> None:
    """After a stop inside an epoch fit returns its History, without validation and epoch end, but with on_train_end."""
    x, y = data()
    heard = Heard()
    model, callback, history = begin("pretends", callbacks=[heard], validation_data=(x, y))
    assert callback.outcome == "preempted", callback.outcome
    assert heard.hooks == ["training ended"], heard.hooks
    assert history is model.history
    assert history.history == {}, history.history
    assert callback.checkpoint is not None
    assert callback.checkpoint.name == "step-000000000002"


@scenario
def nothing_sticks_to_the_model(folder: Path) -> None:
    """After a stop and after a resume the model is as Keras made it: a further fit runs all its epochs and validations."""
    x, y = data()
    model, _, _ = begin("sticks")
    for name in ("_should_eval", "_get_iterator"):
        assert name not in vars(model), name
    whole = model.fit(x, y, batch_size=16, epochs=2, verbose=0, validation_data=(x, y))
    assert len(whole.history["val_loss"]) == 2
    again = compiled(network())
    callback = BackpropCallback("1h", run="sticks")
    resumed = again.fit(x, y, batch_size=16, epochs=2, verbose=0, callbacks=[callback])
    assert callback.outcome == "completed"
    assert resumed.epoch == [0, 1]
    assert again._initial_epoch is None
    assert again.fit(x, y, batch_size=16, epochs=1, verbose=0).epoch == [0]


@scenario
def a_run_folder_that_is_gone_costs_no_fit(folder: Path) -> None:
    """Our record cannot be written at the end: that is said, `fit` returns, and the code behind it runs."""

    class Removes(keras.callbacks.Callback):  # type: ignore[misc]
        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            if batch == 1 and (run := backprop_home() / "runs/unrecorded").exists():
                shutil.rmtree(run)

    x, y = data()
    callback = BackpropCallback("1h", run="unrecorded")
    history = compiled(network()).fit(
        x, y, batch_size=16, epochs=2, verbose=0, callbacks=[callback, Removes()]
    )
    assert callback.outcome == "completed"
    assert history.epoch == [0, 1]


@scenario
def another_callback_that_resumes_does_not_lead_astray(folder: Path) -> None:
    """BackupAndRestore finds a later epoch in its own backup: what is restored here decides, whichever stands first."""
    x, y = data()

    class Breaks(keras.callbacks.Callback):  # type: ignore[misc]
        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            if epoch == 2:
                raise ZeroDivisionError("on purpose")

    for order in (1, -1):
        run = f"beside {order}".replace(" ", "-")
        begin(run)
        backup = keras.callbacks.BackupAndRestore(str(folder / run))
        with pytest.raises(ZeroDivisionError):
            compiled(network()).fit(x, y, batch_size=16, epochs=3, verbose=0, callbacks=[backup, Breaks()])
        ours, heard = BackpropCallback("1h", run=run), Heard()
        callbacks = [ours, keras.callbacks.BackupAndRestore(str(folder / run)), heard][::order]
        history = compiled(network()).fit(x, y, batch_size=16, epochs=3, verbose=0, callbacks=callbacks)
        assert ours.resumed_from is not None
        assert history.epoch == [0, 1, 2], (order, history.epoch)
        assert heard.hooks == [f"epoch {epoch} ended" for epoch in range(3)] + ["training ended"], heard.hooks


@scenario
def trained_batches_are_not_computed_again(folder: Path) -> None:
    """On a resume a PyDataset is asked for no batch that is trained, nor the data set behind a DataLoader."""
    asked = Noted()
    x, y = data(96)

    class Counts(keras.utils.PyDataset):  # type: ignore[misc]
        def __len__(self) -> int:
            return 24

        def __getitem__(self, index: int) -> Any:
            asked.append(index)
            return x[4 * index : 4 * (index + 1)], y[4 * index : 4 * (index + 1)]

    def piece(run: str, source: Any, *others: Any) -> list[int]:
        ours = BackpropCallback("1h", run=run, grace=0)
        asked.clear()
        compiled(network()).fit(source, epochs=1, shuffle=False, verbose=0, callbacks=[*others, ours])
        return list(asked)

    piece("counted", Counts(workers=1), StopAt(20))
    again = piece("counted", Counts(workers=1))
    # What TensorFlow had read ahead is in the checkpoint.
    on_tensorflow = keras.backend.backend() == "tensorflow"
    assert ({23} if on_tensorflow else {20, 21, 22, 23}) <= set(again), again
    # Keras looks at the first batch to build the model, and TensorFlow reads a little ahead while it does.
    most = 10 if keras.backend.backend() == "tensorflow" else 1
    assert sum(index < 20 for index in again) <= most, again
    if keras.backend.backend() != "torch":
        return
    import torch

    class Items(torch.utils.data.Dataset):  # type: ignore[type-arg]
        def __len__(self) -> int:
            return 96

        def __getitem__(self, index: int) -> Any:
            asked.append(index)
            return x[index], y[index]

    piece("loaded", torch.utils.data.DataLoader(Items(), batch_size=16), StopAt(4))
    again = piece("loaded", torch.utils.data.DataLoader(Items(), batch_size=16))
    assert set(range(64, 96)) <= set(again) <= set(range(16)) | set(range(64, 96)), again


@scenario
def what_workers_of_a_loader_have_drawn_is_lost_with_a_word(folder: Path) -> None:
    """Where as many workers as before are there, a resume says nothing; with another number it says what is not exact."""
    if keras.backend.backend() != "torch":
        return

    def piece(run: str, workers: int, *others: Any) -> list[str]:
        ours = BackpropCallback("1h", run=run, grace=0)
        loader = augmenting_loader(workers=workers)
        compiled(network()).fit(loader, epochs=1, verbose=0, callbacks=[*others, ours])
        return sorted(text for text in ours._box.session.messages._said if "workers" in text)

    assert piece("as-before", 2, StopAt(2)) == piece("as-before", 2) == []
    assert piece("one-worker", 2, StopAt(2)) == []
    (said,) = piece("one-worker", 1)
    assert said.startswith(
        "The order of the batches is exact. Random numbers drawn inside this loader's workers"
    ), said


@scenario
def a_validation_that_would_not_fit_is_left_for_the_next_piece(folder: Path) -> None:
    """fit ends before the validation that is due, its epoch is not said to be over, and the next piece begins with it."""
    x, y = data()
    clock = LeapingClock()

    class Validates(Heard):
        def on_test_end(self, logs: Any = None) -> None:
            clock.leap(1000)  # no step of a busy machine takes half of it

    def piece(budget: str) -> tuple[BackpropCallback, list[str], Any]:
        ours, heard = BackpropCallback(budget, run="due"), Validates()
        ours._clock = clock
        history = compiled(network()).fit(
            x, y, batch_size=35, epochs=4, verbose=0, validation_data=(x, y), callbacks=[heard, ours]
        )
        return ours, heard.hooks, history

    ours, heard, history = piece("2500s")
    assert ours.outcome == "timeboxed", ours.outcome
    assert heard == ["validation", "epoch 0 ended", "validation", "epoch 1 ended", "training ended"], heard
    assert history.epoch == [0, 1]
    assert ours.checkpoint is not None
    assert ours.checkpoint.name.endswith("6"), ours.checkpoint
    ours, heard, history = piece("1h")
    assert ours.outcome == "completed"
    assert heard == ["validation", "epoch 2 ended", "validation", "epoch 3 ended", "training ended"], heard
    assert history.epoch == [0, 1, 2, 3]


@scenario
def an_exception_ends_the_run_as_failed(folder: Path) -> None:
    """An error inside fit closes the run, which can be resumed at once in the same process."""

    class Breaks(keras.callbacks.Callback):  # type: ignore[misc]
        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            if batch == 3:
                raise ZeroDivisionError("on purpose")

    x, y = data()
    model = compiled(network())
    callback = BackpropCallback("1h", run="breaks", checkpoint_every="1ms")
    with pytest.raises(ZeroDivisionError):
        model.fit(x, y, batch_size=16, epochs=1, verbose=0, callbacks=[Breaks(), callback])
    gc.collect()
    assert callback.outcome == "failed", callback.outcome
    store = RunStore(backprop_home(), SYSTEM)
    assert store.load("breaks").status.value == "failed"
    again = BackpropCallback("1h", run="breaks")
    model.fit(x, y, batch_size=16, epochs=1, verbose=0, callbacks=[again])
    assert again.outcome == "completed"


def refused(model: Any, run: str, **keywords: Any) -> tuple[str, bool]:
    """What is said when `model` is to go on with `run`, and whether the model was left alone."""
    x, y = data(keywords.pop("samples", 70))
    before = [np.array(v) for v in model.variables]
    try:
        model.fit(
            x, y, batch_size=16, epochs=2, verbose=0, callbacks=[BackpropCallback("1h", run=run, **keywords)]
        )
    except (StateMismatchError, UsageError) as error:
        after = [np.array(v) for v in model.variables]
        return str(error), all(np.array_equal(a, b) for a, b in zip(before, after, strict=True))
    raise AssertionError("it was not refused")


@scenario
def what_does_not_fit_is_refused(folder: Path) -> None:
    """Another shape, another optimizer, other data and a plain checkpoint: one sentence each, and nothing is restored."""
    begin("fits", model=compiled(network(norm=False)))
    layers = [
        keras.layers.Input((6,)),
        keras.layers.Dense(9),
        keras.layers.Dropout(0.1),
        keras.layers.Dense(2),
    ]
    said, untouched = refused(compiled(keras.Sequential(layers)), "fits")
    assert "kernel as float32[6, 8], but here it is float32[6, 9]" in said, said
    assert untouched
    said, untouched = refused(compiled(network(norm=False), keras.optimizers.SGD(0.1)), "fits")
    assert "it was trained with Adam, but the model is compiled with SGD" in said, said
    assert untouched
    said, untouched = refused(compiled(network(norm=False)), "fits", samples=40)
    assert "stopped in an epoch of 5 batches, but here an epoch has 3" in said, said
    assert untouched
    said, _ = refused(compiled(network(norm=False)), "other", resume=str(folder / "nowhere"))
    assert "no checkpoint" in said, said


@scenario
def a_damaged_checkpoint_is_passed_over(folder: Path) -> None:
    """When the newest checkpoint is damaged the one before is used, loudly."""
    model = compiled(network(norm=False))
    x, y = data()
    first = BackpropCallback("1h", run="damaged", grace=0, checkpoint_every="1ms", keep=3)
    model.fit(x, y, batch_size=16, epochs=1, verbose=0, callbacks=[first, StopAt(4)])
    assert first.checkpoint is not None
    file = first.checkpoint / "model.safetensors"
    bits = bytearray(file.read_bytes())
    bits[-3] ^= 1
    file.write_bytes(bits)
    again = BackpropCallback("1h", run="damaged")
    model.fit(x, y, batch_size=16, epochs=1, verbose=0, callbacks=[again])
    assert again.outcome == "completed"
    assert again.resumed_from != first.checkpoint


@scenario
def weights_go_to_stock_keras(folder: Path) -> None:
    """model.safetensors has variable paths as keys, and the .weights.h5 that is exported is what load_weights opens."""
    from safetensors import safe_open

    model, callback, _ = begin("exported")
    assert callback.checkpoint is not None
    with safe_open(callback.checkpoint / "model.safetensors", "np") as file:  # type: ignore[no-untyped-call]
        assert {v.path for v in model.variables} == set(file.keys())
    written = export_checkpoint(callback.checkpoint, folder / "exported")
    path = next(path for path in written if path.name == "model.weights.h5")
    fresh = network()
    fresh.load_weights(path)
    for here, there in zip(fresh.weights, model.weights, strict=True):
        assert np.array_equal(np.array(here), np.array(there)), there.path


@scenario
def a_finished_run_gives_its_final_state(folder: Path) -> None:
    """resume=True on a completed run trains nothing and gives the model its final weights and the whole History."""
    x, y = data()
    model = compiled(network())
    model.fit(x, y, batch_size=16, epochs=2, verbose=0, callbacks=[BackpropCallback("1h", run="finished")])
    fresh = compiled(network())
    history = fresh.fit(
        x,
        y,
        batch_size=16,
        epochs=2,
        verbose=0,
        callbacks=[BackpropCallback("1h", run="finished", resume=True)],
    )
    assert history.epoch == [0, 1]
    for here, there in zip(fresh.variables, model.variables, strict=True):
        assert np.array_equal(np.array(here), np.array(there)), there.path


@scenario
def an_own_loop_keeps_the_running_sums_of_the_loss(folder: Path) -> None:
    """What train_on_batch of older versions adds to from batch to batch is there again; another model is no error."""
    x, y = data(16)
    first, again = compiled(network()), compiled(network())
    for model in (first, again):
        model.optimizer.build(model.trainable_variables)
    with backprop.timebox("1h", run="sums", model=first, optimizer=first.optimizer) as box:
        for _ in box.steps(3):
            first.train_on_batch(x, y)
    sums = [np.array(variable).tolist() for variable in first.metrics_variables[:2]]
    assert sums[1] > 0
    with backprop.timebox("1h", run="sums", resume=True, model=again, optimizer=again.optimizer) as box:
        assert box.resumed_from is not None
        assert [np.array(variable).tolist() for variable in again.metrics_variables[:2]] == sums


@scenario
def a_model_on_torch_keeps_what_torch_adds(folder: Path) -> None:
    """Gradients that wait for their step come back beside the sums of the loss: the model belongs to both frameworks."""
    if keras.backend.backend() != "torch":
        return
    import torch

    def gradients(model: Any) -> list[Any]:
        return [variable.value.grad for variable in model.trainable_variables]

    first, again = network(), network()
    for variable in first.trainable_variables:
        variable.value.grad = torch.full_like(variable.value, 0.5)
    with backprop.timebox("1h", run="pending", model=first) as box:
        for _ in box.steps(3):
            pass
    with backprop.timebox("1h", run="pending", resume=True, model=again) as box:
        assert box.resumed_from is not None
        assert all(grad is not None and bool((grad == 0.5).all()) for grad in gradients(again)), gradients(
            again
        )


@scenario
def every_hook_behind_a_batch_is_heard(folder: Path) -> None:
    """Old and new names, lambdas, and a hook that is set between two epochs; with none of them nobody is called."""

    class Old(keras.callbacks.Callback):  # type: ignore[misc]
        def on_batch_end(self, batch: int, logs: Any = None) -> None:
            heard.append("old")

    class Later(keras.callbacks.Callback):  # type: ignore[misc]
        def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
            if epoch == 1:
                self.on_train_batch_end = lambda batch, logs=None: heard.append("later")

    new = keras.callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: heard.append("new"))
    x, y = data(64)
    for callbacks, batches in (
        ([Old()], {"old": 8}),
        ([new], {"new": 8}),
        ([Later()], {"later": 4}),
        ([], {}),
    ):
        heard: list[str] = []
        model = compiled(network())
        model.fit(x, y, batch_size=16, epochs=2, verbose=0, callbacks=[*callbacks, BackpropCallback("1h")])
        assert {name: heard.count(name) for name in heard} == batches, (callbacks, heard)


@scenario
def logs_are_read_when_they_are_shown_and_not_for_each_batch(folder: Path) -> None:
    """Reading a value waits for its device: it happens once for each progress event, and at ends."""

    class Value:
        reads = 0

        def __float__(self) -> float:
            Value.reads += 1
            return 0.5

    class OnTheDevice(keras.callbacks.Callback):  # type: ignore[misc]
        def on_train_begin(self, logs: Any = None) -> None:
            train = self.model.train_function

            def step(*given: Any) -> Any:
                made = train(*given)
                if isinstance(made, tuple):  # JAX returns the state as well
                    return {**made[0], "other": Value()}, *made[1:]
                return {**made, "other": Value()}

            self.model.train_function = step

    x, y = data(800)
    callback = BackpropCallback("1h", run="shown")
    compiled(network()).fit(x, y, batch_size=16, epochs=4, verbose=0, callbacks=[OnTheDevice(), callback])
    attempt = RunStore(backprop_home(), SYSTEM).attempt_dir("shown", 1)
    kinds = [json.loads(line)["kind"] for line in (attempt / "events.jsonl").read_text().splitlines()]
    shown = kinds.count("progress") + 1
    assert 1 <= Value.reads <= shown + 2 * 4, (
        Value.reads,
        kinds,
    )  # Keras itself reads twice at the end of each epoch
    assert shown < 100, "of 200 batches"


@scenario
def outside_fit_it_says_so(folder: Path) -> None:
    """Called by hand it answers with a sentence; before a fit there is no deadline."""
    callback = BackpropCallback()
    assert (callback.remaining, callback.run_id) == (float("inf"), "")
    with pytest.raises(UsageError, match=r"backprop\.timebox\(\)"):
        callback.on_train_begin()
    assert callback.outcome == "failed"


def main() -> None:
    """Child process: the folder as argument, and names of scenarios if not all; prints a failure or "" for each as JSON."""
    folder = Path(sys.argv[1])
    failures = {}
    for check in SCENARIOS:
        if sys.argv[2:] and check.__name__ not in sys.argv[2:]:
            continue
        keras.backend.clear_session()
        try:
            check(folder)
        except Exception:
            failures[check.__name__] = traceback.format_exc()[-2500:]
        else:
            failures[check.__name__] = ""
    print(json.dumps(failures))


if __name__ == "__main__":
    main()
