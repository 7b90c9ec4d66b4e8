"""The reference, made from the code: pages of the site (a hook of mkdocs.yml), and the man page (`make messages`).

Commands come from click, as the command line itself has them; the Python interface from the docstrings, which are
read and not imported.
"""

from __future__ import annotations

import ast
import inspect
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
MAN_PAGE = ROOT / "docs" / "man" / "backprop.1"
COMMANDS_PAGE, PYTHON_PAGE = "reference/commands.md", "reference/python.md"
PUBLIC = {
    "backprop": {
        "backprop_core/loop/timebox.py": ["timebox", "TimeBox"],
        "backprop_core/outcome.py": ["Outcome", "SaveReason"],
        "backprop_core/prove/ask.py": ["prove", "ProofFailedError"],
        "backprop_core/prove/verdict.py": ["Proof"],
        "backprop_core/errors.py": [],
    },
    "backprop_lightning": {"backprop_lightning/callback.py": ["BackpropCallback"]},
    "backprop_keras": {
        "backprop_keras/callback.py": ["BackpropCallback"],
        "backprop_keras/budget_lr.py": ["BudgetLR"],
    },
    "backprop_transformers": {"backprop_transformers/callback.py": ["BackpropCallback"]},
    "backprop_torch": {"backprop_torch/budget_lr.py": ["BudgetLR"]},
}
"""By package, the files and what of each is public; all errors of `errors.py` that `backprop` exports."""

FACTS = "backprop_core/session/boxed_training.py"
CALLED_BY_ADAPTERS = ("is_training", "begin", "run_training")
"""Public between files of an adapter, and nothing that people call."""


@dataclass(frozen=True)
class Command:
    """One command as a reader needs it.

    Attributes:
        summary: the first paragraph of its help.
        examples: lines that can be typed.
        options: flags with their values, and what they mean.
    """

    name: str
    usage: str
    summary: str
    rest: tuple[str, ...]
    examples: tuple[str, ...]
    options: tuple[tuple[str, str], ...]


def commands() -> list[Command]:
    """All commands, in the order of `backprop --help`; `backprop` itself first."""
    import click

    sys.path.insert(0, str(ROOT))
    from backprop_cli.app import COMMANDS, cli

    top = click.Context(cli, info_name="backprop")
    found = [_described(cli, top)]
    for name in COMMANDS:
        command = cli.get_command(top, name)
        assert command is not None
        found.append(_described(command, click.Context(command, info_name=name, parent=top)))
    return found


def _described(command: Any, context: Any) -> Command:
    examples: list[str] = []
    paragraphs: list[str] = []
    for text in (command.help or "", command.epilog or ""):
        for part in inspect.cleandoc(text).split("\n\n"):
            lines = part.replace("\b\n", "").strip().splitlines()
            if lines and lines[0].startswith("Examples:"):
                examples += [line.strip() for line in lines[1:]]
            elif lines:
                paragraphs.append(" ".join(line.strip() for line in lines))
    records = [parameter.get_help_record(context) for parameter in command.get_params(context)]
    options = tuple((flags, " ".join(text.split())) for flags, text in filter(None, records) if text)
    usage = f"{context.command_path} {' '.join(command.collect_usage_pieces(context))}"
    return Command(
        context.command_path, usage, paragraphs[0], tuple(paragraphs[1:]), tuple(examples), options
    )


def commands_page() -> str:
    """The reference of all commands."""
    parts = [
        "# All commands and options",
        "Made from the commands themselves. How they work together is told in [The command](../cli.md).",
    ]
    for one in commands():
        parts += [f"## `{one.name}`", f"```\n{one.usage}\n```", one.summary, *one.rest]
        if one.examples:
            parts.append("```\n" + "\n".join(one.examples) + "\n```")
        rows = [f"| `{_cell(flags)}` | {_cell(text)} |" for flags, text in one.options]
        parts.append("\n".join(["| option | meaning |", "|---|---|", *rows]))
    return "\n\n".join(parts) + "\n"


def python_page() -> str:
    """The reference of the Python interface."""
    parts = [
        "# Python interface",
        "Generated from the docstrings. Numbers are in seconds unless stated otherwise.",
    ]
    for package, files in PUBLIC.items():
        parts.append(f"## `{package}`")
        for file, names in files.items():
            tree = ast.parse((ROOT / file).read_text())
            nodes = {
                node.name: node for node in tree.body if isinstance(node, ast.ClassDef | ast.FunctionDef)
            }
            for name in names or _exported_errors(nodes):
                parts += _member(nodes[name], f"{package}.{name}", level=3)
                if name == "TimeBox":
                    parts += _inherited()
                elif name == "BackpropCallback":
                    parts.append(
                        "It also has the properties of `backprop.TimeBox`, such as `outcome` and `checkpoint`."
                    )
    return "\n\n".join(parts) + "\n"


