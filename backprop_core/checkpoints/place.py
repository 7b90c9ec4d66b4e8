"""Where checkpoint folders lie: what the store asks of a file system or an object store."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol, TypeAlias

from .files import FileFacts
from .folder import FolderPlan, damaged
from .manifest import MANIFEST_NAME, MAX_MANIFEST_BYTES, Manifest, parse_manifest

Seal: TypeAlias = Callable[[Mapping[str, FileFacts]], bytes]
"""Makes the manifest's text once the size and digest of every other file are known."""


class Place(Protocol):
    """A directory of checkpoint folders. Names are names of folders in it, files are names in such a folder."""

    @property
    def directory(self) -> Path:
        """For messages, and to compare with."""
        ...

    def names(self) -> list[str]:
        """Everything that claims to be a committed checkpoint, newest first, damaged or not.

        Raises:
            OSError: the directory cannot be listed; not if it does not exist.
        """
        ...

    def names_set_aside(self) -> list[str]:
        """What `set_aside` has put out of the way. Never raises: it is for showing."""
        ...

    def write(self, plan: FolderPlan, step: int, seal: Seal) -> str:
        """Write a checkpoint under a name that was free; it is complete and durable when this returns, or
        absent.

        Raises:
            OSError, CheckpointWriteError: it is absent.
        """
        ...

    def read(
        self, name: str, file: str, *, limit_bytes: int | None = None, expected: FileFacts | None = None
    ) -> memoryview:
        """A file's bytes in fresh writable memory, verified against `expected`.

        Raises:
            FileNotFoundError: it is not there.
            ValueError: it is not what is expected; a sentence.
            OSError: it cannot be read.
        """
        ...

    def verify(self, name: str, file: str, expected: FileFacts) -> None:
        """Raises what `read` raises, without holding the file in memory."""
        ...

    def remove(self, name: str) -> None:
        """Take a checkpoint away as far as possible, so that no half of it is ever taken for a whole."""
        ...

    def set_aside(self, name: str) -> str:
        """Keep a damaged checkpoint out of `names` from now on. Gives the name it has now; the old one if
        that failed.
        """
        ...

    def sweep(self) -> None:
        """Remove what killed saves left behind, only what is certainly ours and abandoned."""
        ...


def read_manifest(place: Place, name: str) -> Manifest:
    """The manifest of a checkpoint, its own digest verified.

    Raises:
        CheckpointDamagedError: there is none, or it is not what was written.
        NewerFormatError: it comes from a later version of backprop.
        OSError: it cannot be read.
    """
    path = place.directory / name
    try:
        return parse_manifest(bytes(place.read(name, MANIFEST_NAME, limit_bytes=MAX_MANIFEST_BYTES)))
    except (FileNotFoundError, NotADirectoryError):
        raise damaged(path, "it has no manifest") from None
    except ValueError as error:
        raise damaged(path, str(error)) from None
