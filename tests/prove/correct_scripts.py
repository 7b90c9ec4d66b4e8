"""Thirty trainings that nothing is wrong with, in every framework: no proof may find a difference in them."""

from __future__ import annotations

import textwrap

_NUMPY = """
    import random
    import numpy as np
    random.seed(0); np.random.seed(0)
    generator = np.random.default_rng(0)
    x = generator.normal(size=(64, 4)); y = x.sum(1)
    w = np.zeros(4); v = np.zeros(4); best = 1e9; history = []
"""

_TORCH = """
    import random
    import torch
    from torch import nn
    from torch.utils.data import DataLoader, TensorDataset
    random.seed(0); torch.manual_seed(0)
    x = torch.randn(64, 8); y = (x.sum(1) > 0).long()
    data = TensorDataset(x, y)
    loader = DataLoader(data, batch_size=8, shuffle=True)
    model = nn.Sequential(nn.Linear(8, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.2), nn.Linear(16, 2))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    loss_of = nn.functional.cross_entropy
"""

_STEP = """
    def step(a, b):
        loss = loss_of(model(a), b)
        optimizer.zero_grad(); loss.backward(); optimizer.step()
        return loss.item()
"""

_NUMPY_LOOPS = {
    "sgd": """
        for epoch in range(4):
            for start in range(0, 64, 8):
                r = x[start:start + 8]; g = r.T @ (r @ w - y[start:start + 8]) / 8
                w -= 0.05 * g
    """,
    "momentum": """
        for epoch in range(4):
            for i in generator.permutation(8):
                r = x[i * 8:i * 8 + 8]; g = r.T @ (r @ w - y[i * 8:i * 8 + 8]) / 8
                v = 0.9 * v + g
                w = w - 0.02 * v
                history.append(float(g @ g))
    """,
    "global generator": """
        for epoch in range(4):
            order = np.random.permutation(64)
            for start in range(0, 64, 8):
                rows = order[start:start + 8]
                g = x[rows].T @ (x[rows] @ w - y[rows]) / 8 + random.gauss(0, 0.01)
                w -= 0.05 * g
                best = min(best, float(g @ g))
    """,
    "while": """
        count = 0
        while count < 40:
            count += 1
            rows = generator.integers(0, 64, 8)
            g = x[rows].T @ (x[rows] @ w - y[rows]) / 8
            w -= 0.05 / count**0.5 * g
    """,
    "class": """
        class Trainer:
            def __init__(self):
                self.w, self.seen, self.mean = np.zeros(4), 0, {}
            def fit(self):
                for epoch in range(4):
                    for start in range(0, 64, 8):
                        r = x[start:start + 8]
                        self.w -= 0.05 * (r.T @ (r @ self.w - y[start:start + 8]) / 8)
                        self.seen += len(r)
                        self.mean[epoch] = self.mean.get(epoch, 0.0) + float(self.w.mean())
        Trainer().fit()
    """,
    "two phases": """
        for phase in range(2):
            for epoch in range(2):
                for i in generator.permutation(8):
                    r = x[i * 8:i * 8 + 8]
                    w -= 0.05 / (phase + 1) * (r.T @ (r @ w - y[i * 8:i * 8 + 8]) / 8)
    """,
}

