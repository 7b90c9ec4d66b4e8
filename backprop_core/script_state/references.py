"""References of stored values to nodes, by name."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any


def without(written: Any, names: set[str]) -> Any:
    """What is stored, with references to these nodes as handles: the new process has its own."""
    if type(written) is dict:
        if type(written.get("ref")) is str and written["ref"] in names:
            return {"handle": "builtins.function"}
        return {key: without(value, names) for key, value in written.items()}
    if type(written) is list and any(type(one) in (dict, list) for one in written):
        return [without(one, names) for one in written]
    return written


def references_in(written: Any) -> Iterable[str]:
    """Names of nodes in a place."""
    if type(written) is dict:
        if "ref" in written:
            yield written["ref"]
        for member in written.get("tuple", ()):
            yield from references_in(member)
        if "method" in written:
            yield from references_in(written["of"])
