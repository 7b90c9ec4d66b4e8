"""Nothing is named in a script that nothing is wrong with."""

from __future__ import annotations

import pytest

from tests.backprop_cli.commandline import CommandLine
from tests.prove.correct_scripts import SCRIPTS
from tests.prove.test_command import proven


def test_there_are_thirty() -> None:
    """Over numpy, PyTorch, Lightning, Keras on three backends, and transformers."""
    assert len(SCRIPTS) == 30


@pytest.mark.faults
@pytest.mark.parametrize("name", SCRIPTS)
def test_a_correct_script_is_bit_identical(backprop: CommandLine, name: str) -> None:
    """Whole twice and cut three times, it is identical; what trains was among the pieces that were compared."""
    script = backprop.script(SCRIPTS[name])
    told = proven(backprop, script.name, "--steps", "16", "--cuts", "3")
    assert told["verdict"] == "identical", told
    assert told["steps"] >= 15
    assert len(told["cuts"]) == 3
    groups = {row["group"] for row in told["rows"]}
    assert groups & {"parameters", "arrays"}
    if name.startswith(("keras", "lightning", "transformers")):
        assert "batches" in groups
    assert not told["unkept"]
