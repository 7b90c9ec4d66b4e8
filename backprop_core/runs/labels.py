"""Tags and notes of a run: what people say of it.

They stand in a file of their own, under a lock of their own: `run.json` belongs to whoever holds the run, and a run that
trains for a week has to be tagged meanwhile.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

from backprop_core.clock import Clock
from backprop_core.errors import StoreError, UsageError
from backprop_core.quick_dataclass import dataclass
from backprop_core.runs.atomic import read_regular, replace_file
from backprop_core.runs.locks import FileLock
from backprop_core.strict_json import as_instant, as_list, as_object, as_text, decode, encode

LABELS_FILE = "labels.json"
MOST_TAGS = 100
MOST_NOTES = 1000
LONGEST_NOTE = 10_000
_FORMAT = 1
_LIMIT_BYTES = 64 * 1024 * 1024
_LOCK_TIMEOUT_S = 10.0
_TAG = re.compile(r"[^\W_][\w.:/=@+-]{0,63}")


@dataclass(frozen=True, slots=True)
class Note:
    """A sentence or more that somebody wrote about a run. `wall` is when, in seconds since 1970."""

    wall: float
    text: str


@dataclass(frozen=True, slots=True)
class Labels:
    """What people say of a run.

    Attributes:
        tags: sorted, each once.
        notes: oldest first.
        damage: why the file could not be read, or None.
    """

    tags: tuple[str, ...] = ()
    notes: tuple[Note, ...] = ()
    damage: str | None = None


NO_LABELS = Labels()


def valid_tag(tag: str) -> str:
    """`tag`, if it can be one.

    Raises:
        UsageError: it cannot.
    """
    if _TAG.fullmatch(tag) is None:
        raise UsageError(
            f"{tag[:80]!r} cannot be a tag.",
            "A tag has 1 to 64 letters, digits and . : / = @ + - _, and begins with a letter or a digit.",
        )
    return tag


def read_labels(run_dir: str | Path) -> Labels:
    """The labels of the run in `run_dir`; none where nobody has given any. Never raises for what the file holds."""
    name = f"{run_dir}/{LABELS_FILE}"
    if not os.path.lexists(name):  # thousands of runs in a list have none
        return NO_LABELS
    try:
        content = decode(read_regular(Path(name), _LIMIT_BYTES))
    except FileNotFoundError:
        return NO_LABELS
    except OSError as error:
        return Labels(damage=error.strerror or str(error))
    except ValueError:
        return Labels(damage="it is not JSON")
    if not isinstance(content, dict):
        return Labels(damage="it is not a JSON object")
    tags = {tag for tag in as_list(content.get("tags")) if isinstance(tag, str) and _TAG.fullmatch(tag)}
    notes = [note for item in as_list(content.get("notes")) if (note := _note(item)) is not None]
    return Labels(tuple(sorted(tags)), tuple(notes))


def change_tags(run_dir: Path, add: Iterable[str], remove: Iterable[str], clock: Clock) -> Labels:
    """Add tags and remove others; a tag that is there or gone already is no error. Returns what holds now.

    Raises:
        UsageError: a word that cannot be a tag, or more than `MOST_TAGS`.
        StoreError: the file cannot be written, or stays locked.
    """
    added, removed = {valid_tag(tag) for tag in add}, {valid_tag(tag) for tag in remove}

    def change(labels: Labels) -> Labels:
        tags = ({*labels.tags} | added) - removed
        if len(tags) > MOST_TAGS:
            raise UsageError(
                f"A run can have at most {MOST_TAGS} tags.", "Remove one with: backprop tag RUN -TAG"
            )
        return replace(labels, tags=tuple(sorted(tags)))

    return _change(run_dir, change, clock)


def add_note(run_dir: Path, text: str, clock: Clock) -> Labels:
    """Write a note down. Returns what holds now.

    Raises:
        UsageError: the note is empty or too long, or there are `MOST_NOTES` already.
        StoreError: the file cannot be written, or stays locked.
    """
    said = text.strip().encode("utf-8", "replace").decode()
    if not said:
        raise UsageError("A note needs a text.", 'For example: backprop note RUN "learning rate halved"')
    if len(said) > LONGEST_NOTE:
        raise UsageError(f"A note can have at most {LONGEST_NOTE} characters, and this one has {len(said)}.")

    def change(labels: Labels) -> Labels:
        if len(labels.notes) >= MOST_NOTES:
            raise UsageError(
                f"A run can have at most {MOST_NOTES} notes.", f"They are in {run_dir / LABELS_FILE}."
            )
        return replace(labels, notes=(*labels.notes, Note(clock.wall(), said)))

    return _change(run_dir, change, clock)


def _change(run_dir: Path, change: Callable[[Labels], Labels], clock: Clock) -> Labels:
    path = run_dir / LABELS_FILE
    with FileLock(run_dir / "labels.lock") as lock:
        lock.wait(clock, _LOCK_TIMEOUT_S)
        labels = read_labels(run_dir)
        if labels.damage is not None:
            raise StoreError(
                f"{path} is damaged ({labels.damage}), so nothing was changed in it.",
                "Move it away to start with new tags and notes.",
                path=path,
            )
        changed = change(labels)
        if changed != labels:
            replace_file(path, _to_text(changed).encode("ascii"))
    return changed


def _to_text(labels: Labels) -> str:
    notes = [{"wall": note.wall, "text": note.text} for note in labels.notes]
    return encode({"format_version": _FORMAT, "tags": list(labels.tags), "notes": notes}, indent=1)


def _note(item: object) -> Note | None:
    content = as_object(item)
    wall, text = as_instant(content.get("wall")), as_text(content.get("text"))
    return None if wall is None or text is None else Note(wall, text)
