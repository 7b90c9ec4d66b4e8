"""The blocks of docs/scale.md as scripts: what a block leaves out is put in its place."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs" / "scale.md"


def block(begins: str, replaced: Iterable[tuple[str, str]]) -> str:
    """The one block of the page that begins so, with each of `replaced` (there once) in place of what was written."""
    (text,) = re.findall(rf"```python\n({re.escape(begins)}.*?)```", PAGE.read_text(), re.DOTALL)
    for there, then in replaced:
        assert text.count(there) == 1, there
        text = text.replace(there, then)
    return str(text)
