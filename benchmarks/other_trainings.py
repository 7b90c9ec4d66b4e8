"""The training that benchmarks/other_tools.py boxes, as each tool wants it written; every step is told in steps.txt.

python benchmarks/other_trainings.py TOOL STATE_MB FOLDER [--box S] [--plain] [--saved-step]
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

STEP_S = 0.05
EVERY_BATCHES = 60
MANY = 100_000
LEAD_S = 5


def padded(state_mb: float) -> Any:
    """A model whose parameters and Adam moments take `state_mb`; it says each step that it begins after the first."""
    import torch
    from torch import nn

    class Padded(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            each = max(1, int(state_mb * 1e6 / 4 / 3 / 4))
            self.padding = nn.ParameterList([nn.Parameter(torch.zeros(each)) for _ in range(4)])
            self.layer = nn.Linear(8, 1)

        def forward(self, x: Any = None, labels: Any = None) -> Any:
            touched = sum(part[:1].sum() for part in self.padding)
            return (self.layer(x).squeeze(-1) - labels + 0 * touched).square().mean()

    return Padded()


class Told:
    """Writes the number of each step that is over, and when."""

    def __init__(self, folder: Path) -> None:
        self._file = (folder / "steps.txt").open("a", buffering=1)

    def __call__(self, step: int) -> None:
        self._file.write(f"{step},{time.time()}\n")


def transformers_training(state_mb: float, folder: Path, plain: bool) -> None:
    import torch
    from transformers import Trainer, TrainerCallback, TrainingArguments

    model, told = padded(state_mb), Told(folder)

    class Loss(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = model

        def forward(self, x: Any = None, labels: Any = None) -> Any:
            time.sleep(STEP_S)
            return {"loss": self.inner(x, labels)}

    class Tell(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **more: Any) -> None:
            told(state.global_step)

    data = [{"x": torch.randn(8), "labels": torch.tensor(1.0)} for _ in range(4096)]
    arguments = TrainingArguments(
        output_dir=str(folder / "out"),
        max_steps=MANY,
        per_device_train_batch_size=4,
        save_strategy="no",
        report_to=[],
        disable_tqdm=True,
        use_cpu=True,
        logging_strategy="no",
        enable_jit_checkpoint=not plain,
    )
    Trainer(model=Loss(), args=arguments, train_dataset=data, callbacks=[Tell()]).train()


def transformers_saved(folder: Path) -> int | None:
    from transformers.trainer_utils import get_last_checkpoint

    last = get_last_checkpoint(str(folder / "out")) if (folder / "out").exists() else None
    if last is None or Path(last, "checkpoint-is-incomplete.txt").exists():
        return None
    return int(Path(last).name.rpartition("-")[2])


class SubmitItTraining:
    """What submitit pickles and calls; `checkpoint` is its hook before the end of the job."""

    def __init__(self, state_mb: float, folder: str) -> None:
        self.state_mb, self.folder = state_mb, folder
        self.step = 0

    def __call__(self) -> None:
        import torch

        self.model, told = padded(self.state_mb), Told(Path(self.folder))
        self.optimizer = torch.optim.Adam(self.model.parameters())
        for step in range(1, MANY):
            self.optimizer.zero_grad()
            self.model(torch.randn(4, 8), torch.ones(4)).backward()
            self.optimizer.step()
            time.sleep(STEP_S)
            self.step = step
            told(step)

    def checkpoint(self) -> Any:
        import torch
        from submitit.helpers import DelayedSubmission

        path = Path(self.folder, "saved.pt")
        state = {
            "step": self.step,
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
        }
        torch.save(state, f"{path}.part")
        Path(f"{path}.part").replace(path)
        return DelayedSubmission(SubmitItTraining(self.state_mb, self.folder))


def submitit_training(state_mb: float, folder: Path, box_s: float) -> None:
    """Submit to the local executor, and wait for the end of the first box: the controller would begin another."""
    import submitit

    executor = submitit.LocalExecutor(folder=str(folder / "jobs"), max_num_timeout=0)
    executor.update_parameters(timeout_min=box_s / 60, signal_delay_s=LEAD_S)
    job = executor.submit(SubmitItTraining(state_mb, str(folder)))
    while not job.done():
        time.sleep(0.02)


def submitit_saved(folder: Path) -> int | None:
    import torch

    path = folder / "saved.pt"
    return int(torch.load(path, weights_only=True)["step"]) if path.exists() else None


def composer_training(state_mb: float, folder: Path, read_back: bool = False) -> None:
    import torch
    from composer import Callback, ComposerModel, Trainer
    from torch.utils.data import DataLoader, TensorDataset

    told = Told(folder)

    class Wrapped(ComposerModel):
        def __init__(self) -> None:
            super().__init__()
            self.inner = padded(state_mb)

        def forward(self, batch: Any) -> Any:
            time.sleep(STEP_S)
            return self.inner(*batch)

        def loss(self, outputs: Any, batch: Any, *more: Any, **options: Any) -> Any:
            return outputs

    class Tell(Callback):
        def batch_end(self, state: Any, logger: Any) -> None:
            told(int(state.timestamp.batch))

    model = Wrapped()
    trainer = Trainer(
        model=model,
        optimizers=torch.optim.Adam(model.parameters()),
        train_dataloader=DataLoader(TensorDataset(torch.randn(4096, 8), torch.ones(4096)), batch_size=4),
        max_duration=f"{MANY}ba",
        device="cpu",
        run_name="box",
        save_folder=str(folder / "saved"),
        save_interval=f"{EVERY_BATCHES}ba",
        save_num_checkpoints_to_keep=2,
        autoresume=True,
        progress_bar=False,
        callbacks=[] if read_back else [Tell()],
    )
    if read_back:
        print(int(trainer.state.timestamp.batch))
        return
    trainer.fit()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("tool", choices=("transformers", "submitit", "composer"))
    parser.add_argument("state_mb", type=float)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--box", type=float, default=30.0)
    parser.add_argument("--plain", action="store_true", help="without the just-in-time checkpoint")
    parser.add_argument(
        "--saved-step", action="store_true", help="print the step that a resume would begin from"
    )
    options = parser.parse_args()
    if options.saved_step:
        if options.tool == "composer":
            size = float((options.folder / "state_mb.txt").read_text())
            composer_training(size, options.folder, read_back=True)
        else:
            print(
                transformers_saved(options.folder)
                if options.tool == "transformers"
                else submitit_saved(options.folder)
            )
        return
    (options.folder / "state_mb.txt").write_text(str(options.state_mb))
    if options.tool == "transformers":
        transformers_training(options.state_mb, options.folder, options.plain)
    elif options.tool == "submitit":
        submitit_training(options.state_mb, options.folder, options.box)
    else:
        composer_training(options.state_mb, options.folder)


if __name__ == "__main__":
    main()
