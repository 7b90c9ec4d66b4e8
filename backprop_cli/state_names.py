"""The names of what a checkpoint holds of a script's own state, read from its JSON alone: no framework, no array."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from backprop_core.checkpoints.choose_place import place_of
from backprop_core.checkpoints.manifest import CheckpointInfo
from backprop_core.checkpoints.place import read_manifest
from backprop_core.clock import SYSTEM
from backprop_core.script_state.state import names_in
from backprop_core.strict_json import decode_exactly


def state_names(info: CheckpointInfo) -> list[str]:
    """What the script itself had changed, each name once, as in messages.

    Raises:
        CheckpointError, OSError: it cannot be read.
    """
    place = place_of(str(info.path.parent), SYSTEM)
    manifest = read_manifest(place, info.path.name)
    names: dict[str, None] = {}
    for parts in manifest.objects.values():
        if not parts.raw:
            text = place.read(info.path.name, parts.tree, expected=manifest.files[parts.tree])
            for difference in _differences(decode_exactly(text)):
                names |= dict.fromkeys(names_in(difference))
    return list(names)


def _differences(tree: Any) -> Iterator[dict[str, Any]]:
    """Wherever in a state a script's difference is stored."""
    if isinstance(tree, list):
        for member in tree:
            yield from _differences(member)
    elif isinstance(tree, dict):
        if tree.keys() - {"others", "objects", "numbers"} == {"format", "nodes", "paths"}:
            yield tree
        else:
            for member in tree.values():
                yield from _differences(member)
