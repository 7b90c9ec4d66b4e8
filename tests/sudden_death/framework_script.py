"""A training of a framework's own loop, which knows nothing of backprop and dies of SIGKILL at chosen batches.

Arguments: the framework, and the batch in which the first attempt dies, that of the second, ... Batches of training and of
validation are counted alike, over all attempts. Outside of `backprop run` it dies of nothing. At the end it prints a digest.
Of two ranks the second dies in the first attempt, the first in the second.
"""

import hashlib
import os
import signal
import sys
import threading
import time

FRAMEWORK, DEATHS = sys.argv[1], [int(word) for word in sys.argv[2:]]
os.environ["KERAS_BACKEND"] = FRAMEWORK.partition("-")[2] or "torch"
RANK = int(os.environ.get("RANK", "-1"))
BATCH_S = 0.03


class Counting:
    """Counts batches, and ends the process in one of them. Its counter must come back for the digest to be right."""

    batches = 0

    def count(self) -> None:
        self.batches = self.batches + 1
        if RANK < 1:
            print(f"batch {self.batches}\n", end="", flush=True)  # in one piece: ranks share a pipe
        attempt = int(os.environ.get("BACKPROP_ATTEMPT", "99"))
        mine = RANK < 0 or attempt % 2 == RANK
        if mine and DEATHS[attempt - 1 : attempt] == [self.batches]:
            threading.Timer(attempt * BATCH_S / 2, os.kill, (os.getpid(), signal.SIGKILL)).start()
        time.sleep(BATCH_S)


def told(counting: Counting, arrays: dict[str, object]) -> None:
    """Print what the training came to."""
    digest = hashlib.sha256()
    for name in sorted(arrays):
        digest.update(name.encode() + arrays[name].tobytes())  # type: ignore[attr-defined]
    of_rank = f"rank {RANK}: " if RANK >= 0 else ""
    print(f"{of_rank}{counting.batches} batches, digest {digest.hexdigest()[:16]}\n", end="", flush=True)


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


def with_fabric() -> None:
    import torch
    from lightning.fabric import Fabric
    from torch import nn
    from torch.utils.data import DataLoader, TensorDataset

    torch.manual_seed(0)
    fabric = Fabric(accelerator="cpu", devices=1)
    fabric.launch()
    net = nn.Sequential(nn.Linear(8, 16), nn.BatchNorm1d(16), nn.Dropout(0.2), nn.Linear(16, 2))
    model, optimizer = fabric.setup(net, torch.optim.AdamW(net.parameters(), 1e-2))
    x = torch.randn(64, 8)
    data = TensorDataset(x, (x.sum(1) > 0).long())
    loader, check = fabric.setup_dataloaders(
        DataLoader(data, batch_size=8, shuffle=True), DataLoader(data, batch_size=8)
    )
    counter = Counting()
    for _ in range(5):
        for inputs, wanted in loader:
            optimizer.zero_grad()
            fabric.backward(nn.functional.cross_entropy(model(inputs), wanted))
            optimizer.step()
            counter.count()
        model.eval()
        for inputs, _wanted in check:
            model(inputs)
            counter.count()
        model.train()
    moments = optimizer.state_dict()["state"]
    arrays = {name: value.numpy() for name, value in net.state_dict().items()}
    told(
        counter,
        arrays | {f"{i} {k}": value.numpy() for i, state in moments.items() for k, value in state.items()},
    )


def with_ranks() -> None:
    """Two ranks of a plain loop; each draws dropout and numbers of its own."""
    import random

    import numpy as np
    import torch
    import torch.distributed as dist
    from torch import nn
    from torch.nn.parallel import DistributedDataParallel
    from torch.utils.data import DataLoader, DistributedSampler, TensorDataset

    dist.init_process_group("gloo")
    torch.manual_seed(RANK)
    random.seed(RANK)
    x = torch.randn(128, 8, generator=torch.Generator().manual_seed(5))
    data = TensorDataset(x, (x.sum(1) > 0).long())
    sampler = DistributedSampler(data)
    loader = DataLoader(data, batch_size=4, sampler=sampler)
    net = nn.Sequential(nn.Linear(8, 16), nn.Dropout(0.2), nn.Linear(16, 2))
    model = DistributedDataParallel(net)
    optimizer = torch.optim.AdamW(model.parameters(), 1e-2)
    counter, seen = Counting(), []
    for epoch in range(5):
        sampler.set_epoch(epoch)
        for inputs, wanted in loader:
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(inputs), wanted).backward()
            optimizer.step()
            seen.append(random.random() + float(torch.rand(())))
            counter.count()
    arrays = {name: value.numpy() for name, value in net.state_dict().items()}
    told(counter, arrays | {"seen": np.array(seen)})
    dist.destroy_process_group()


if __name__ == "__main__":
    {
        "lightning": with_lightning,
        "keras": with_keras,
        "transformers": with_transformers,
        "fabric": with_fabric,
        "ranks": with_ranks,
    }[FRAMEWORK.partition("-")[0]]()
