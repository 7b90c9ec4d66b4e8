"""Modules of the script's that it imported in the middle of its training: a resumed process has not come there yet."""

from __future__ import annotations

import importlib
import importlib.util
import random
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

from backprop_core.ports.framework import Framework
from backprop_core.script_state.functions import is_script_file
from backprop_core.script_state.namespace import MODULE
from backprop_core.script_state.trackables import NumpyGlobalRandomTracked


def import_late_modules(state: Mapping[str, Any], frameworks: Sequence[Framework]) -> None:
    """Import those that a stored difference tells of, as the script is about to.

    What a module draws from the global random generators while it is imported is not drawn for the script. One that cannot
    be imported stays away: its state is named as missing.
    """
    nodes = [
        node for node in state.get("nodes", ()) if isinstance(node, Mapping) and node.get("type") == MODULE
    ]
    late = [node["name"] for node in nodes if node["name"] != "main" and node["name"] not in sys.modules]
    if not late:
        return
    with _nothing_drawn(frameworks):
        for name in late:
            # The script's own code, which will tell of its fault, or leave the process, when it gets there. To look for a
            # module in a package imports the package.
            with suppress(Exception, SystemExit):
                if _is_the_scripts(name):
                    importlib.import_module(name)


def _is_the_scripts(name: str) -> bool:
    if name in sys.modules or not all(part.isidentifier() for part in name.split(".")):
        return False
    parent = name.rpartition(".")[0]
    if parent and parent not in sys.modules and not _is_the_scripts(parent):
        return False
    try:
        found = importlib.util.find_spec(name)
    except (ImportError, AttributeError, ValueError):
        return False
    return found is not None and found.origin is not None and is_script_file(found.origin)


@contextmanager
def _nothing_drawn(frameworks: Sequence[Framework]) -> Iterator[None]:
    with ExitStack() as back:
        back.callback(random.setstate, random.getstate())
        for one in (NumpyGlobalRandomTracked(), *(framework.randomness() for framework in frameworks)):
            restore: Callable[[Any], None] = one.restore
            back.callback(restore, one.capture())
        yield
