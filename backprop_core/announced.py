"""What installed packages announce by entry points: frameworks and sinks.

`importlib.metadata` tells the same, but importing it and its reader of mail headers takes 20 to 40 ms of each start of a
training, a fifth of all that we take; it is asked only where a package may live elsewhere than in a folder. The format is
that of the packaging specification, https://packaging.python.org/specifications/entry-points/.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from functools import reduce
from importlib import import_module
from importlib.machinery import PathFinder
from typing import Any

from backprop_core.quick_dataclass import dataclass

_METADATA = (".dist-info", ".egg-info")


@dataclass(frozen=True)
class Announcement:
    """One entry point.

    Attributes:
        name: what it is called in its group.
        value: `module:attribute`, as the package wrote it.
    """

    name: str
    value: str

    def load(self) -> Any:
        """Import the module and give the attribute, or the module itself where none is named.

        Raises:
            ImportError, AttributeError: the package does not hold what it announced.
        """
        module, _, attributes = self.value.partition("[")[0].strip().partition(":")
        names = [name.strip() for name in attributes.split(".") if name.strip()]
        return reduce(getattr, names, import_module(module.strip()))


def announced(group: str) -> list[Announcement]:
    """The entry points of `group`, in the order of their names; of packages of one name the first on `sys.path` counts."""
    if any(hasattr(finder, "find_distributions") and finder is not PathFinder for finder in sys.meta_path):
        return _asked_of_the_library(group)
    found: dict[str, list[Announcement]] = {}
    for place in sys.path:
        try:
            for folder in os.listdir(place or "."):  # noqa: PTH208 - hundreds of names, no need of Path objects
                if folder.endswith(_METADATA) and (package := _package(folder)) not in found:
                    found[package] = list(_read(os.path.join(place, folder, "entry_points.txt"), group))  # noqa: PTH118
        except NotADirectoryError:  # an archive: its packages announce something too
            return _asked_of_the_library(group)
        except OSError:
            continue
    return sorted((entry for entries in found.values() for entry in entries), key=lambda entry: entry.name)


def _package(folder: str) -> str:
    return folder.partition("-")[0].lower().replace(".", "_")


def _read(path: str, group: str) -> Iterator[Announcement]:
    try:
        with open(path, "rb") as file:  # noqa: PTH123 - hundreds of files
            content = file.read()
    except OSError:
        return
    if group.encode() not in content:
        return
    here = False
    for line in content.decode("utf-8", "replace").splitlines():
        text = line.strip()
        if text.startswith("["):
            here = text == f"[{group}]"
        elif here and "=" in text and text[0] not in "#;":
            name, _, value = text.partition("=")
            yield Announcement(name.strip(), value.strip())


def _asked_of_the_library(group: str) -> list[Announcement]:
    from importlib.metadata import entry_points

    return sorted(
        (Announcement(point.name, point.value) for point in entry_points(group=group)), key=lambda e: e.name
    )
