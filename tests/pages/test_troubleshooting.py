"""The page that is ordered by message has the messages of today."""

from __future__ import annotations

import re

from tests.messages import FILE, ROOT

_ROW = re.compile(r"^\| `((?:[^`])+)` \|", re.MULTILINE)
_HOLE = re.compile(r"…|\b[XNM]\b|'KEY'|PATH|\d[\d.]*")


def test_every_message_on_the_page_is_one_that_can_be_shown() -> None:
    """Who looks for the words that they see finds them; a message that was reworded is found here."""
    said = re.sub(r"\{[^}]*\}", "…", FILE.read_text())
    page = (ROOT / "docs" / "troubleshooting.md").read_text()
    rows = [
        row for row in _ROW.findall(page) if " " in row and not row.startswith(("waiting since", "import"))
    ]
    words = [part.strip(" .:;,'`") for row in rows for part in _HOLE.split(row)]
    assert len(rows) > 20
    assert not [part for part in words if len(part) >= 8 and part not in said]
