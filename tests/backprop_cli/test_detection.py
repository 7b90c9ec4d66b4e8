"""What is read from a script before it starts."""

from __future__ import annotations

import math
import sys
from pathlib import Path

import pytest

from backprop_cli.detection import described, detect
from backprop_cli.scripts import ScriptKind
from backprop_cli.unrecognised import Unrecognised, notice_after_s
from tests.backprop_cli.commandline import CommandLine


@pytest.mark.parametrize(
    ("text", "framework"),
    [
        ("import torch", "pytorch"),
        ("import pytorch_lightning as pl, torch\npl.Trainer()", "lightning"),
        ("from lightning.pytorch import Trainer", "lightning"),
        ("def main():\n    import keras", "keras"),
        ("import tensorflow as tf", "keras"),
        ("from transformers import Trainer\nimport torch", "transformers"),
        ("import transformers\ntransformers.Seq2SeqTrainer()", "transformers"),
        ("from trl import SFTTrainer", "transformers"),
        ("import torch\nfrom transformers import AutoModel", "pytorch"),
        ("import torch\ndef load():\n    from transformers import GPT2LMHeadModel, Trainer", "pytorch"),
        ("import lightning as L\nfabric = L.Fabric()", "pytorch"),
        ("from lightning.fabric import Fabric\nimport torch", "pytorch"),
        ("import lightning as L\nL.Trainer().fit(L.LightningModule())", "lightning"),
        ("import torch\nfrom fastai.vision.all import *", "fastai"),
        ("import sklearn", None),
        ("import torch as", None),
        ("\0", None),
    ],
)
def test_the_framework_is_read_from_the_imports(tmp_path: Path, text: str, framework: str | None) -> None:
    """The most specific framework wins; text that cannot be parsed says nothing and does no harm."""
    (tmp_path / "train.py").write_text(text)
    assert detect(ScriptKind.SCRIPT, ["train.py"], tmp_path).framework == framework


def test_local_modules_are_read_too_and_nothing_is_executed(tmp_path: Path) -> None:
    """Through a package and a relative import to the file that imports torch; a module that would fail is only read."""
    (tmp_path / "train.py").write_text("from parts.model import build\nraise SystemExit('executed')")
    (tmp_path / "parts").mkdir()
    (tmp_path / "parts" / "__init__.py").write_text("")
    (tmp_path / "parts" / "model.py").write_text("from . import deep\nfrom .deep import net\nimport train")
    (tmp_path / "parts" / "deep.py").write_text("import torch\nopen('made', 'w')")
    seen = detect(ScriptKind.SCRIPT, ["train.py"], tmp_path)
    assert (seen.framework, seen.because) == ("pytorch", "parts/deep.py imports torch")
    assert (
        detect(ScriptKind.PROGRAM, ["torchrun", "--nproc-per-node", "2", "train.py"], tmp_path).framework
        == "pytorch"
    )
    assert not (tmp_path / "made").exists()
    assert detect(ScriptKind.MODULE, ["parts.model"], tmp_path).framework == "pytorch"


def test_a_folder_that_the_script_puts_on_the_path_is_read_too(tmp_path: Path) -> None:
    """What trains lies in another folder of the project, and the first line names it."""
    (tmp_path / "scripts").mkdir()
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "engine.py").write_text("import torch\n")
    script = tmp_path / "scripts" / "train.py"
    script.write_text(
        "import os, sys\nsys.path.append(os.path.join(os.path.dirname(__file__), '..', 'src'))\nimport engine\n"
    )
    found = detect(ScriptKind.SCRIPT, [str(script)], tmp_path / "scripts")
    assert found.framework == "pytorch"
    assert found.because.endswith("engine.py imports torch")


def test_what_was_not_read_is_not_called_a_script_without_a_framework(tmp_path: Path) -> None:
    """An installed module and a shell script may train with anything."""
    for kind, command in (
        (ScriptKind.MODULE, ["installed.train"]),
        (ScriptKind.PROGRAM, ["./train.sh", "--fast"]),
    ):
        line = described(kind, detect(kind, command, tmp_path), "auto", sys.executable)
        assert line == f"{command[0]} was not read; backprop attaches when training begins."


def test_a_script_that_asks_for_a_box_itself_is_noticed(tmp_path: Path) -> None:
    """So that the first line can say so."""
    script = tmp_path / "train.py"
    script.write_text("import torch, backprop\nbox = backprop.timebox(model=torch.nn.Linear(1, 1))\n")
    assert detect(ScriptKind.SCRIPT, ["train.py"], tmp_path).uses_us
    script.write_text("import torch, backprop\nwith backprop.timebox():\n    pass\n")
    assert not detect(ScriptKind.SCRIPT, ["train.py"], tmp_path).uses_us, "its loops are counted"


def test_an_import_inside_a_function_counts_for_little(tmp_path: Path) -> None:
    """As in nanoGPT: the module beside the script imports transformers only where weights are loaded, so PyTorch it is."""
    (tmp_path / "train.py").write_text(
        "import torch\nfrom model import GPT\nclass Trainer: pass\nx = Trainer.fit"
    )
    (tmp_path / "model.py").write_text(
        "import torch\nclass GPT:\n    def load(self):\n        from transformers import A\n"
    )
    seen = detect(ScriptKind.SCRIPT, ["train.py"], tmp_path)
    assert (seen.framework, seen.because) == ("pytorch", "train.py imports torch")
    said = described(ScriptKind.SCRIPT, seen, "auto", sys.executable)
    assert said.startswith("pytorch expected (train.py imports torch)")


def test_what_is_not_known_is_told_once_and_in_time() -> None:
    """After a minute, or 5% of the box, but not while a framework is still imported; never where something is known."""
    assert [notice_after_s(box_s) for box_s in (6, 60, 600, 7200)] == [3, 10, 30, 60]
    watch = Unrecognised(100.0, 600.0)
    assert watch.look(129.9, recognised=False) == ""
    said = watch.look(130.0, recognised=False)
    assert said.startswith("In 30.0 s no training was recognised")
    assert "backprop.timebox()" in said
    assert "--checkpoint-glob" in said
    assert watch.look(131.0, recognised=False) == ""
    known = Unrecognised(100.0, 600.0)
    assert known.look(101.0, recognised=True) == ""
    assert known.look(500.0, recognised=False) == ""
    waits = Unrecognised(100.0, math.inf, from_training=True)
    assert waits.look(159.0, recognised=False) == ""
    assert "its box has not begun" in waits.look(160.0, recognised=False)
    assert Unrecognised(100.0, 600.0, silent=True).look(200.0, recognised=False) == ""
    imports = Unrecognised(100.0, 600.0)
    assert imports.look(399.0, recognised=False, imports=True) == ""
    assert "no training was recognised" in imports.look(400.0, recognised=False, imports=True)


@pytest.mark.parametrize("saves", [False, True])
def test_a_script_that_cannot_be_saved_is_told_so_while_it_runs(backprop: CommandLine, saves: bool) -> None:
    """Halfway through a short box the line comes, unless the script has announced a checkpoint of its own."""
    backprop.script(
        f"""
        import json, time
        open("a.pt", "w").write("w")
        if {saves}:
            print(json.dumps({{"event": "checkpoint_saved", "path": "a.pt"}}), flush=True)
        time.sleep(5)
        """
    )
    done = backprop("run", "train.py", "-m", "8s")
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("no training was recognised in this script") == (0 if saves else 1)
