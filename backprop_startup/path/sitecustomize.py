"""Python imports this when it starts under `backprop run`: it hands over to the hook, then to the sitecustomize behind it.

An interpreter in which backprop is not installed finds no hook: its script is governed from outside.
"""

import os
import sys


def _hand_over() -> None:
    here = os.path.dirname(os.path.abspath(__file__))
    sys.path[:] = [entry for entry in sys.path if os.path.abspath(entry or ".") != here]
    try:
        from backprop_startup.hook import install
    except ImportError:
        return
    install()


_hand_over()
_ours = sys.modules.pop("sitecustomize", None)
try:
    import sitecustomize  # type: ignore[import-not-found]  # noqa: F401 - the next one on the path, as without us
except ImportError as error:
    if error.name != "sitecustomize":
        raise
finally:
    if _ours is not None:
        sys.modules.setdefault("sitecustomize", _ours)
