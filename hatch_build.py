"""What a wheel has beside the packages: the documentation, for `backprop docs`, and a README for the package index."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface
from hatchling.metadata.plugin.interface import MetadataHookInterface

_IMAGE = re.compile(r"^!\[[^\]]*\]\((?!https:)[^)]*\)\n+(?:The script in the recording.*\n+)?", re.MULTILINE)
_LINK = re.compile(r"\[([^\]]+)\]\((?!https:|#)([^)#]+)(#[^)]*)?\)")


class Documentation(BuildHookInterface):  # type: ignore[misc]
    """Puts the pages into `backprop_cli/pages`. An editable installation reads them where they are."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Called by hatchling before a wheel is built; `version` is "editable" or "standard"."""
        if version == "editable":
            return
        docs = Path(self.root) / "docs"
        build_data["force_include"][str(docs.parent / "AGENTS.md")] = "backprop_cli/pages/agents.md"
        for page in sorted(docs.rglob("*.md")):
            name = page.relative_to(docs)
            if name.parts[0] != "decisions":
                build_data["force_include"][str(page)] = f"backprop_cli/pages/{name.as_posix()}"


class Readme(MetadataHookInterface):  # type: ignore[misc]
    """The README without links that lead nowhere on the page of a package index."""

    def update(self, metadata: dict[str, Any]) -> None:
        """Called by hatchling with the project's metadata."""
        text = (Path(self.root) / "README.md").read_text(encoding="utf-8")
        source = metadata.get("urls", {}).get("Source")
        metadata["readme"] = {"content-type": "text/markdown", "text": without_relative_links(text, source)}


def without_relative_links(text: str, source: str | None) -> str:
    """Links into the repository, absolute where it has an address; else the page's name for `backprop docs`.

    Args:
        source: the address of the repository, or None where it has none.
    """

    def absolute(found: re.Match[str]) -> str:
        words, path, place = found[1], found[2], found[3] or ""
        if source:
            shown = "?raw=true" if path.endswith((".svg", ".png")) else ""
            return f"[{words}]({source.rstrip('/')}/blob/main/{path}{shown}{place})"
        page = re.fullmatch(r"docs/(.+)\.md", path)
        return (
            f"{words.removeprefix('docs/').removesuffix('.md')} (`backprop docs {page[1]}`)"
            if page
            else words
        )

    return _LINK.sub(absolute, _IMAGE.sub("", text) if not source else text)


def get_build_hook() -> type[BuildHookInterface]:
    """Two hooks are in this file; hatchling asks which is the one for wheels."""
    return Documentation


def get_metadata_hook() -> type[MetadataHookInterface]:
    """And which is the one for the metadata."""
    return Readme
