"""A hook of mkdocs.yml: the decisions, in their order, as the last part of the navigation."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def on_config(config: Any) -> Any:
    """Add each decision's page."""
    pages = sorted(Path(__file__).parent.glob("*.md"))
    config.nav.append({"Decisions": [f"decisions/{page.name}" for page in pages]})
    return config
