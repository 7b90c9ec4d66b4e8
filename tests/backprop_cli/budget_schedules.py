"""Trainings whose learning rate follows the budget, one for each framework: each notes every step that it makes.

A line has the step, the learning rate and a digest of the weights, all as they are behind the step.
"""

from __future__ import annotations

NOTES = """
import hashlib, os, signal, sys, time
until, pause = int(sys.argv[1]), float(sys.argv[2])
file = open(f"{os.environ['BACKPROP_RUN_ID']}-{os.environ['BACKPROP_ATTEMPT']}.seen", "a", buffering=1)
def note(step, rate, arrays):
    weights = hashlib.sha256(b"".join(array.tobytes() for array in arrays)).hexdigest()
    file.write(f"{step} {float(rate)!r} {weights}\\n")
    if step == until:
        os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(pause)
"""

TORCH = """
import torch, backprop
from torch import nn
from backprop_torch import BudgetLR
from notes import note
torch.manual_seed(0)
model = nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.5), nn.Linear(8, 2))
optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
box = backprop.timebox(model=model, optimizer=optimizer)
scheduler = BudgetLR(optimizer, box)
with box:
    for step in box.steps(10**6):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(torch.randn(8, 4)), torch.randint(2, (8,))).backward()
        optimizer.step()
        scheduler.step()
        note(step + 1, optimizer.param_groups[0]["lr"], [p.detach().numpy() for p in model.parameters()])
"""

LIGHTNING = """
import torch
import pytorch_lightning as pl
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
from backprop_lightning import BackpropCallback, BudgetLR
from notes import note
budget = BackpropCallback()

class Net(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.network = nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.5), nn.Linear(8, 2))
    def training_step(self, batch, batch_idx):
        return nn.functional.cross_entropy(self.network(batch[0]), batch[1])
    def configure_optimizers(self):
        o = torch.optim.SGD(self.parameters(), lr=0.1, momentum=0.9)
        return {"optimizer": o, "lr_scheduler": {"scheduler": BudgetLR(o, budget), "interval": "step"}}
    def on_train_batch_end(self, *args):
        rate = self.optimizers().param_groups[0]["lr"]
        note(self.global_step, rate, [p.detach().numpy() for p in self.parameters()])

pl.seed_everything(0)
loader = DataLoader(TensorDataset(torch.randn(60, 4), torch.randint(2, (60,))), batch_size=4, shuffle=True)
trainer = pl.Trainer(max_epochs=10**6, accelerator="cpu", callbacks=[budget], logger=False,
                     enable_checkpointing=False, enable_progress_bar=False)
trainer.fit(Net(), loader)
"""

KERAS = """
import keras, numpy
from backprop_keras import BackpropCallback, BudgetLR
from notes import note
keras.utils.set_random_seed(0)
model = keras.Sequential([keras.layers.Input((4,)), keras.layers.Dense(8), keras.layers.Dropout(0.5),
                          keras.layers.Dense(2)])
model.compile(keras.optimizers.SGD(0.1, momentum=0.9), keras.losses.SparseCategoricalCrossentropy(from_logits=True))

class Noting(keras.callbacks.Callback):
    def on_train_batch_end(self, batch, logs=None):
        if hasattr(self.model, "jax_state_sync"):
            self.model.jax_state_sync()
        read = keras.ops.convert_to_numpy
        optimizer = self.model.optimizer
        note(int(read(optimizer.iterations)), read(optimizer.learning_rate),
             [read(weight) for weight in self.model.trainable_weights])

generator = numpy.random.default_rng(0)
x, y = generator.normal(size=(60, 4)).astype("float32"), generator.integers(2, size=60)
budget = BackpropCallback()
model.fit(x, y, batch_size=4, epochs=10**6, verbose=0, callbacks=[budget, BudgetLR(budget), Noting()])
"""

TRANSFORMERS = """
import torch
from torch import nn
from transformers import Trainer, TrainerCallback, TrainingArguments
from backprop_transformers import BackpropCallback, BudgetLR
from notes import note

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.network = nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.5), nn.Linear(8, 2))
    def forward(self, x, labels):
        return {"loss": nn.functional.cross_entropy(self.network(x), labels)}

class Noting(TrainerCallback):
    def on_step_end(self, args, state, control, **more):
        note(state.global_step, more["optimizer"].param_groups[0]["lr"],
             [p.detach().numpy() for p in more["model"].parameters()])

torch.manual_seed(0)
model = Net()
data = [{"x": torch.randn(4), "labels": torch.randint(2, ())} for _ in range(60)]
budget = BackpropCallback()
optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
arguments = TrainingArguments("out", max_steps=10**6, per_device_train_batch_size=4, report_to=[], use_cpu=True,
                              save_strategy="no", logging_strategy="no", disable_tqdm=True)
Trainer(model, arguments, train_dataset=data, callbacks=[budget, Noting()],
        optimizers=(optimizer, BudgetLR(optimizer, budget))).train()
"""

SCRIPTS = {"torch": TORCH, "lightning": LIGHTNING, "keras": KERAS, "transformers": TRANSFORMERS}
PACKAGES = {
    "torch": "torch",
    "lightning": "pytorch_lightning",
    "keras": "keras",
    "transformers": "transformers.trainer",
}
"""What takes the most of a start."""
