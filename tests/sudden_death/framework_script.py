"""A training of a framework's own loop, which knows nothing of backprop and dies of SIGKILL at chosen batches.

Arguments: the framework, and the batch in which the first attempt dies, that of the second, ... Batches of training and of
validation are counted alike, over all attempts. Outside of `backprop run` it dies of nothing. At the end it prints a digest.
"""

import hashlib
import os
import signal
import sys
import threading
import time

os.environ["KERAS_BACKEND"] = "torch"
FRAMEWORK, DEATHS = sys.argv[1], [int(word) for word in sys.argv[2:]]
BATCH_S = 0.03


class Counting:
    """Counts batches, and ends the process in one of them. Its counter must come back for the digest to be right."""

    batches = 0

    def count(self) -> None:
        self.batches = self.batches + 1
        print("batch", self.batches, flush=True)
        attempt = int(os.environ.get("BACKPROP_ATTEMPT", "99"))
        if DEATHS[attempt - 1 : attempt] == [self.batches]:
            threading.Timer(attempt * BATCH_S / 2, os.kill, (os.getpid(), signal.SIGKILL)).start()
        time.sleep(BATCH_S)


def told(counting: Counting, arrays: dict[str, object]) -> None:
    """Print what the training came to."""
    digest = hashlib.sha256()
    for name in sorted(arrays):
        digest.update(name.encode() + arrays[name].tobytes())  # type: ignore[attr-defined]
    print(f"{counting.batches} batches, digest {digest.hexdigest()[:16]}")


def with_lightning() -> None:
    import pytorch_lightning as pl
    import torch
    from torch import nn
    from torch.utils.data import DataLoader, TensorDataset

    pl.seed_everything(0, verbose=False)

    class Net(pl.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.net = nn.Sequential(nn.Linear(8, 16), nn.BatchNorm1d(16), nn.Dropout(0.2), nn.Linear(16, 2))

        def training_step(self, batch, index):
            return nn.functional.cross_entropy(self.net(batch[0]), batch[1])

        def validation_step(self, batch, index):
            self.log("val", nn.functional.cross_entropy(self.net(batch[0]), batch[1]))

        def configure_optimizers(self):
            return torch.optim.AdamW(self.parameters(), lr=1e-2)

    class Counter(Counting, pl.Callback):
        def on_train_batch_end(self, *words) -> None:
            self.count()

        def on_validation_batch_end(self, *words) -> None:
            self.count()

    x = torch.randn(64, 8)
    data = TensorDataset(x, (x.sum(1) > 0).long())
    net, counter = Net(), Counter()
    trainer = pl.Trainer(
        max_epochs=5,
        accelerator="cpu",
        callbacks=[counter],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
    )
    trainer.fit(net, DataLoader(data, batch_size=8, shuffle=True), DataLoader(data, batch_size=8))
    moments = trainer.optimizers[0].state_dict()["state"]
    arrays = {name: value.numpy() for name, value in net.state_dict().items()}
    told(
        counter,
        arrays | {f"{i} {k}": value.numpy() for i, state in moments.items() for k, value in state.items()},
    )


def with_keras() -> None:
    import keras
    import numpy as np

    keras.utils.set_random_seed(0)

    class Counter(Counting, keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None) -> None:
            self.count()

        def on_test_batch_end(self, batch, logs=None) -> None:
            self.count()

    x = np.random.normal(size=(64, 8)).astype("float32")
    y = (x.sum(1) > 0).astype("int32")
    layers = [keras.layers.Dense(16), keras.layers.BatchNormalization(), keras.layers.Dropout(0.2)]
    model = keras.Sequential([*layers, keras.layers.Dense(2)])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer=keras.optimizers.Adam(1e-2), loss=loss, metrics=["accuracy"])
    counter = Counter()
    model.fit(x, y, batch_size=8, epochs=5, validation_data=(x, y), callbacks=[counter], verbose=0)
    variables = [*model.variables, *model.optimizer.variables]
    told(
        counter,
        {f"{i}": keras.ops.convert_to_numpy(variable) for i, variable in enumerate(variables)},
    )


def with_transformers() -> None:
    import torch
    from torch import nn
    from transformers import Trainer, TrainerCallback, TrainingArguments, set_seed

    set_seed(0)

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = nn.Sequential(nn.Linear(8, 16), nn.BatchNorm1d(16), nn.Dropout(0.2), nn.Linear(16, 2))

        def forward(self, x=None, labels=None):
            out = self.net(x)
            return {"loss": nn.functional.cross_entropy(out, labels), "logits": out}

    class Counter(Counting, TrainerCallback):
        def on_step_end(self, *words, **more) -> None:
            self.count()

        def on_prediction_step(self, *words, **more) -> None:
            self.count()

    x = torch.randn(64, 8)
    rows = [{"x": row, "labels": int(row.sum() > 0)} for row in x]
    net, counter = Net(), Counter()
    arguments = TrainingArguments(
        "out",
        num_train_epochs=5,
        per_device_train_batch_size=8,
        per_device_eval_batch_size=8,
        eval_strategy="epoch",
        save_strategy="no",
        report_to=[],
        disable_tqdm=True,
        use_cpu=True,
        learning_rate=1e-2,
    )
    trainer = Trainer(net, arguments, train_dataset=rows, eval_dataset=rows, callbacks=[counter])
    trainer.train()
    moments = trainer.optimizer.state_dict()["state"]
    arrays = {name: value.numpy() for name, value in net.state_dict().items()}
    told(
        counter,
        arrays | {f"{i} {k}": value.numpy() for i, state in moments.items() for k, value in state.items()},
    )


if __name__ == "__main__":
    {"lightning": with_lightning, "keras": with_keras, "transformers": with_transformers}[FRAMEWORK]()
