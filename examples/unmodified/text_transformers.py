"""A tiny GPT-2 that learns Python's own help texts, byte by byte, with Hugging Face's Trainer.

Real data: `pydoc_data/topics.py`, which comes with Python. Nothing is downloaded.
"""

import argparse
import hashlib
import pydoc_data.topics
import tempfile
from pathlib import Path

import torch
from torch.utils.data import Dataset
from transformers import GPT2Config, GPT2LMHeadModel, Trainer, TrainingArguments, set_seed

CONTEXT = 64


class Pieces(Dataset):
    """Pieces of `CONTEXT` bytes, one behind the other."""

    def __init__(self, text: bytes) -> None:
        self.data = torch.frombuffer(bytearray(text), dtype=torch.uint8).long()

    def __len__(self) -> int:
        return len(self.data) // CONTEXT

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        piece = self.data[index * CONTEXT : (index + 1) * CONTEXT]
        return {"input_ids": piece, "labels": piece}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--epochs", type=float, default=1.0)
    parser.add_argument("--steps", type=int, default=-1, help="train so many steps, whatever the epochs")
    parser.add_argument("--output", default=None, help="Trainer's folder; default: a temporary one")
    options = parser.parse_args()

    set_seed(0)
    text = Path(pydoc_data.topics.__file__).read_bytes()
    train, test = Pieces(text[CONTEXT * 256 :]), Pieces(text[: CONTEXT * 256])
    model = GPT2LMHeadModel(
        GPT2Config(
            vocab_size=256,
            n_positions=CONTEXT,
            n_embd=64,
            n_layer=2,
            n_head=4,
            bos_token_id=0,
            eos_token_id=0,
        )
    )
    trainer = Trainer(
        model=model,
        args=TrainingArguments(
            output_dir=options.output or tempfile.mkdtemp(prefix="text-transformers-"),
            num_train_epochs=options.epochs,
            max_steps=options.steps,
            per_device_train_batch_size=8,
            per_device_eval_batch_size=32,
            learning_rate=3e-3,
            lr_scheduler_type="cosine",
            warmup_steps=50,
            logging_steps=50,
            eval_strategy="steps",
            eval_steps=100,
            save_strategy="no",
            report_to="none",
            use_cpu=True,
            dataloader_pin_memory=False,
        ),
        train_dataset=train,
        eval_dataset=test,
    )
    result = trainer.train()

    digest = hashlib.sha256()
    for tensor in model.state_dict().values():
        digest.update(tensor.numpy().tobytes())
    losses = [round(entry["eval_loss"], 4) for entry in trainer.state.log_history if "eval_loss" in entry]
    print(f"evaluations: {losses}")
    print(f"{result.global_step} steps, loss {result.training_loss:.4f}, digest {digest.hexdigest()[:16]}")


if __name__ == "__main__":
    main()
