"""Every `backprop …` line on a page can be typed: its command and its options exist."""

from __future__ import annotations

import itertools
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from backprop_cli.app import ALIASES, COMMANDS, cli

ROOT = Path(__file__).parents[2]
PAGES = [
    *sorted((ROOT / "docs").glob("*.md")), *sorted((ROOT / "docs" / "howto").glob("*.md")),
    *sorted((ROOT / "docs" / "tutorials").glob("*.md")), ROOT / "README.md", ROOT / "AGENTS.md",
]  # fmt: skip
_FENCED = re.compile(r"^```\w*\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_LINE = re.compile(r"(?:^\s*|[;&|(] *|\bdo |exec |nohup |srun |[A-Z_]+=\S+ )(backprop [a-z-].*)$")


def command_lines(text: str) -> Iterator[str]:
    """Lines of fenced blocks that call the command, each as far as a shell reads it."""
    for block in _FENCED.findall(text):
        for line in block.replace("\\\n", " ").splitlines():
            if found := _LINE.search(line):
                yield re.split(r"   |\)\"", found[1])[0]


def refused(line: str) -> str | None:
    """What the command says against a line, or None."""
    tokens = shlex.shlex(line, posix=True, punctuation_chars=True)
    tokens.whitespace_split = True
    words = list(itertools.takewhile(lambda token: not set(token) <= set("();<>|&"), tokens))[1:]
    name = ALIASES.get(words[0], words[0])
    if name not in COMMANDS:
        return f"there is no command {words[0]}"
    context = click.Context(cli, info_name="backprop")
    command = cli.get_command(context, name)
    assert command is not None
    try:
        command.make_parser(click.Context(command, info_name=name, parent=context)).parse_args(words[1:])
    except click.UsageError as error:
        return error.format_message()
    return None


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_command_lines_can_be_typed(page: Path) -> None:
    """A command that was renamed, or an option that is gone, is found on every page that shows it."""
    wrong = {line: why for line in command_lines(page.read_text()) if (why := refused(line))}
    assert not wrong


def test_what_does_not_exist_is_found() -> None:
    """The check itself sees commands and options that do not exist, also behind other words of a shell."""
    page = (
        "```bash\nexec backprop run t.py --nope\nfor x in 1; do backprop start x; done\nbackprop list\n```\n"
    )
    assert [refused(line) is None for line in command_lines(page)] == [False, False, True]
