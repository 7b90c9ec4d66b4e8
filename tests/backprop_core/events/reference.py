"""docs/events.md's tables, made from the classes: `python -m tests.backprop_core.events.reference` writes them anew."""

from __future__ import annotations

import inspect
import re
import sys
from dataclasses import fields
from pathlib import Path

from backprop_core.events.kinds import GOVERNOR_EVENTS, SESSION_EVENTS, Event

DOCUMENT = Path(__file__).parents[3] / "docs" / "events.md"
BEGIN, END = "<!-- kinds: begin -->", "<!-- kinds: end -->"
_TYPES = {
    "str": "text", "int": "integer", "float": "number", "bool": "boolean", "Mapping[str, Any]": "object",
    "tuple[Mapping[str, Any], ...]": "list of objects",
}  # fmt: skip


def described(kind: type[Event]) -> dict[str, str]:
    """What the docstring says of each field."""
    _, _, attributes = (inspect.getdoc(kind) or "").partition("Attributes:")
    return {
        name: " ".join(text.split())
        for name, text in re.findall(r"^    (\w+): (.*(?:\n     .*)*)", attributes, re.M)
    }


def section(kind: type[Event]) -> str:
    """The part of the document on one kind."""
    said = (inspect.getdoc(kind) or "").partition("\n\nAttributes:")[0]
    lines = [f"### {kind.kind}", "", " ".join(said.split()), ""]
    texts = described(kind)
    declared = fields(kind)  # type: ignore[arg-type]
    assert list(texts) == [one.name for one in declared], kind
    if declared:
        lines += ["| field | type | meaning |", "|---|---|---|"]
    for one in declared:
        type_, _, null = str(one.type).partition(" | ")
        shown = _TYPES[type_] + (", optional" if one.metadata.get("absent") else " or null" if null else "")
        lines.append(f"| `{one.name}` | {shown} | {texts[one.name]} |")
    return "\n".join(lines).rstrip() + "\n"


def tables() -> str:
    """All kinds: first the training process's, then the governor's that it does not share."""
    parts = ["## events.jsonl: written by the training process\n", *map(section, SESSION_EVENTS)]
    others = [kind for kind in GOVERNOR_EVENTS if kind not in SESSION_EVENTS]
    parts += ["## governor.jsonl: written by the governor\n", *map(section, others)]
    return "\n".join(parts)


def written_anew(document: str) -> str:
    """`document` with the tables of the classes as they are."""
    before, rest = document.split(BEGIN)
    return f"{before}{BEGIN}\n{tables()}\n{END}{rest.split(END)[1]}"


if __name__ == "__main__":
    DOCUMENT.write_text(written_anew(DOCUMENT.read_text(encoding="utf-8")), encoding="utf-8")
    sys.stdout.write(f"{DOCUMENT} is up to date.\n")
