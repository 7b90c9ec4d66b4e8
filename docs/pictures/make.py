"""The pictures of docs/report.md: `python docs/pictures/make.py`, in the environment of `make test`, with Chromium.

A made-up run of three boxes is written by the real store and logs, and the real command makes the page of it.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from tests.backprop_cli.report import chromium  # noqa: E402
from tests.backprop_cli.report.made_up_run import make_run  # noqa: E402

SIZE = (1100, 900)


def main() -> None:
    """Write report-light.png and report-dark.png beside this file."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_run(folder / "home", "digits", seconds=1200, name="digits, learning rate 0.1")
        environment = {**os.environ, "BACKPROP_HOME": str(folder / "home")}
        command = [sys.executable, "-m", "backprop_cli", "report", "digits", "-o", str(folder / "page.html")]
        subprocess.run(command, env=environment, check=True, cwd=ROOT)
        with chromium.chromium(folder / "profile") as page:
            page.open(folder / "page.html")
            for scheme in ("light", "dark"):
                page.ask(
                    "Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}]
                )
                Path(__file__).with_name(f"report-{scheme}.png").write_bytes(page.picture(*SIZE))


if __name__ == "__main__":
    main()