_TORCH_LOOPS = {
    "plain": "for epoch in range(5):\n    for a, b in loader:\n        step(a, b)",
    "function": """
        def main():
            best, losses = 9.0, []
            scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.05, total_steps=40)
            for epoch in range(5):
                for index, (a, b) in enumerate(loader):
                    losses.append(step(a, b))
                    best = min(best, losses[-1])
                    scheduler.step()
        main()
    """,
    "shuffled evaluation": """
        best = 9.0
        for epoch in range(5):
            for a, b in loader:
                step(a, b)
            model.eval()
            with torch.no_grad():
                total = sum(loss_of(model(a), b).item() for a, b in loader)
                for a, b in loader:
                    total += loss_of(model(a), b).item()
            model.train()
            best = min(best, total)
    """,
    "averages": """
        ema = {name: value.clone() for name, value in model.state_dict().items()}
        for epoch in range(5):
            for a, b in loader:
                step(a, b)
                for name, value in model.state_dict().items():
                    ema[name].copy_(0.9 * ema[name] + 0.1 * value)
    """,
    "averaged model": """
        averaged = torch.optim.swa_utils.AveragedModel(model)
        for epoch in range(5):
            for a, b in loader:
                step(a, b)
                averaged.update_parameters(model)
    """,
    "accumulation": """
        for epoch in range(5):
            for index, (a, b) in enumerate(loader):
                (loss_of(model(a), b) / 2).backward()
                if index % 2:
                    optimizer.step(); optimizer.zero_grad()
    """,
    "plateau": """
        scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, patience=1)
        for epoch in range(5):
            total = 0.0
            for a, b in loader:
                total += step(a, b)
            scheduler.step(total)
    """,
    "two optimizers": """
        other = nn.Linear(8, 8)
        second = torch.optim.SGD(other.parameters(), lr=1e-2, momentum=0.9)
        for epoch in range(5):
            for a, b in loader:
                step(a + other(a).detach(), b)
                second.zero_grad(); other(a).square().mean().backward(); second.step()
    """,
    "cycle": """
        def cycle():
            while True:
                yield from loader
        batches = cycle()
        for count in range(40):
            a, b = next(batches)
            step(a, b)
    """,
    "own generator": """
        noise = torch.Generator().manual_seed(3)
        for epoch in range(5):
            for a, b in loader:
                step(a + 0.1 * torch.randn(a.shape, generator=noise), b)
    """,
    "scaler": """
        scaler = torch.amp.GradScaler("cpu", init_scale=8.0, growth_interval=5)
        for epoch in range(5):
            for a, b in loader:
                loss = loss_of(model(a), b)
                optimizer.zero_grad(); scaler.scale(loss).backward(); scaler.step(optimizer); scaler.update()
    """,
    "indexed": """
        for count in range(40):
            rows = torch.randint(0, 64, (8,))
            step(x[rows], y[rows])
    """,
}

_BOXED = {
    "box": """
        with backprop.timebox("10m", model=model, optimizer=optimizer) as box:
            for epoch in box.epochs(5):
                for a, b in box.batches(loader):
                    box.log(loss=step(a, b))
    """,
    "box of steps": """
        with backprop.timebox("10m", model=model, optimizer=optimizer) as box:
            for count in box.steps(40):
                rows = torch.randint(0, 64, (8,))
                step(x[rows], y[rows])
    """,
    "box with a validation": """
        scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 2)
        seen = 0
        with backprop.timebox("10m", model=model, optimizer=optimizer, scheduler=scheduler) as box:
            for epoch in box.epochs(5):
                for a, b in box.batches(loader):
                    step(a, b)
                    seen += len(a)
                for a, b in box.batches(loader):
                    with torch.no_grad():
                        model(a)
                scheduler.step()
    """,
}

_LIGHTNING = """
    import pytorch_lightning as pl
    import torch
    from torch import nn
    from torch.utils.data import DataLoader, TensorDataset
    pl.seed_everything(0, verbose=False)
    x = torch.randn(64, 8); y = (x.sum(1) > 0).long()
    class Net(pl.LightningModule):
        def __init__(self):
            super().__init__()
            self.net = nn.Sequential(nn.Linear(8, 16), nn.BatchNorm1d(16), nn.Dropout(0.2), nn.ReLU(), nn.Linear(16, 2))
            self.seen = 0
        def training_step(self, batch, index):
            self.seen += 1
            loss = nn.functional.cross_entropy(self.net(batch[0]), batch[1])
            self.log("loss", loss)
            return loss
        def validation_step(self, batch, index):
            self.log("val", nn.functional.cross_entropy(self.net(batch[0]), batch[1]))
        def configure_optimizers(self):
            optimizer = torch.optim.AdamW(self.parameters(), lr=1e-2)
            return [optimizer], [{"scheduler": torch.optim.lr_scheduler.StepLR(optimizer, 5), "interval": "step"}]
    loader = DataLoader(TensorDataset(x, y), batch_size=8, shuffle=True)
    validation = DataLoader(TensorDataset(x, y), batch_size=8)
    quiet = dict(accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
                 enable_model_summary=False)
"""

