"""The manifest: the last file of a checkpoint, which says what the others are and vouches for every byte, its
own included.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import field
from pathlib import Path
from typing import Any, Final

from backprop_core.clock import utc_text
from backprop_core.errors import CheckpointError
from backprop_core.outcome import SaveReason
from backprop_core.quick_dataclass import dataclass
from backprop_core.strict_json import decode_exactly, encode_exactly

from .arrays import JSON
from .files import FileFacts, digest_of
from .plain import PlainEncoder, refuse_foreign
from .plain_back import PlainDecoder, refuse_foreign_node

FORMAT_VERSION: Final = 2
"""Version 2 parts the arrays of an object into two files, or among ranks. All others are written as version 1."""
MANIFEST_NAME: Final = "manifest.json"
MAX_MANIFEST_BYTES: Final = 16 << 20

_FILE_NAME = re.compile(r"(?:rank-\d{5}/)?[A-Za-z0-9_][A-Za-z0-9_.~-]{0,199}")
_DIGEST = re.compile(r"[0-9a-f]{32}")
_SEAL = re.compile(rb'"manifest_xxh3_128": ?"([0-9a-f]{32})"')
_COLLAPSED_URL = re.compile(r"^([A-Za-z][A-Za-z0-9+.-]+):/(?!/)")
_OPEN_SEAL: Final = "0" * 32


def address_of(path: Path) -> str:
    """`path` as a person writes it; an address that went through `Path` gets its second slash back."""
    return _COLLAPSED_URL.sub(r"\1://", str(path))


class NewerFormatError(CheckpointError):
    """A checkpoint made by a later version of backprop. It is left alone."""


@dataclass(frozen=True, slots=True)
class CheckpointFacts:
    """What the session knows about the moment of a save.

    Attributes:
        run_id, attempt: which run, and which of its process lives.
        step, epoch, batch: optimizer steps so far; the epoch (None where the loop tells none), and the batch in it,
            that come next.
        reason: why it is saved.
        box: which time box of the process, counted from 1.
        cursor: positions of the loops, opaque here.
        environment: library versions and flags that exactness depends on.
        slack_s: seconds that were left until the deadline; None without one.
        extra: whatever else an adapter needs.
    """

    run_id: str
    attempt: int
    step: int
    epoch: int | None
    batch: int
    reason: SaveReason
    box: int = 1
    cursor: JSON = None
    environment: Mapping[str, JSON] = field(default_factory=dict)
    slack_s: float | None = None
    extra: Mapping[str, JSON] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class CheckpointInfo:
    """A committed checkpoint.

    Attributes:
        nbytes: of its files; `linked_nbytes` of those that the save found in the checkpoint before and did not write.
            It is known of a save alone, and 0 for a checkpoint that was found.
        save_s: how long it took; `wall_s`: when it was made.
    """

    path: Path
    step: int
    facts: CheckpointFacts
    nbytes: int
    save_s: float
    wall_s: float
    linked_nbytes: int = 0

    @property
    def address(self) -> str:
        """Where it lies, as a person writes it: in an object store with the two slashes that a path drops."""
        return address_of(self.path)


@dataclass(frozen=True, slots=True)
class ObjectFiles:
    """The files of one tracked object; `arrays` is None when it has none.

    `apart` is a second file of arrays: those that had not changed since the checkpoint before; None where there is none.
    With `raw` the object is what is in the file `tree`, byte for byte, and nothing else.
    """

    tree: str
    arrays: str | None
    raw: bool = False
    apart: str | None = None


@dataclass(frozen=True, slots=True)
class Manifest:
    """The whole manifest: the public facts, and which files hold what."""

    facts: CheckpointFacts
    files: Mapping[str, FileFacts]
    objects: Mapping[str, ObjectFiles]
    save_s: float
    wall_s: float

    def info(self, path: Path) -> CheckpointInfo:
        """What is told of the checkpoint in the folder `path`."""
        nbytes = sum(file.nbytes for file in self.files.values())
        linked = sum(file.nbytes for file in self.files.values() if file.linked)
        return CheckpointInfo(path, self.facts.step, self.facts, nbytes, self.save_s, self.wall_s, linked)


def dump_manifest(manifest: Manifest, *, indent: int | None = 1) -> bytes:
    """The text of the manifest, sealed with the digest of itself; without `indent` for no person's eyes, and quicker.

    Raises:
        UnsavableStateError: a fact that is not plain.
    """
    facts = manifest.facts
    plain = PlainEncoder("facts", refuse_foreign)
    text = encode_exactly(
        {
            "backprop_checkpoint": _version_of(manifest),
            "run": facts.run_id,
            "attempt": facts.attempt,
            "box": facts.box,
            "step": facts.step,
            "epoch": facts.epoch,
            "batch": facts.batch,
            "reason": facts.reason.value,
            "made_utc": utc_text(manifest.wall_s),
            "made_wall_s": manifest.wall_s,
            "save_s": manifest.save_s,
            "slack_s": plain.encode(facts.slack_s),
            "cursor": plain.encode(facts.cursor, (None, "cursor")),
            "environment": plain.encode(dict(facts.environment), (None, "environment")),
            "extra": plain.encode(dict(facts.extra), (None, "extra")),
            "objects": {name: _dump_object(o) for name, o in manifest.objects.items()},
            "files": {name: {"bytes": f.nbytes, "xxh3_128": f.digest} for name, f in manifest.files.items()},
            "manifest_xxh3_128": _OPEN_SEAL,
        },
        indent=indent,
    )
    start = text.rindex(_OPEN_SEAL.encode())
    return text[:start] + digest_of(text).encode() + text[start + len(_OPEN_SEAL) :]


def _version_of(manifest: Manifest) -> int:
    """The oldest version that can read it: only files of several ranks are new."""
    parted = any(one.apart for one in manifest.objects.values())
    return FORMAT_VERSION if parted or any("/" in name for name in manifest.files) else 1


def parse_manifest(text: bytes) -> Manifest:
    """The manifest in `text`, its own digest verified before it is parsed.

    Raises:
        ValueError: damaged or malformed; a sentence.
        NewerFormatError: whole, but of a format this version does not know.
    """
    seals = list(_SEAL.finditer(text))
    if not seals:
        raise ValueError("the manifest has no digest of its own")
    start, end = seals[-1].span(1)
    if digest_of(text[:start] + _OPEN_SEAL.encode() + text[end:]) != seals[-1].group(1).decode():
        raise ValueError("the manifest has changed since it was written: its own digest does not match")
    fields = decode_exactly(text)
    version = fields.get("backprop_checkpoint") if isinstance(fields, dict) else None
    if type(version) is not int or version < 1:
        raise ValueError("the manifest was not written by backprop")
    if version > FORMAT_VERSION:
        raise NewerFormatError(
            f"The checkpoint has format version {version}; this backprop reads versions up to {FORMAT_VERSION}.",
            "Update backprop-timebox to read it.",
        )
    try:
        return _manifest(fields)
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError, RecursionError) as error:
        raise ValueError(f"the manifest is malformed ({type(error).__name__}: {error})") from None


def _manifest(fields: Mapping[str, Any]) -> Manifest:
    decode = PlainDecoder(refuse_foreign_node).decode
    facts = CheckpointFacts(
        run_id=_typed(str, fields["run"]),
        attempt=_count(fields["attempt"]),
        step=_count(fields["step"]),
        epoch=None if fields["epoch"] is None else _count(fields["epoch"]),
        batch=_count(fields["batch"]),
        reason=SaveReason(fields["reason"]),
        box=_count(fields["box"]),
        cursor=decode(fields["cursor"]),
        environment=_typed(dict, decode(fields["environment"])),
        slack_s=decode(fields["slack_s"]),
        extra=_typed(dict, decode(fields["extra"])),
    )
    files = {
        _file_name(n): FileFacts(_count(f["bytes"]), _digest(f["xxh3_128"]))
        for n, f in fields["files"].items()
    }
    objects = {name: _parse_object(o) for name, o in fields["objects"].items()}
    for name, parts in objects.items():
        if not {parts.tree, parts.arrays, parts.apart} - {None} <= files.keys():
            raise ValueError(f"object {name[:80]!r} has no file")
    return Manifest(facts, files, objects, float(fields["save_s"]), float(fields["made_wall_s"]))


def _dump_object(files: ObjectFiles) -> dict[str, JSON]:
    if files.raw:
        return {"raw": files.tree}
    apart: dict[str, JSON] = {} if files.apart is None else {"unchanged_arrays": files.apart}
    return {"tree": files.tree, "arrays": files.arrays, **apart}


def _parse_object(fields: Mapping[str, Any]) -> ObjectFiles:
    if "raw" in fields:
        return ObjectFiles(fields["raw"], None, raw=True)
    return ObjectFiles(fields["tree"], fields["arrays"], apart=fields.get("unchanged_arrays"))


def _typed(kind: type, value: Any) -> Any:
    if type(value) is not kind:
        raise TypeError(f"{value!r:.80} is not a {kind.__name__}")
    return value


def _count(value: Any) -> int:
    if type(value) is not int or value < 0:
        raise ValueError(f"{value!r:.80} is not a count")
    return value


def _digest(value: Any) -> str:
    if not isinstance(value, str) or not _DIGEST.fullmatch(value):
        raise ValueError(f"{value!r:.80} is not a digest")
    return value


def _file_name(name: str) -> str:
    if not _FILE_NAME.fullmatch(name) or name == MANIFEST_NAME:
        raise ValueError(f"{name[:80]!r} is not a valid file name in a checkpoint")
    return name
