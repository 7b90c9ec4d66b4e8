"""The recording in README.md: `python docs/pictures/terminal.py`, in the environment of `make demo`.

A plain PyTorch script is run, stopped in time, resumed to its end, and run once more without backprop. What is shown is
what was printed; long stretches of the script's own lines are replaced by an ellipsis. Lines appear one after another;
readers who want no motion see all of them at once.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.text import Text

ROOT = Path(__file__).parents[2]
SCRIPTS = ROOT / "examples" / "unmodified"
COMMANDS = (
    ("backprop run -m 0.5 --run-id digits digits_torch.py -- --pause 0.03", True),
    ("backprop resume digits -m 10", True),
    ("python digits_torch.py     # without backprop, uninterrupted", False),
)
"""What is typed, and whether it is backprop's."""
COLUMNS = 112
HEAD, TAIL = 1, 2
"""Of the script's own lines in a row so many are shown at both ends."""
S_PER_LINE = 0.45


def main() -> None:
    """Write terminal.svg beside this file.

    Raises:
        SystemExit: the resumed training and the uninterrupted one do not end with the same weights.
    """
    lines: list[tuple[str, str]] = []
    digests = []
    with tempfile.TemporaryDirectory() as home:
        for typed, ours in COMMANDS:
            printed = run(typed, home)
            digests += [line for line in printed if line.startswith("digest ")]
            lines += [("command", f"$ {typed}"), *shown(printed if ours else printed[-3:]), ("script", "")]
    if len(digests) != 2 or digests[0] != digests[1]:
        sys.exit(f"Expected the same digest twice, got {digests}.")
    Path(__file__).with_name("terminal.svg").write_text(drawn(lines[:-1]), encoding="utf-8")


def run(typed: str, home: str) -> list[str]:
    """The lines that the command prints; a busy machine holds nothing up, because the picture needs no timing."""
    environment = {**os.environ, "BACKPROP_HOME": f"{home}/home", "BACKPROP_RUNTIME_DIR": f"{home}/runtime"}
    environment |= {"BACKPROP_MAX_LOAD": "1000", "BACKPROP_MIN_FREE_RAM": "0.2", "OMP_NUM_THREADS": "1"}
    program, *words = typed.partition("#")[0].split()
    command = [sys.executable, *(["-m", "backprop"] if program == "backprop" else []), *words]
    done = subprocess.run(
        command,
        cwd=SCRIPTS,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        sys.exit(f"{typed} ended with {done.returncode}:\n{done.stdout}")
    return [line.rstrip().replace(home, "~") for line in done.stdout.splitlines()]


def shown(printed: list[str]) -> list[tuple[str, str]]:
    """Each line with what it is; long stretches of the script's own shortened."""
    lines: list[tuple[str, str]] = []
    own: list[str] = []

    def close() -> None:
        cut = len(own) > HEAD + TAIL + 1
        kept = [*own[:HEAD], "…", *own[-TAIL:]] if cut else own
        lines.extend(("script", line) for line in kept)
        own.clear()

    for line in printed:
        if line.startswith("backprop: "):
            close()
            lines.append(("backprop", line))
        else:
            own.append(line)
    close()
    return lines


def drawn(lines: list[tuple[str, str]]) -> str:
    """The SVG of a terminal; each line has an instant at which it appears."""
    svg, appears = _printed(lines)
    rules = "".join(
        f'[clip-path="url(#terminal-line-{row})"]{{animation-delay:{number * S_PER_LINE:.2f}s}}'
        for row, number in enumerate(appears)
    )
    motion = (
        "@media (prefers-reduced-motion:no-preference){[clip-path*=terminal-line]{animation:appear 0.01s backwards}"
        "@keyframes appear{from{opacity:0}}" + rules + "}"
    )
    return svg.replace("</style>", f"{motion}</style>", 1)


def still(lines: list[tuple[str, str]]) -> str:
    """The SVG of a terminal that shows all lines at once."""
    return _printed(lines)[0]


def _printed(lines: list[tuple[str, str]]) -> tuple[str, list[int]]:
    """The SVG, and for each row of it the number of its line."""
    styles = {"command": "bold white", "backprop": "cyan", "script": "bright_black", "plain": "white"}
    console = Console(record=True, width=COLUMNS, file=open(os.devnull, "w"), force_terminal=True)  # noqa: SIM115, PTH123
    rows = []
    for number, (kind, line) in enumerate(lines):
        text = Text(line, style=styles[kind])
        rows += [number] * max(1, len(text.wrap(console, COLUMNS)))
        console.print(text)
    svg = console.export_svg(title="backprop", unique_id="terminal", font_aspect_ratio=0.61)
    svg = re.sub(r"@font-face \{.*?\}\s*", "", svg, flags=re.DOTALL)  # nothing is loaded from a network
    return svg.replace("Fira Code, monospace", "ui-monospace, Menlo, Consolas, monospace"), rows


if __name__ == "__main__":
    main()