def _inherited() -> Iterator[str]:
    """The properties that a time box and every callback have in common."""
    tree = ast.parse((ROOT / FACTS).read_text())
    facts = next(node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == "BoxFacts")
    for node in facts.body:
        if isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
            yield from _member(node, node.name, level=4)


def _exported_errors(nodes: dict[str, Any]) -> list[str]:
    exported = (ROOT / "backprop" / "__init__.py").read_text()
    return [name for name in nodes if f'"{name}"' in exported]


def _member(node: ast.ClassDef | ast.FunctionDef, title: str, level: int) -> Iterator[str]:
    made = node
    if isinstance(node, ast.ClassDef):
        made = next(
            (one for one in node.body if isinstance(one, ast.FunctionDef) and one.name == "__init__"), node
        )
    decorators = {ast.unparse(one) for one in getattr(node, "decorator_list", [])}
    internal = isinstance(node, ast.ClassDef) and node.name == "TimeBox"
    signature = "" if "property" in decorators or internal else _signature(made)
    yield f"{'#' * level} `{title}{signature}`"
    yield _markdown(ast.get_docstring(node) or "")
    for one in node.body if isinstance(node, ast.ClassDef) else ():
        public = isinstance(one, ast.FunctionDef) and not one.name.startswith("_") and ast.get_docstring(one)
        own = (
            public
            and not one.name.startswith("on_")
            and one.name not in ("attached", "state_dict", "load_state_dict", *CALLED_BY_ADAPTERS)
        )
        if own and not _of_a_framework(one):
            yield from _member(one, one.name, level + 1)


def _of_a_framework(node: ast.FunctionDef) -> bool:
    """A hook that a framework calls is nothing that people call."""
    return node.name in ("setup", "teardown", "get_lr")


def _signature(node: Any) -> str:
    if not isinstance(node, ast.FunctionDef):
        return ""
    text = ast.unparse(node.args)
    text = re.sub(r"^self(, )?", "", text)
    return f"({text})"


def _markdown(docstring: str) -> str:
    """Sections such as `Args:` as lists."""
    lines: list[str] = []
    inside = False
    for line in docstring.splitlines():
        if re.fullmatch(r"(Args|Raises|Returns|Attributes|Yields):", line):
            lines += ["", f"**{line[:-1]}**", ""]
            inside = True
        elif inside and (found := re.fullmatch(r"    (\S[^:]*): (.*)", line)):
            lines.append(f"- `{found[1]}`: {found[2]}")
        elif inside and line.startswith("    "):
            lines.append(f"  {line.strip()}")
        else:
            inside = inside and not line
            lines.append(line)
    return "\n".join(lines)


def man_page() -> str:
    """`man backprop`: all commands on one page."""
    first, *others = commands()
    parts = [
        '.TH BACKPROP 1 "" "backprop" "User commands"',
        ".SH NAME",
        f"backprop \\- {_roff(first.summary[0].lower() + first.summary[1:])}",
    ]
    parts += [
        ".SH SYNOPSIS",
        ".B backprop",
        "COMMAND [OPTIONS]",
        ".SH OPTIONS",
        *_roff_options(first),
        ".SH COMMANDS",
    ]
    for one in others:
        parts += [
            f".SS {_roff(one.usage)}",
            *(line for text in (one.summary, *one.rest) for line in (_roff(text), ".PP")),
        ]
        parts += _roff_options(one)
        if one.examples:
            parts += [
                ".PP",
                "Examples:",
                ".PP",
                ".nf",
                *(f"    {_roff(line)}" for line in one.examples),
                ".fi",
            ]
    parts += [".SH SEE ALSO", "Every page of the documentation: backprop docs"]
    return "\n".join(parts) + "\n"


def _roff_options(one: Command) -> list[str]:
    return [line for flags, text in one.options for line in (".TP", f".B {_roff(flags)}", _roff(text))]


def _roff(text: str) -> str:
    text = text.replace("\\", "\\e").replace("-", "\\-")
    return re.sub(r"^([.'])", r"\\&\1", text)


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def on_files(files: Any, config: Any) -> Any:
    """A hook of mkdocs: the two pages, which are in no folder."""
    from mkdocs.structure.files import File

    for name, content in ((COMMANDS_PAGE, commands_page()), (PYTHON_PAGE, python_page())):
        files.append(File.generated(config, name, content=content))
    return files


if __name__ == "__main__":
    MAN_PAGE.write_text(man_page())
    sys.stdout.write(f"{MAN_PAGE.relative_to(ROOT)} is written.\n")
