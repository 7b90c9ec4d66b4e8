"""One training whole, and cut and resumed, in this process: `python -m … lightning|keras|transformers`; prints JSON."""

from __future__ import annotations

import importlib
import json
import os
import sys
import tempfile
import warnings
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

from backprop_core.runs.control import Action, send_control

Train = Callable[[list[Any]], Any]
CUT_AT = 5


def lightning() -> tuple[Train, Any]:
    import pytorch_lightning as pl

    from backprop_lightning import BackpropCallback
    from tests.backprop_lightning.recipes import Net, loader, validation
    from tests.backprop_torch.cutting import digest, seed

    class Stop(pl.Callback):
        def __init__(self, ours: Any) -> None:
            self.ours = ours

        def on_train_batch_end(self, trainer: Any, *args: Any, **kwargs: Any) -> None:
            if trainer.global_step == CUT_AT:
                stop(self.ours._fit.session)

    def train(callbacks: list[Any]) -> Any:
        seed(1)
        module = Net()
        trainer = pl.Trainer(
            max_epochs=2, logger=False, enable_checkpointing=False, enable_progress_bar=False, callbacks=callbacks,
            enable_model_summary=False, accelerator="cpu",
        )  # fmt: skip
        trainer.fit(module, loader(), validation())
        return digest(dict(module.state_dict()))

    return train, lambda **keywords: (ours := BackpropCallback(**keywords), Stop(ours))


def keras() -> tuple[Train, Any]:
    os.environ.setdefault("KERAS_BACKEND", "torch")
    import keras
    import numpy as np

    from backprop_keras import BackpropCallback

    class Stop(keras.callbacks.Callback):  # type: ignore[misc]
        def __init__(self, ours: Any) -> None:
            super().__init__()
            self.ours, self.seen = ours, 0

        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            self.seen += 1
            if self.seen == CUT_AT:
                stop(self.ours._box.session)

    def train(callbacks: list[Any]) -> Any:
        keras.utils.set_random_seed(1)
        model = keras.Sequential([keras.layers.Input((2,)), keras.layers.Dense(4), keras.layers.Dense(1)])
        model.compile("adam", "mse")
        data = np.arange(32.0).reshape(16, 2) / 16
        model.fit(
            data,
            data[:, 0],
            batch_size=2,
            epochs=3,
            validation_data=(data, data[:, 0]),
            verbose=0,
            callbacks=callbacks,
        )
        return [np.asarray(weight).tolist() for weight in model.get_weights()]

    return train, lambda **keywords: (ours := BackpropCallback(**keywords), Stop(ours))


def transformers() -> tuple[Train, Any]:
    from transformers import Trainer, TrainerCallback, TrainingArguments

    from backprop_transformers import BackpropCallback
    from tests.backprop_torch.cutting import digest, seed
    from tests.backprop_transformers.renamed_names import Net

    class Stop(TrainerCallback):
        def __init__(self, ours: Any) -> None:
            self.ours = ours

        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            if state.global_step == CUT_AT:
                stop(self.ours._training.session)

    def train(callbacks: list[Any]) -> Any:
        import torch

        seed(1)
        data = [{"x": torch.tensor([i / 16, 1.0]), "labels": torch.tensor([float(i)])} for i in range(16)]
        with tempfile.TemporaryDirectory() as folder:
            args = TrainingArguments(
                folder, per_device_train_batch_size=2, num_train_epochs=2, eval_strategy="epoch", save_strategy="no",
                report_to=[], disable_tqdm=True, use_cpu=True, seed=0,
            )  # fmt: skip
            trainer = Trainer(Net(), args, train_dataset=data, eval_dataset=data, callbacks=callbacks)
            trainer.train()
            return digest(dict(trainer.model.state_dict()))

    return train, lambda **keywords: (ours := BackpropCallback(**keywords), Stop(ours))


def stop(session: Any) -> None:
    """What `backprop stop` does; the next boundary asks."""
    send_control(session.enrolment.attempt.directory, Action.STOP)
    session.wake = session.requests._next_poll = 0.0


def main() -> None:
    warnings.simplefilter("ignore")
    name = sys.argv[1]
    packages = {
        "lightning": ["pytorch-lightning"],
        "keras": ["keras"],
        "transformers": ["transformers", "accelerate"],
    }[name]
    told: dict[str, Any] = {"versions": {package: version(package) for package in packages}}
    train, callbacks = {"lightning": lightning, "keras": keras, "transformers": transformers}[name]()
    whole = train([])
    with tempfile.TemporaryDirectory() as home:
        os.environ["BACKPROP_HOME"] = str(Path(home))
        try:
            first = callbacks(budget="1h", run="cut")
            train([*first])
            second = callbacks(budget="1h", run="cut")[:1]
            again = train([*second])
        except Exception as error:
            told["refused"] = f"{type(error).__name__}: {error}"
        else:
            told |= {"outcomes": [str(first[0].outcome), str(second[0].outcome)], "same": again == whole}
    print("\n" + json.dumps(told))


if __name__ == "__main__":
    importlib.import_module("backprop_core.clock")
    main()
