"""Checkpoints: state taken apart without pickle, committed in one step, verified before it is read.

Names are loaded on first use, so that importing the package costs next to nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .arrays import JSON, ArrayNode, Dense, RawFile, Translator
    from .codec import Snapshot, StagingBuffers, capture
    from .manifest import FORMAT_VERSION, CheckpointFacts, CheckpointInfo
    from .numpy_arrays import NumpyTranslator
    from .store import CheckpointStore, Loaded, open_store
    from .writer import Writer

__all__ = [
    "FORMAT_VERSION",
    "JSON",
    "ArrayNode",
    "CheckpointFacts",
    "CheckpointInfo",
    "CheckpointStore",
    "Dense",
    "Loaded",
    "NumpyTranslator",
    "RawFile",
    "Snapshot",
    "StagingBuffers",
    "Translator",
    "Writer",
    "capture",
    "open_store",
]

_HOME = {
    "JSON": "arrays",
    "Dense": "arrays",
    "ArrayNode": "arrays",
    "RawFile": "arrays",
    "Translator": "arrays",
    "Snapshot": "codec",
    "StagingBuffers": "codec",
    "capture": "codec",
    "FORMAT_VERSION": "manifest",
    "CheckpointFacts": "manifest",
    "CheckpointInfo": "manifest",
    "NumpyTranslator": "numpy_arrays",
    "CheckpointStore": "store",
    "Loaded": "store",
    "open_store": "store",
    "Writer": "writer",
}


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_HOME[name]}", __name__), name)
