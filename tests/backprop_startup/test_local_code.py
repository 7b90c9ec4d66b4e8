"""Which code counts as the user's own."""

from __future__ import annotations

from pathlib import Path

import pytest

from backprop_core import contract
from backprop_startup.local_code import LocalCode


def test_a_launcher_that_is_run_as_a_module_is_never_the_scripts_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """`--exec python -- -m torch.distributed.run` names torch, whose thousand files must not be read for loops."""
    monkeypatch.setenv(contract.REWRITE_PACKAGES, "torch,mine")
    code = LocalCode("")
    assert not code.may_be_local("torch.distributed.run")
    assert code.may_be_local("mine.train")


def test_what_lies_beside_the_script_is_local(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A module beside the script is the user's own; an installed package is not."""
    monkeypatch.delenv(contract.REWRITE_PACKAGES, raising=False)
    (tmp_path / "loops.py").write_text("")
    monkeypatch.syspath_prepend(str(tmp_path))
    code = LocalCode(str(tmp_path / "train.py"))
    assert code.may_be_local("loops")
    assert not code.may_be_local("pytest")
