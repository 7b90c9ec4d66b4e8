"""Scripts with counted loops say and return what they do without us, to the byte."""

from __future__ import annotations

import pytest

from tests.backprop_cli.commandline import CommandLine
from tests.backprop_startup.cutting import whole

_OPTIMIZER = "class O:\n    def step(self): pass\n"
_LOOP = _OPTIMIZER + "for i in range(3):\n    O().step()\n"
_SCRIPTS = {
    "a syntax error in a local module": b"import broken\n",
    "a syntax error of its own": f"{_LOOP}print('x'\n".encode(),
    "bytes in no encoding": f"{_LOOP}print('l\xe4nger')\n".encode("latin-1"),
    "Latin-1": f"# coding: latin-1\n{_LOOP}raise ValueError('l\xe4nger')\n".encode("latin-1"),
    "a byte order mark": f"\ufeff{_LOOP}print(i, __file__)\n".encode(),
    "a warning for whoever called it": f"import warnings\n{_LOOP}warnings.warn('w', stacklevel=2)\n".encode(),
    "an exit inside a loop": f"{_LOOP}    if i == 1: raise SystemExit(3)\n".encode(),
    "Ctrl-C inside a loop": f"import os, signal\n{_LOOP}    os.kill(os.getpid(), signal.SIGINT)\n".encode(),
    "an error in a local module's loop": b"import looping\nlooping.go()\n",
    "the source of its own functions": (
        f"import inspect\n{_OPTIMIZER}def f():\n    for i in range(2): O().step()\n    return i\n"
        "print(f(), inspect.getsource(f), f.__code__.co_firstlineno)\n"
    ).encode(),
    "code that is executed": f"{_LOOP}exec(open('looping.py').read())\ngo()\n".encode(),
}


@pytest.mark.parametrize("what", _SCRIPTS)
def test_a_script_says_and_returns_what_it_does_without_us(backprop: CommandLine, what: str) -> None:
    """Standard output, standard error without our own lines, and the exit status are those of the bare script."""
    script = backprop.folder / "train.py"
    script.write_bytes(_SCRIPTS[what])
    (backprop.folder / "broken.py").write_text("for i in 3 x:\n    i.step()\n")
    (backprop.folder / "looping.py").write_text(
        _OPTIMIZER + "def go():\n    for i in range(3):\n        O().step()\n    raise KeyError(i)\n"
    )
    bare = whole(backprop, script)
    ours = backprop("run", "-m", "1", str(script))
    assert ours.stdout == bare.stdout
    assert [line for line in ours.stderr.splitlines() if not line.startswith("backprop:")] == (
        bare.stderr.splitlines()
    )
    assert ours.returncode == (128 - bare.returncode if bare.returncode < 0 else bare.returncode)
