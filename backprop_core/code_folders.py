"""Folders that a script has put on `sys.path`: the modules in them are its own, as those beside it are.

The start-up hook notes them; whoever looks at a script's modules asks here.
"""

from __future__ import annotations

_added: list[str] = []


def add_folder(folder: str) -> None:
    """Note the absolute path of one, with a separator at its end."""
    if folder not in _added:
        _added.append(folder)


def added_folders() -> tuple[str, ...]:
    """Those that are known by now, in the order in which they came."""
    return tuple(_added)
