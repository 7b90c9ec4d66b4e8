"""The tutorials do what they say: each block is executed in its order, in a folder of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.pages.tutorial import PAGES, blocks, known_extras


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_block_is_of_a_known_kind_and_every_extra_exists(page: Path) -> None:
    """A block that no test could execute, or an extra that pip does not find, cannot be written into a tutorial."""
    found = list(blocks(page))
    assert page.read_text().count("```") == 2 * len(found)
    for block in found:
        assert block.kind in ("python", "bash", "text")
        assert (block.kind == "python") == (block.file is not None)
        assert block.extras <= known_extras()


@pytest.mark.parametrize(
    "page",
    [
        pytest.param(page, marks=pytest.mark.long if page.stem == "script" else pytest.mark.faults)
        for page in PAGES
    ],
    ids=lambda page: page.stem,
)
def test_a_tutorial_does_what_it_says(page: Path, tmp_path: Path) -> None:
    """Each file is written, each command succeeds, and each line of output that the page shows is printed."""
    environ = {key: value for key, value in os.environ.items() if not key.startswith("BACKPROP_")}
    environ |= {"BACKPROP_HOME": str(tmp_path / "home"), "BACKPROP_RUNTIME_DIR": str(tmp_path / "runtime")}
    environ |= {"BACKPROP_MAX_LOAD": "1000", "BACKPROP_MIN_FREE_RAM": "0", "OMP_NUM_THREADS": "1"}
    environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environ['PATH']}"
    work = tmp_path / "work"
    work.mkdir()
    printed = ""
    for block in blocks(page):
        if block.kind == "python":
            (work / str(block.file)).write_text(block.body)
        elif block.kind == "text":
            assert not block.missing(printed), printed
        else:
            ran = subprocess.run(
                ["bash", "-euo", "pipefail", "-c", block.commands],
                cwd=work, env=environ, text=True, check=False, timeout=600,
                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            )  # fmt: skip
            printed = ran.stdout
            assert ran.returncode == 0, printed