_LIGHTNING_FITS = {
    "fit": "pl.Trainer(max_epochs=5, **quiet).fit(Net(), loader)",
    "validation": "pl.Trainer(max_epochs=5, **quiet).fit(Net(), loader, validation)",
    "accumulation": "pl.Trainer(max_epochs=9, accumulate_grad_batches=2, **quiet).fit(Net(), loader)",
}

_KERAS = """
    import os
    os.environ["KERAS_BACKEND"] = "{backend}"
    import keras
    import numpy as np
    keras.utils.set_random_seed(0)
    x = np.random.normal(size=(64, 8)).astype("float32"); y = (x.sum(1) > 0).astype("int32")
    class Count(keras.callbacks.Callback):
        seen = 0
        def on_train_batch_end(self, batch, logs=None):
            self.seen = self.seen + 1
    model = keras.Sequential([keras.layers.Dense(16, activation="relu"), keras.layers.Dropout(0.2), keras.layers.Dense(2)])
    model.compile(optimizer=keras.optimizers.Adam(1e-2), metrics=["accuracy"],
                  loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    model.fit(x, y, batch_size=8, epochs=5, validation_data=(x, y), callbacks=[Count()], verbose=0)
"""

_TRANSFORMERS = """
    import torch
    from torch import nn
    from transformers import Trainer, TrainerCallback, TrainingArguments, set_seed
    set_seed(0)
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = nn.Sequential(nn.Linear(8, 16), nn.Dropout(0.2), nn.ReLU(), nn.Linear(16, 2))
        def forward(self, x=None, labels=None):
            out = self.net(x)
            return {{"loss": nn.functional.cross_entropy(out, labels), "logits": out}}
    class Data(torch.utils.data.Dataset):
        def __init__(self):
            self.x = torch.randn(64, 8)
        def __len__(self):
            return 64
        def __getitem__(self, index):
            return {{"x": self.x[index], "labels": int(self.x[index].sum() > 0)}}
    class Count(TrainerCallback):
        seen = 0
        def on_step_end(self, args, state, control, **kwargs):
            self.seen = self.seen + 1
    data = Data()
    arguments = TrainingArguments("out", num_train_epochs=5, per_device_train_batch_size=8, save_strategy="no", report_to=[],
                                  disable_tqdm=True, logging_steps=3, use_cpu=True, {more})
    Trainer(Net(), arguments, train_dataset=data, eval_dataset=data, callbacks=[Count()]).train()
"""


def _joined(*parts: str) -> str:
    return "\n".join(textwrap.dedent(part).strip() for part in parts) + "\n"


SCRIPTS: dict[str, str] = {
    **{f"numpy {name}": _joined(_NUMPY, loop) for name, loop in _NUMPY_LOOPS.items()},
    **{f"torch {name}": _joined(_TORCH, _STEP, loop) for name, loop in _TORCH_LOOPS.items()},
    **{f"torch {name}": _joined("import backprop", _TORCH, _STEP, loop) for name, loop in _BOXED.items()},
    **{f"lightning {name}": _joined(_LIGHTNING, fit) for name, fit in _LIGHTNING_FITS.items()},
    **{
        f"keras {backend}": _joined(_KERAS.format(backend=backend))
        for backend in ("torch", "jax", "tensorflow")
    },
    "transformers": _joined(_TRANSFORMERS.format(more="")),
    "transformers evaluation": _joined(_TRANSFORMERS.format(more="eval_strategy='epoch'")),
    "transformers accumulation": _joined(_TRANSFORMERS.format(more="gradient_accumulation_steps=2")),
}
