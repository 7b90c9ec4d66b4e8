"""What a wheel holds beside the packages: the documentation, for `backprop docs`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class Documentation(BuildHookInterface):  # type: ignore[misc]
    """Puts the pages into `backprop_cli/pages`. An editable installation reads them where they are."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Called by hatchling before a wheel is built; `version` is "editable" or "standard"."""
        if version == "editable":
            return
        docs = Path(self.root) / "docs"
        for page in sorted(docs.rglob("*.md")):
            name = page.relative_to(docs)
            if name.parts[0] != "decisions":
                build_data["force_include"][str(page)] = f"backprop_cli/pages/{name.as_posix()}"
