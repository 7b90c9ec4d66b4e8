"""A tutorial as a sequence of blocks that can be executed: files, commands, and what they have to print."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = sorted((ROOT / "docs" / "tutorials").glob("*.md"))
_BLOCK = re.compile(
    r"(?:^`(?P<file>[\w./-]+)`:\n\n)?^```(?P<kind>\w*)\n(?P<body>.*?)^```$", re.MULTILINE | re.DOTALL
)
_INSTALL = re.compile(r"pip install 'backprop-timebox\[([\w,]+)\]'")


@dataclass(frozen=True)
class Block:
    """One fenced block.

    Attributes:
        kind: python (a file), bash (commands) or text (what the commands before it print).
        file: the name of the file, for python.
    """

    kind: str
    file: str | None
    body: str

    @property
    def commands(self) -> str:
        """The commands without those that install; the packages are here already."""
        return "".join(line for line in self.body.splitlines(keepends=True) if not _INSTALL.match(line))

    @property
    def extras(self) -> set[str]:
        """The extras that its lines install."""
        return {name for found in _INSTALL.findall(self.body) for name in found.split(",")}

    def missing(self, printed: str) -> list[str]:
        """Lines of this block that `printed` has not, in any order; an ellipsis stands for anything within a line."""
        lines = printed.replace("\r", "").splitlines()
        return [
            want
            for want in self.body.splitlines()
            if not any(_pattern(want).fullmatch(line) for line in lines)
        ]


def blocks(page: Path) -> Iterator[Block]:
    for found in _BLOCK.finditer(page.read_text()):
        yield Block(found["kind"], found["file"], found["body"])


def known_extras() -> set[str]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return set(project["optional-dependencies"])


def _pattern(line: str) -> re.Pattern[str]:
    return re.compile(".*".join(map(re.escape, line.split("…"))))
