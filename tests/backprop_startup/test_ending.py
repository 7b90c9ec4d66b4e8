"""How a script ends under the command."""

from __future__ import annotations

import sys
import traceback

import pytest

from backprop_core.errors import StateMismatchError, UnkeptStateError, UsageError
from backprop_startup.ending import run_to_its_end


@pytest.mark.parametrize(
    ("error", "traced"),
    [(StateMismatchError, False), (UnkeptStateError, False), (UsageError, True), (ValueError, True)],
)
def test_a_refusal_of_ours_is_one_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, error: type[Exception], traced: bool
) -> None:
    """Where in a framework it was found helps nobody. A wrong call and the script's own errors show where they are."""
    monkeypatch.setattr(sys, "excepthook", traceback.print_exception)
    code = compile("raise error('It does not fit.', 'Do this.')", "script.py", "exec")
    with pytest.raises(SystemExit) as ended:
        run_to_its_end(code, {"error": error})
    assert ended.value.code == 1
    said = capsys.readouterr().err
    assert "It does not fit." in said
    assert ("Traceback" in said) is traced
    assert traced or len(said.splitlines()) == 1
