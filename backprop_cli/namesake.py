"""Another package of the name `backprop` in front of ours: an unmaintained 0.1.3 on PyPI has the same import name.

The command works without `import backprop`; a script that has a `timebox` does not.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

_MARK = b"backprop_core"
"""Our own `backprop` imports it in its first lines."""
_ENOUGH_BYTES = 4096


def namesake() -> str:
    """A sentence about what `import backprop` finds instead of ours in this interpreter, or the empty string."""
    try:
        spec = importlib.util.find_spec("backprop")
    except (ImportError, ValueError):  # something of that name is there, and not even found in order
        return ""
    if spec is None or spec.origin is None:
        return ""
    try:
        with Path(spec.origin).open("rb") as file:
            ours = _MARK in file.read(_ENOUGH_BYTES)
    except OSError:
        return ""
    if ours:
        return ""
    return (
        f"'import backprop' finds another package, {spec.origin}. If it is the unmaintained backprop 0.1.3: "
        "pip uninstall backprop, then pip install --force-reinstall --no-deps backprop-timebox"
    )
