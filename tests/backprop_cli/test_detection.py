"""What is read from a script before it starts."""

from __future__ import annotations

from pathlib import Path

import pytest

from backprop_cli.detection import detect
from backprop_cli.scripts import Kind


@pytest.mark.parametrize(
    ("text", "framework"),
    [
        ("import torch", "pytorch"),
        ("import pytorch_lightning as pl, torch", "lightning"),
        ("from lightning.pytorch import Trainer", "lightning"),
        ("def main():\n    import keras", "keras"),
        ("import tensorflow as tf", "keras"),
        ("from transformers import Trainer\nimport torch", "transformers"),
        ("import sklearn", None),
        ("import torch as", None),
        ("\0", None),
    ],
)
def test_the_framework_is_read_from_the_imports(tmp_path: Path, text: str, framework: str | None) -> None:
    """The most specific framework wins; text that cannot be parsed says nothing and does no harm."""
    (tmp_path / "train.py").write_text(text)
    assert detect(Kind.SCRIPT, ["train.py"], tmp_path).framework == framework


def test_local_modules_are_read_too_and_nothing_is_executed(tmp_path: Path) -> None:
    """Through a package and a relative import to the file that imports torch; a module that would fail is only read."""
    (tmp_path / "train.py").write_text("from parts.model import build\nraise SystemExit('executed')")
    (tmp_path / "parts").mkdir()
    (tmp_path / "parts" / "__init__.py").write_text("")
    (tmp_path / "parts" / "model.py").write_text("from . import deep\nfrom .deep import net\nimport train")
    (tmp_path / "parts" / "deep.py").write_text("import torch\nopen('made', 'w')")
    seen = detect(Kind.SCRIPT, ["train.py"], tmp_path)
    assert (seen.framework, seen.because) == ("pytorch", "parts/deep.py imports torch")
    assert (
        detect(Kind.PROGRAM, ["torchrun", "--nproc-per-node", "2", "train.py"], tmp_path).framework
        == "pytorch"
    )
    assert not (tmp_path / "made").exists()
    assert detect(Kind.MODULE, ["parts.model"], tmp_path).framework == "pytorch"


def test_a_script_that_asks_for_a_box_itself_is_noticed(tmp_path: Path) -> None:
    """So that the first line can say so."""
    (tmp_path / "train.py").write_text("import torch, backprop")
    assert detect(Kind.SCRIPT, ["train.py"], tmp_path).uses_us
