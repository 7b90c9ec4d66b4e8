"""`backprop docs [PAGE]`: the documentation, which is installed with backprop and needs no network."""

from __future__ import annotations

import json
from pathlib import Path

import click

from backprop_core.errors import UsageError


def _folder() -> Path:
    """Where the pages are: in the package, or in a checkout beside it."""
    installed = Path(__file__).parents[1] / "pages"
    return installed if installed.is_dir() else Path(__file__).parents[2] / "docs"


def _pages() -> dict[str, Path]:
    """All pages by name; one in a folder is called after both, such as howto/spot."""
    folder = _folder()
    found = {
        path.relative_to(folder).with_suffix("").as_posix(): path for path in sorted(folder.rglob("*.md"))
    }
    beside = folder.parent / "AGENTS.md"
    agents = {"agents": beside} if beside.is_file() else {}
    return {name: path for name, path in found.items() if not name.startswith("decisions/")} | agents


def _title(path: Path) -> str:
    with path.open(encoding="utf-8") as lines:
        return next((line.lstrip("# ").strip() for line in lines if line.startswith("# ")), path.stem)


def _chosen(pages: dict[str, Path], page: str) -> Path:
    import difflib

    wanted = page.removeprefix("docs/").removesuffix(".md")
    named = [name for name in pages if wanted in (name, name.rpartition("/")[2])]
    if wanted in pages or len(named) == 1:
        return pages[wanted if wanted in pages else named[0]]
    if named:
        raise UsageError(f"{page!r} is the name of several pages.", f"Give one of: {', '.join(named)}.")
    near = difflib.get_close_matches(wanted, pages, n=1)
    raise UsageError(
        f"There is no page {page!r}.",
        f"Did you mean 'backprop docs {near[0]}'?" if near else "'backprop docs' lists all pages.",
    )


def _complete_pages(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    return [name for name in _pages() if name.startswith(incomplete)]


@click.command("docs")
@click.argument("page", required=False, shell_complete=_complete_pages)
@click.option("--path", "only_path", is_flag=True, help="Print where the page is, instead of the page.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(page: str | None, only_path: bool, as_json: bool) -> int:
    """Show PAGE of the documentation; without PAGE, list all pages.

    \b
    Examples:
      backprop docs
      backprop docs troubleshooting
      backprop docs --path tutorials/script
    """
    pages = _pages()
    if not pages:
        raise UsageError(
            "This installation has no pages.", "Read them in the repository, in the folder docs."
        )
    shown = pages if page is None else {page: _chosen(pages, page)}
    if as_json:
        entries = [{"page": name, "title": _title(path), "path": str(path)} for name, path in shown.items()]
        click.echo(json.dumps(entries, indent=2))
    elif only_path:
        click.echo("\n".join(str(path) for path in shown.values()))
    elif page is None:
        width = max(map(len, shown))
        for name, path in shown.items():
            click.echo(f"{name:<{width}}  {_title(path)}")
    else:
        click.echo_via_pager(shown[page].read_text(encoding="utf-8"))
    return 0
