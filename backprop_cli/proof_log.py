"""What a run of a proof has printed, told without the names that mean something inside of the proof alone."""

from __future__ import annotations

import re
from pathlib import Path

_TAIL_LINES = 15
_OURS = "backprop: "
_REFUSALS = (
    "does not have a deterministic implementation",
    "this operation is not deterministic",
    "deterministic GPU implementation",
    "when determinism is enabled",
)
"""So PyTorch and TensorFlow name an operation that they were told to refuse."""


class ProofLog:
    """The output of one run's attempts, the command's own lines among it.

    Args:
        run: its name, which means nothing outside of the proof.
        work, source: the copy of the working directory, and the directory itself.

    Attributes:
        path: the file that it goes to.
    """

    def __init__(self, path: Path, run: str, work: Path, source: Path) -> None:
        self.path = path
        self._inside = re.compile(rf"\b[Rr](?:un|esume) {re.escape(run)}\b")
        self._places = ((str(work), str(source)),)
        self._read_to = self._began = path.stat().st_size if path.exists() else 0

    def new_lines_of_ours(self) -> list[str]:
        """What the command has said since this was last asked, without its name."""
        with self.path.open("rb") as file:
            file.seek(self._read_to)
            text, newline, _ = file.read().rpartition(b"\n")
        self._read_to += len(text) + len(newline)
        return [line.removeprefix(_OURS) for line in _lines(text) if line.startswith(_OURS)]

    def last_of_ours(self) -> str:
        """The command's last line; empty where there is none."""
        own = [line.removeprefix(_OURS) for line in self._all() if line.startswith(_OURS)]
        return own[-1] if own else ""

    def tail(self) -> str:
        """The last lines, without what can be of use inside of the proof alone."""
        kept = [one for one in self._all() if not (one.startswith(_OURS) and self._inside.search(one))]
        shown = "\n".join(f"  {self.outside(line)}" for line in kept[-_TAIL_LINES:])
        return f"Its last lines:\n{shown}" if shown else "It printed nothing."

    def outside(self, text: str) -> str:
        """`text` with the places of the working directory for those of its copy."""
        for inside, there in self._places:
            text = text.replace(inside, there)
        return text

    def nondeterministic_operation(self) -> str:
        """What the frameworks named when they were told to refuse it; empty where they named nothing."""
        for line in self._all():
            if any(words in line for words in _REFUSALS):
                return line.strip().split(". ")[0].rstrip(".").rpartition("Error: ")[2]
        return ""

    def _all(self) -> list[str]:
        with self.path.open("rb") as file:
            file.seek(self._began)
            return _lines(file.read())


def _lines(text: bytes) -> list[str]:
    return text.decode("utf-8", "replace").splitlines()
